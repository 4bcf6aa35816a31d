"""The watch against a real Consul agent: what changes there is published here, and what fails there is survived."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lb.catalog import client
from lb.catalog.model import Service, Snapshot
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.settings import ConsulSettings
from tests.support.consul import Consul, require, running_consul
from tests.support.process import free_port, wait_until

Check = Callable[[Snapshot], object]


class Watch:
    """A running watcher and everything it published."""

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self.store = store
        self.watcher = watcher
        self.status = watcher.status
        self.published: list[Snapshot] = []
        self._news = asyncio.Event()
        store.subscribe(self._note)

    def _note(self, snapshot: Snapshot) -> None:
        self.published.append(snapshot)
        self._news.set()

    async def until(self, check: Check, *, seconds: float = 15.0) -> Snapshot:
        """Return the current snapshot once it passes the check."""
        try:
            async with asyncio.timeout(seconds):
                while not check(self.store.snapshot):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; {self.status}") from None
        return self.store.snapshot

    async def until_status(self, check: Callable[[], object], *, seconds: float = 15.0) -> None:
        """Wait for something that is not published: the watcher's status."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, f"not within {seconds} s; {self.status}"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def watching(
    *urls: str, store: Store | None = None, seconds: float = 15.0, **options: Any
) -> AsyncIterator[Watch]:
    """Run a watcher; enter when it has published a fresh catalog, unless `seconds` is 0."""
    store = store or Store()
    watcher = Watcher(ConsulSettings(agents=urls, **options), store)
    watch = Watch(store, watcher)
    task = asyncio.create_task(watcher.run())
    try:
        if seconds:
            await watch.until(lambda s: s.fresh, seconds=seconds)
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await coroutine

    asyncio.run(limited())


