"""A process that has run out of file descriptors: nobody is blamed for it, and it is over when it is over."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from lb.proxy import attempts
from lb.proxy.ceiling import Seldom
from tests.support.edge import LOCAL, Edge, Service, edge, eventually, get, scenario, web
from tests.support.process import free_port
from tests.support.scripted import OK, Connection, Instance, replying


@contextlib.contextmanager
def no_descriptors(left: int = 0) -> Iterator[None]:
    """Let this process open no more than so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def _unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was said of a shortage yet."""
    monkeypatch.setattr(attempts, "_shortage", Seldom())


def _fails(edge_: Edge) -> list[tuple[int, int]]:
    """Failures and leases of every endpoint."""
    return [(e.fails, e.active) for target in edge_.plane.balancer.targets() for e in target.group.endpoints]


@scenario
async def test_a_request_is_told_503_and_no_instance_is_blamed(caplog: pytest.LogCaptureFixture) -> None:
    async with web(replying(OK), replying(OK), meta=(("lb_max_fails", "1"),)) as (edge_, instances):
        client = await edge_.client()
        assert (await client.ask(get(host="nobody.test"))).status == 404
        with no_descriptors(), caplog.at_level(logging.WARNING):
            for _ in range(3):
                answer = await client.ask(get())
                assert answer.status == 503
                assert b"no room" in answer.body
        assert [instance.connections for instance in instances] == [[], []]
        assert _fails(edge_) == [(0, 0), (0, 0)]
        assert edge_.http_stats().attempts == {"descriptors": 3}
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.__dict__["edge_fields"]["limit"] > 0
        assert (await client.ask(get())).status == 200


@scenario
async def test_a_tcp_client_is_closed_and_counted_and_the_next_is_served() -> None:
    port = free_port()
    instances = [Instance(replying(OK)), Instance(replying(OK))]
    service = Service(f"front-{port}", instances, tags=("tcp",), meta=(("lb_max_fails", "1"),))
    async with edge(service) as edge_:
        stats = edge_.tcp_stats(f"front-{port}")
        first = await edge_.client(port)
        assert (await first.ask(get())).body == b"ok"
        await first.close()
        await eventually(lambda: stats.results, "the first has left")
        with socket.create_connection((LOCAL, port)) as client:
            # It waits in the queue, and there is one descriptor left to accept it.
            with no_descriptors(left=1):
                await eventually(lambda: stats.results == {"ok": 1, "descriptors": 1}, "it is counted")
            assert client.recv(1) == b""
        assert _fails(edge_) == [(0, 0), (0, 0)]
        again = await edge_.client(port)
        assert (await again.ask(get())).body == b"ok"


@scenario
async def test_idle_connections_to_instances_are_given_up_for_one_that_is_needed() -> None:
    async def once(connection: Connection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.rest()

    used, instance = [Instance(once), Instance(once)], Instance(once)
    async with edge(Service("web", used[:1]), Service("shop", used[1:]), Service("api", [instance])) as edge_:
        client = await edge_.client()
        for host in ("web.test", "shop.test"):
            assert (await client.ask(get(host=host))).status == 200
        assert edge_.idle == 2
        # Two are wanted: the other end of the connection is in this process, too.
        with no_descriptors():
            assert (await client.ask(get(host="api.test"))).status == 200
        assert edge_.idle == 1
        assert edge_.http_stats("api").attempts == {"ok": 1}
        await eventually(lambda: not any(one.open for one in used), "those that were idle are closed")
