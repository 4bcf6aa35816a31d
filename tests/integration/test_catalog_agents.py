"""The watch against real Consul agents that fail: what is lost there is survived here."""

from __future__ import annotations

import logging
import subprocess
import time
from pathlib import Path

import pytest

from lb.catalog import client
from lb.catalog.store import Store
from tests.support.consul import Consul, require, running_consul
from tests.support.process import free_port, wait_until
from tests.support.watch import do, ports, run, watching

# --- what fails there is survived ---


def test_an_agent_that_forgot_everything_is_believed_on_the_second_word(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path) as agent:
            agent.register("web", 1001)
            async with watching(agent.url, empty_guard=1.0) as watch:
                await do(agent.restart, wipe=True)
                await watch.until_status(lambda: watch.status.held)
                held_at = time.monotonic()
                assert ports(watch.store.snapshot, "web") == [1001]
                await watch.until(lambda s: "web" not in s.services)
                assert time.monotonic() - held_at >= 0.9
                assert watch.status.held == 0

    run(test())


def test_a_service_that_comes_back_within_the_guard_never_leaves(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path) as agent:
            agent.register("web", 1001)
            async with watching(agent.url, empty_guard=30.0) as watch:
                await do(agent.restart, wipe=True)
                await watch.until_status(lambda: watch.status.held)
                await do(agent.register, "web", 1002)
                await watch.until(lambda s: ports(s, "web") == [1002])
                assert watch.status.held == 0
                assert all("web" in s.services for s in watch.published)

    run(test())


def test_the_catalog_outlives_its_agent(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path) as agent:
            agent.register("web", 1001)
            async with watching(agent.url) as watch:
                await do(agent.kill)
                await watch.until_status(lambda: not watch.status.connected)
                await watch.until_status(lambda: watch.status.errors["unreachable"] >= 2)
                assert ports(watch.store.snapshot, "web") == [1001]
                await do(agent.start)
                await watch.until_status(lambda: watch.status.connected)
                await do(agent.register, "web", 1002)
                await watch.until(lambda s: ports(s, "web") == [1001, 1002])

    run(test())


def test_the_last_good_catalog_is_read_from_disk(consul: Consul, tmp_path: Path) -> None:
    async def test() -> None:
        consul.register("web", 1001, meta={"a": "b"})
        async with watching(consul.url, store=Store(tmp_path)) as watch:
            saved = watch.store.snapshot.services["web"]
        store = Store(tmp_path)
        loaded = store.load()
        assert loaded is not None
        assert not loaded.fresh
        assert loaded.services["web"] == saved
        gone = f"http://127.0.0.1:{free_port()}"
        async with watching(gone, store=store, seconds=0) as watch:
            await watch.until_status(lambda: watch.status.errors["unreachable"])
            assert store.snapshot is loaded
        consul.register("new", 1)
        async with watching(consul.url, store=store) as watch:
            snapshot = await watch.until(lambda s: s.fresh)
            assert snapshot.services["web"] is loaded.services["web"]
            assert "new" in snapshot.services

    run(test())


def test_the_next_agent_is_asked_and_the_first_one_again_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path / "a") as first, running_consul(tmp_path / "b") as second:
            for agent in (first, second):
                agent.register("web", 1001)
            async with watching(first.url, second.url) as watch:
                assert watch.status.agent == first.url
                await do(first.stop)
                await watch.until_status(lambda: watch.status.agent == second.url and watch.status.connected)
                await do(second.register, "web", 1002)
                await watch.until(lambda s: ports(s, "web") == [1001, 1002])
                await do(first.start)
                await watch.until_status(lambda: watch.status.agent == first.url and watch.status.connected)
                await do(first.register, "web", 1003)
                await watch.until(lambda s: ports(s, "web") == [1001, 1003])
                assert all(ports(s, "web") for s in watch.published)

    for name in "ab":
        (tmp_path / name).mkdir()
    run(test())


