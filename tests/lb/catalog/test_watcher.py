"""What a watch refuses before it begins, and what it lives with afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lb.catalog import watcher as module
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.errors import SettingsError
from lb.settings import ConsulSettings
from tests.support.scripted import Connection, Instance, Script
from tests.support.watch import run, watching

PLAIN, SAFE = "http://127.0.0.1:8500", "https://127.0.0.1:8501"


def test_tls_files_are_tried_at_once_whichever_agent_needs_them(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca\.pem: cannot be used for TLS"):
        Watcher(ConsulSettings(agents=(PLAIN, SAFE), ca_cert=bad), Store())
    Watcher(ConsulSettings(agents=(PLAIN,), ca_cert=bad), Store())


def test_too_few_connections_are_refused() -> None:
    with pytest.raises(SettingsError, match="max_connections: 4 is too few: at least 5"):
        Watcher(ConsulSettings(max_connections=4), Store())


def test_tls_files_that_go_bad_later_only_send_it_to_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("half writt")
    monkeypatch.setattr(module, "check_tls", lambda _: None)  # at the start the file was good

    async def test() -> None:
        watcher = Watcher(ConsulSettings(agents=(SAFE, "http://127.0.0.1:1"), ca_cert=bad), Store())
        watching = asyncio.create_task(watcher.run())
        while watcher.status.agent_changes < 2 and not watching.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(asyncio.wait_for(test(), 10))
    assert f"{SAFE} is given up: {bad}: cannot be used for TLS" in caplog.text


def claiming_a_leader(leader: Callable[[], str]) -> Script:
    """An agent without services whose answers all claim a leader, and whose long polls never end.

    Only what it says of the leader itself is true.
    """
    bodies: dict[str, Any] = {
        "/v1/agent/self": {"Config": {"Datacenter": "dc1", "NodeName": "consul-1"}},
        "/v1/catalog/services": {},
    }

    async def script(connection: Connection) -> None:
        while True:
            path, _, query = (await connection.request()).split()[1].decode().partition("?")
            if "index=" in query:
                await connection.rest()
            body = json.dumps(leader() if path == "/v1/status/leader" else bodies.get(path, [])).encode()
            head = f"HTTP/1.1 200 OK\r\nX-Consul-Index: 1\r\nX-Consul-KnownLeader: true\r\nContent-Length: {len(body)}"
            await connection.send(head.encode() + b"\r\n\r\n" + body)

    return script


def test_an_agent_that_is_cut_off_is_left_before_its_long_polls_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCOUT_INTERVAL", 0.01)
    monkeypatch.setattr(module, "_LEADER_INTERVAL", 0.01)
    address = "127.0.0.1:8300"

    async def test() -> None:
        leaders = [address, address]
        agents = [Instance(claiming_a_leader(lambda: leaders[0])), Instance(claiming_a_leader(lambda: leaders[1]))]
        async with contextlib.AsyncExitStack() as stack:
            for agent in agents:
                await agent.start()
                stack.push_async_callback(agent.stop)
            first, second = (f"http://127.0.0.1:{agent.port}" for agent in agents)
            async with watching(first, second) as watch:
                assert watch.status.agent == first
                leaders[0] = ""
                await watch.until_status(lambda: watch.status.agent == second and watch.status.known_leader, seconds=5)
                leaders[0] = address
                await watch.until_status(lambda: watch.status.agent == first and watch.status.known_leader, seconds=5)
        assert [failure for agent in agents for failure in agent.failures] == []

    run(test())
