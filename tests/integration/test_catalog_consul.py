"""The watch against a real Consul agent: what changes there is published here, within its budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.watch import Watch, do, ports, run, serves, watching

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
        consul.register("web", 1003, id="odd", address="not a host")
        async with watching(consul.url) as watch:
            await do(consul.register, "web", 1002)
            snapshot = await watch.until(lambda s: ports(s, "web") == [1001, 1002])
            (problem,) = snapshot.problems
            assert (problem.kind, problem.subject) == ("instance", "web/odd@consul-1")
            assert "not a host" in problem.reason
            await do(consul.deregister, "odd")
            await watch.until(lambda s: not s.problems)

    with caplog.at_level(logging.WARNING, "lb.catalog"):
        run(test())
    assert [r.message for r in caplog.records if "web/odd" in r.message] == [
        "web/odd@consul-1 is not used: address 'not a host' is neither an IP address nor a host name"
    ]


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