def test_an_agent_that_lost_its_leader_is_left_for_one_that_has_one(tmp_path: Path) -> None:
    """A second server makes the first one need it for a majority; then it is taken away."""

    def voters(agent: Consul) -> int:
        servers = agent.get("/v1/operator/raft/configuration")["Servers"]
        return sum(1 for server in servers if server["Voter"])

    async def test(first: Consul, second: Consul, partner: Consul) -> None:
        for agent in (first, second):
            agent.register("web", 1001)
        wait_until(lambda: voters(first) == 2, what="two voting servers")
        async with watching(first.url, second.url, wait=1.0) as watch:
            assert watch.status.agent == first.url
            await do(partner.kill)
            await watch.until_status(lambda: watch.status.agent == second.url, seconds=40)
            assert all(ports(s, "web") == [1001] for s in watch.published)

    for name in "abc":
        (tmp_path / name).mkdir()
    quick = {"autopilot": {"server_stabilization_time": "100ms"}}
    with (
        running_consul(tmp_path / "a", config=quick) as first,
        running_consul(tmp_path / "b") as second,
    ):
        joined = {"bootstrap": False, "retry_join": [f"127.0.0.1:{first.ports['serf_lan']}"]}
        with running_consul(tmp_path / "c", node="consul-2", config=joined) as partner:
            run(test(first, second, partner))


def test_a_refused_token_is_logged_once_and_read_again_from_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        token = tmp_path / "token"
        token.write_text("99999999-aaaa-bbbb-cccc-dddddddddddd\n")
        with running_consul(tmp_path, acl=True) as agent:
            agent.register("web", 1001)
            async with watching(agent.url, token_file=token, seconds=0) as watch:
                await watch.until_status(lambda: watch.status.errors["denied"] >= 4)
                token.write_text(agent.token)
                await watch.until(lambda s: ports(s, "web") == [1001], seconds=20)

    with caplog.at_level(logging.INFO, "lb.catalog"):
        run(test())
    refusals = [r.message for r in caplog.records if "refuses the ACL token" in r.message]
    assert len(refusals) == len(set(refusals)) == 3  # one of each table
    assert Consul.ACL_TOKEN not in caplog.text


def test_the_token_of_the_settings_is_used(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path, acl=True) as agent:
            agent.register("web", 1001)
            async with watching(agent.url, token=agent.token) as watch:
                assert ports(watch.store.snapshot, "web") == [1001]

    run(test())


def test_tls_to_the_agent_is_verified_unless_told_not_to(tmp_path: Path) -> None:
    async def test(url: str, ca: Path) -> None:
        async with watching(url, ca_cert=ca) as watch:
            assert "consul" in watch.store.snapshot.services
        async with watching(url, verify=False) as watch:
            assert "consul" in watch.store.snapshot.services
        async with watching(url, seconds=0) as watch:
            await watch.until_status(lambda: watch.status.errors["unreachable"])
            assert "certificate verify failed" in watch.status.last_error
            assert not watch.store.snapshot.services

    program = require("consul", "this test speaks TLS to a real Consul agent")
    for arguments in ("ca create", "cert create -server -additional-ipaddress=127.0.0.1"):
        subprocess.run([program, "tls", *arguments.split()], cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    config = {
        "ports": {"https": port},
        "cert_file": str(tmp_path / "dc1-server-consul-0.pem"),
        "key_file": str(tmp_path / "dc1-server-consul-0-key.pem"),
    }
    with running_consul(tmp_path, config=config):
        run(test(f"https://127.0.0.1:{port}", tmp_path / "consul-agent-ca.pem"))


def test_an_agent_that_hangs_is_left_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process keeps its connections open: nothing but our own timeout can tell."""
    monkeypatch.setattr(client, "MARGIN", 1.0)
    monkeypatch.setattr(client, "READ_TIMEOUT", 1.0)

    async def test(first: Consul, second: Consul) -> None:
        for agent in (first, second):
            agent.register("web", 1001)
        async with watching(first.url, second.url, wait=1.0) as watch:
            with first.paused():
                await watch.until_status(lambda: watch.status.agent == second.url and watch.status.connected)
                await do(second.register, "web", 1002)
                await watch.until(lambda s: ports(s, "web") == [1001, 1002])
            await watch.until_status(lambda: watch.status.agent == first.url and watch.status.connected)

    for name in "ab":
        (tmp_path / name).mkdir()
    with running_consul(tmp_path / "a") as first, running_consul(tmp_path / "b") as second:
        run(test(first, second))
