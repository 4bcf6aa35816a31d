"""The client against a small HTTP server that answers as told."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from lb.catalog import client
from lb.catalog.client import Agent, Token, check_tls
from lb.errors import AgentRefused, AgentUnreachable, BadAnswer, SettingsError
from lb.settings import ConsulSettings
from tests.support.consul import require

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def asking(handler: Handler, test: Callable[[Agent], Awaitable[None]], settings: ConsulSettings | None = None) -> None:
    """Run `test` with an agent whose requests `handler` answers."""

    async def main() -> None:
        settings_ = settings or ConsulSettings()
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        agent = Agent(f"http://{host}:{port}/", settings_, Token(settings_))
        try:
            async with asyncio.timeout(20):
                await test(agent)
        finally:
            await agent.close()
            await runner.cleanup()

    asyncio.run(main())


def test_a_blocking_query_carries_what_consul_expects() -> None:
    seen: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        headers = {"X-Consul-Index": "12", "X-Consul-KnownLeader": "false", "X-Consul-LastContact": "1500"}
        return web.json_response({"a": 1}, headers=headers)

    async def test(agent: Agent) -> None:
        answer = await agent.get("/v1/x/a b/c", index=7, wait=300.0, matching='Status != "passing"')
        assert (answer.index, answer.known_leader, answer.last_contact) == (12, False, 1.5)
        assert (answer.body, answer.size) == ({"a": 1}, 8)
        await agent.get("/v1/x", consistency="default")

    settings = ConsulSettings(token="secret", datacenter="dc2")
    asking(handler, test, settings)
    first, second = seen
    assert first.path == "/v1/x/a b/c"
    assert dict(first.query) == {
        "stale": "",
        "index": "7",
        "wait": "300000ms",
        "filter": 'Status != "passing"',
        "dc": "dc2",
    }
    assert first.headers["X-Consul-Token"] == "secret"
    assert dict(second.query) == {"dc": "dc2"}


@pytest.mark.parametrize("header", [None, "0", "-5", "x", ""])
def test_an_index_of_no_use_is_1(header: str | None) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.json_response([], headers={} if header is None else {"X-Consul-Index": header})

    async def test(agent: Agent) -> None:
        assert (await agent.get("/")).index == 1

    asking(handler, test)


@pytest.mark.parametrize("status", [301, 400, 403, 404, 429, 500, 503])
def test_another_status_is_a_refusal_with_its_text(status: int) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="No cluster leader", headers={"Location": "/elsewhere"})

    async def test(agent: Agent) -> None:
        with pytest.raises(AgentRefused, match=f"HTTP {status}: No cluster leader") as caught:
            await agent.get("/")
        assert caught.value.status == status

    asking(handler, test)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_a_bad_answer(body: bytes) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    async def test(agent: Agent) -> None:
        with pytest.raises(BadAnswer):
            await agent.get("/")

    asking(handler, test)


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER", 100_000)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"[" * 10_000)

    async def test(agent: Agent) -> None:
        with pytest.raises(BadAnswer, match="more than 100000 bytes"):
            await agent.get("/")

    asking(handler, test)


def test_silence_ends_after_the_longest_wait_of_consul_and_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.1)
    monkeypatch.setattr(client, "MARGIN", 0.1)

    async def handler(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(20)
        return web.Response()

    async def test(agent: Agent) -> None:
        with pytest.raises(AgentUnreachable, match="no answer within"):
            await agent.get("/")
        with pytest.raises(AgentUnreachable, match="no answer within"):
            await agent.get("/", index=1, wait=0.16)

    asking(handler, test)


def test_an_agent_that_is_not_there_is_unreachable() -> None:
    async def test() -> None:
        with socket.socket() as bound:  # nobody listens on it
            bound.bind(("127.0.0.1", 0))
            settings = ConsulSettings()
            agent = Agent(f"http://127.0.0.1:{bound.getsockname()[1]}", settings, Token(settings))
            with pytest.raises(AgentUnreachable, match=r"http://127\.0\.0\.1"):
                await agent.get("/")
            await agent.close()

    asyncio.run(test())


def test_a_connection_cut_in_the_answer_is_unreachable() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"[")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def test(agent: Agent) -> None:
        with pytest.raises(AgentUnreachable):
            await agent.get("/")

    asking(handler, test)


def test_the_token_file_is_read_again_when_the_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    async def handler(request: web.BaseRequest) -> web.Response:
        good = request.headers.get("X-Consul-Token") == "new"
        return web.json_response([], status=200 if good else 403)

    async def test(agent: Agent) -> None:
        with pytest.raises(AgentRefused):
            await agent.get("/")
        file.write_text("new\n")
        await agent.get("/")

    asking(handler, test, ConsulSettings(token_file=file))


def test_the_token_file_comes_before_the_token_and_is_hidden_from_logs(tmp_path: Path) -> None:
    file = tmp_path / "token"
    hidden: list[str] = []
    file.write_text("first\n")
    token = Token(ConsulSettings(token="given", token_file=file), hidden.append)
    assert token.headers == {"X-Consul-Token": "first"}
    assert not token.reload()
    file.write_text("second")
    assert token.reload()
    assert hidden == ["first", "second"]
    file.write_text("")
    assert not token.reload()
    assert token.headers == {"X-Consul-Token": "second"}


def test_a_token_file_of_several_lines_is_named_but_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("secret\nother\n")
    with caplog.at_level(logging.WARNING):
        assert Token(ConsulSettings(token="given", token_file=file)).headers == {"X-Consul-Token": "given"}
    assert str(file) in caplog.text
    assert "secret" not in caplog.text


def test_a_token_file_that_is_missing_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Token(ConsulSettings(token_file=tmp_path / "none")).headers == {}
    assert str(tmp_path / "none") in caplog.text


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")

    async def test(settings: ConsulSettings, reason: str) -> None:
        with pytest.raises(SettingsError, match=reason):
            Agent("https://127.0.0.1:8501", settings, Token(settings))

    asyncio.run(test(ConsulSettings(ca_cert=bad), r"ca\.pem: cannot be used for TLS"))
    asyncio.run(test(ConsulSettings(client_cert=tmp_path / "none"), "none: cannot be used for TLS"))
    asyncio.run(test(ConsulSettings(client_key=bad), "a client key needs a client certificate"))


def test_an_encrypted_client_key_is_refused_rather_than_asked_about(tmp_path: Path) -> None:
    openssl = require("openssl", "this test needs an encrypted key")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = f"req -x509 -newkey rsa:2048 -keyout {key} -out {cert} -subj /CN=edge -passout pass:secret"
    subprocess.run([openssl, *made.split()], check=True, capture_output=True)
    with pytest.raises(SettingsError, match="the client key is encrypted"):
        check_tls(ConsulSettings(agents=("https://127.0.0.1:8501",), client_cert=cert, client_key=key))