async def do(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run a blocking call of the test's own Consul client beside the watcher."""
    return await asyncio.to_thread(call, *arguments, **options)


def ports(snapshot: Snapshot, name: str) -> list[int]:
    """The ports of the passing instances of a service."""
    return sorted(i.port for i in snapshot.services.get(name, Service(name)).passing)


def serves(snapshot: Snapshot, *, name: str, expected: list[int]) -> bool:
    """Whether the passing instances of a service have these ports."""
    return ports(snapshot, name) == expected


# --- what changes there is published here ---


def test_registration_change_and_deregistration_are_published(consul: Consul) -> None:
    async def test() -> None:
        async with watching(consul.url, empty_guard=0.0) as watch:
            assert watch.store.snapshot.datacenter == "dc1"
            assert "consul" in watch.store.snapshot.services
            await do(consul.register, "web", 1001, tags=["http"], meta={"lb_policy": "random"}, weight=3)
            snapshot = await watch.until(lambda s: "web" in s.services)
            (instance,) = snapshot.services["web"].instances
            assert (instance.id, instance.address, instance.port) == ("web-1001", "127.0.0.1", 1001)
            assert (instance.tags, dict(instance.meta), instance.weight) == (
                ("http",),
                {"lb_policy": "random"},
                3,
            )
            assert (instance.node, instance.health, instance.datacenter) == ("consul-1", "passing", "dc1")

            await do(consul.register, "web", 1002)
            await watch.until(lambda s: ports(s, "web") == [1001, 1002])
            await do(consul.register, "web", 1001, tags=["http", "new"])
            await watch.until(lambda s: "new" in s.services["web"].tags)
            await do(consul.register, "web", 1001, meta={"lb_policy": "ip_hash"})
            await watch.until(lambda s: s.services["web"].instances[0].meta.get("lb_policy") == "ip_hash")
            await do(consul.deregister, "web-1001")
            await watch.until(lambda s: ports(s, "web") == [1002])
            await do(consul.deregister, "web-1002")
            await watch.until(lambda s: "web" not in s.services)

    run(test())


def test_health_and_maintenance_are_followed(consul: Consul) -> None:
    async def test() -> None:
        consul.register("web", 1001, ttl_check="passing")
        consul.register("web", 1002, ttl_check="critical")
        async with watching(consul.url) as watch:
            assert ports(watch.store.snapshot, "web") == [1001]
            await do(consul.set_health, "web-1002", "passing")
            await watch.until(lambda s: ports(s, "web") == [1001, 1002])
            await do(consul.set_health, "web-1001", "warning")
            snapshot = await watch.until(lambda s: ports(s, "web") == [1002])
            assert snapshot.services["web"].instances[0].health == "warning"
            await do(consul.maintenance, "web-1002", True)
            await watch.until(lambda s: ports(s, "web") == [])
            assert len(watch.store.snapshot.services["web"].instances) == 2  # critical is not gone
            await do(consul.maintenance, "web-1002", False)
            await watch.until(lambda s: ports(s, "web") == [1002])

    run(test())


def test_a_check_of_the_node_concerns_all_its_services(consul: Consul) -> None:
    async def test() -> None:
        names = [f"svc-{n}" for n in range(12)]  # more than are followed one by one
        for number, name in enumerate(names):
            consul.register(name, 2000 + number)
        async with watching(consul.url) as watch:
            await do(consul.node_maintenance, True)
            await watch.until(lambda s: not any(ports(s, name) for name in names))
            await do(consul.node_maintenance, False)
            await watch.until(lambda s: all(ports(s, name) for name in names))

    run(test())


def test_an_unchanged_answer_publishes_nothing(consul: Consul) -> None:
    async def test() -> None:
        consul.register("web", 1001, ttl_check="passing")
        async with watching(consul.url) as watch:
            before = watch.store.snapshot
            answers = watch.status.answers
            for note in ("one", "two", "three"):  # the index moves, the content does not
                body = {"Status": "passing", "Output": note}
                await do(consul.put, "/v1/agent/check/update/service:web-1001", body)
            await do(consul.register, "other", 1)
            after = await watch.until(lambda s: "other" in s.services)
            assert watch.status.answers > answers
            assert after.generation == before.generation + 1
            assert after.services["web"] is before.services["web"]

    run(test())


def test_changes_of_services_that_are_not_followed_are_found(consul: Consul) -> None:
    """More services than long polls: without checks or tags nothing but a sweep can tell which one changed."""

    async def test() -> None:
        services = [{"Service": f"s{n}", "ID": f"s{n}-a", "Port": 1000 + n} for n in range(40)]
        consul.register_external("far", "10.1.2.3", services)
        async with watching(consul.url, max_connections=6) as watch:
            assert watch.status.followed == 1
            for n in range(3, 8):
                more = {"Service": f"s{n}", "ID": f"s{n}-b", "Port": 5000 + n}
                await do(consul.register_external, "far", "10.1.2.3", [more])
                name, both = f"s{n}", [1000 + n, 5000 + n]
                await watch.until(partial(serves, name=name, expected=both))
            await do(consul.deregister_external, "far", "s9-a")
            await watch.until(lambda s: "s9" not in s.services)
            await do(consul.register_external, "far", "10.9.9.9")
            await watch.until(lambda s: all(i.address == "10.9.9.9" for i in s.instances() if i.node == "far"))
            await do(consul.register_external, "new", "10.1.2.4", [services[0] | {"Port": 77}])
            await watch.until(lambda s: ports(s, "s0") == [77, 1000])

    run(test())


@pytest.mark.parametrize("node", ["..", "a//b", "a/b", "q?x#y%z 1"])
def test_a_node_may_have_any_name(consul: Consul, node: str) -> None:
    """Its name is part of a path when a sweep asks for it, and some names cannot be."""

    async def test() -> None:
        services = [{"Service": f"s{n}", "ID": f"s{n}-a", "Port": 1000 + n} for n in range(12)]
        consul.register_external(node, "10.1.2.3", services)
        async with watching(consul.url, max_connections=6) as watch:
            for n in range(3, 6):
                more = {"Service": f"s{n}", "ID": f"s{n}-b", "Port": 5000 + n}
                await do(consul.register_external, node, "10.1.2.3", [more])
                await watch.until(partial(serves, name=f"s{n}", expected=[1000 + n, 5000 + n]))
            assert not watch.status.errors

    run(test())


def test_a_bad_instance_is_named_and_the_others_are_used(consul: Consul, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        consul.register("web", 1001)
        consul.register("web", 0, id="zero")
        async with watching(consul.url) as watch:
            await do(consul.register, "web", 1002)
            snapshot = await watch.until(lambda s: ports(s, "web") == [1001, 1002])
            (problem,) = snapshot.problems
            assert (problem.kind, problem.subject) == ("instance", "web/zero@consul-1")
            assert "port 0" in problem.reason
            await do(consul.deregister, "zero")
            await watch.until(lambda s: not s.problems)

    with caplog.at_level(logging.WARNING, "lb.catalog"):
        run(test())
    assert [r.message for r in caplog.records if "web/zero" in r.message] == [
        "web/zero@consul-1 is not used: port 0 is not between 1 and 65535"
    ]


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


# --- many services, few connections ---


def connections_to(port: int) -> int:
    """Return how many TCP connections this process's host has to a local port (client ends only)."""
    wanted = f":{port:04X}"
    established = "01"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[2].endswith(wanted) and line.split()[3] == established)


async def sample(probe: Callable[[], int], until: Awaitable[object]) -> int:
    """Return the highest value of `probe` seen while something else goes on."""
    highest = 0
    task = asyncio.ensure_future(until)
    while not task.done():
        highest = max(highest, probe())
        await asyncio.wait({task}, timeout=0.05)
    await task
    return highest


@pytest.mark.timeout(180)
def test_two_thousand_services_over_sixteen_connections(tmp_path: Path) -> None:
    async def test() -> None:
        with running_consul(tmp_path) as agent:
            await do(fill, agent)
            began = time.monotonic()
            async with watching(agent.url, seconds=0) as watch:
                first = watch.until(lambda s: s.fresh, seconds=60)
                highest = await sample(lambda: connections_to(agent.http_port), first)
                started = time.monotonic() - began
                assert len(watch.store.snapshot.services) == 2001
                assert sum(1 for _ in watch.store.snapshot.instances()) == 10_001
                assert highest <= 16
                assert len(watch.published) == 1  # never half a catalog

                # Services that changed are followed from then on, so each one serves once.
                with_check = [await cold_change(agent, watch, f"s{n:04}", "critical") for n in range(300, 305)]
                without = [await cold_change(agent, watch, f"s{n:04}", None) for n in range(400, 405)]
                assert connections_to(agent.http_port) <= 16
                print(f"start {started:.2f} s over {highest} connections")
                print(f"cold change with a check {with_check} s, without {without} s")

    run(test())


def fill(agent: Consul) -> None:
    """2,000 services of 5 instances on 5 nodes."""
    for node in range(5):
        services = [
            {"Service": f"s{n:04}", "ID": f"s{n:04}-{node}", "Port": 1000 + n, "Tags": ["http"]} for n in range(2000)
        ]
        agent.register_external(f"node-{node}", f"10.0.0.{node + 1}", services)


async def cold_change(agent: Consul, watch: Watch, name: str, check: str | None) -> float:
    """Register one more instance of a service that is not followed; return the seconds until it is published."""
    began = time.monotonic()
    await do(agent.register, name, 7000, tags=["http"], ttl_check=check)
    await watch.until(lambda s: any(i.port == 7000 for i in s.services[name].instances))
    return round(time.monotonic() - began, 3)
