"""Single questions: which of several agents is asked, and what comes of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from lb.catalog import asking
from lb.catalog.asking import AgentAsker
from lb.errors import AgentRefused, AgentUnreachable
from lb.settings import ConsulSettings
from tests.support.process import free_port

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def with_agent(handler: Handler, test: Callable[[str], Awaitable[None]]) -> None:
    """Run `test` with the URL of an agent whose requests `handler` answers."""

    async def main() -> None:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            async with asyncio.timeout(20):
                await test(f"http://{host}:{port}")
        finally:
            await runner.cleanup()

    asyncio.run(main())


async def echo(request: web.BaseRequest) -> web.Response:
    """Answer with what was asked."""
    return web.json_response([request.raw_path, request.headers.get("X-Consul-Token")])


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_the_datacenter_the_token_and_the_name_arrive(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    hidden: list[str] = []

    async def test(url: str) -> None:
        settings = ConsulSettings(agents=(url,), token_file=file, datacenter="dc1")
        asker = AgentAsker(settings, hidden.append)
        path, token = await asker.ask("/v1/query/a b?c%/execute", {"dc": "dc2"})
        assert path.startswith("/v1/query/a%20b%3Fc%25/execute?")
        assert ("dc=dc2" in path, "dc=dc1" in path, "stale" in path) == (True, False, True)
        assert (token, hidden) == ("secret", ["secret"])
        await asker.close()

    with_agent(echo, test)


def test_the_next_agent_is_asked_and_stays_in_use() -> None:
    async def test(url: str) -> None:
        asker = AgentAsker(ConsulSettings(agents=(nobody(), url)))
        for number in range(3):
            assert (await asker.ask(f"/v1/{number}", {}))[0].startswith(f"/v1/{number}")
        await asker.close()

    with_agent(echo, test)


def test_an_agent_that_hangs_costs_its_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TRY", 0.1)
    hung: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        if "127.0.0.1" in request.headers["Host"]:
            return await echo(request)
        hung.append(request.raw_path)
        await asyncio.sleep(30)
        raise AssertionError

    async def test(url: str) -> None:
        slow = url.replace("127.0.0.1", "localhost")
        asker = AgentAsker(ConsulSettings(agents=(slow, url)))
        for _ in range(3):
            await asker.ask("/v1/x", {})
        assert len(hung) == 1
        monkeypatch.setattr(asking, "RETURN", 0.0)
        await asker.ask("/v1/x", {})
        assert len(hung) == 2, "after a while the first one is tried again"
        await asker.close()

    with_agent(handler, test)


def test_a_refusal_is_an_answer() -> None:
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        asked.append(request.raw_path)
        return web.Response(status=500, text="No path to datacenter")

    async def test(url: str) -> None:
        asker = AgentAsker(ConsulSettings(agents=(url, nobody())))
        with pytest.raises(AgentRefused, match="No path to datacenter"):
            await asker.ask("/v1/x", {"dc": "dc9"})
        assert len(asked) == 1
        await asker.close()

    with_agent(handler, test)


def test_no_agent_at_all_and_bad_files_are_no_answer(tmp_path: Path) -> None:
    async def test() -> None:
        for settings in (
            ConsulSettings(agents=(nobody(), nobody())),
            ConsulSettings(agents=("https://127.0.0.1:1",), ca_cert=tmp_path / "missing"),
        ):
            asker = AgentAsker(settings)
            with pytest.raises(AgentUnreachable):
                await asker.ask("/v1/x", {})
            await asker.close()

    asyncio.run(test())


def test_a_worker_does_not_load_the_client_before_a_question_needs_it() -> None:
    script = "import sys, lb.workers.worker; print(sorted({'aiohttp', 'consul'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout == "[]\n"
