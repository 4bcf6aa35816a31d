"""The connect phase of TCP sessions: who is asked, who is blamed, and what a client sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from lb.balance.endpoint import Endpoint
from tests.support.edge import Edge, Service, edge, eventually, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, Script, closing, refused, stalled, unreachable

Unwilling = Callable[[], AbstractContextManager[Instance]]


@contextlib.contextmanager
def _refused() -> Iterator[Instance]:
    yield refused()


@contextlib.contextmanager
def _unreachable() -> Iterator[Instance]:
    yield unreachable()


UNWILLING = [(_refused, "connect_refused"), (stalled, "connect_timeout"), (_unreachable, "connect_error")]


async def echo(connection: Connection) -> None:
    """Say back what comes."""
    while part := await connection.some():
        await connection.send(part)


async def holding(connection: Connection) -> None:
    """Say hello, then stay until the other side has said all."""
    await connection.send(b"hello")
    await connection.rest()


async def resetting(connection: Connection) -> None:
    """Reset each connection without a word."""
    connection.reset()


async def silent(connection: Connection) -> None:
    """Say nothing."""
    await connection.rest()


def tcp(port: int, *instances: Instance, **options: str) -> Service:
    """A TCP service on a port."""
    return Service(f"front-{port}", instances, tags=("tcp",), meta=tuple(options.items()))


def _endpoint(edge_: Edge, instance: Instance) -> Endpoint:
    """What the balancer knows of an instance."""
    (found,) = (
        e for target in edge_.plane.balancer.targets() for e in target.group.endpoints if e.port == instance.port
    )
    return found


async def _results(edge_: Edge, port: int, **results: int) -> None:
    stats = edge_.tcp_stats(f"front-{port}")
    with contextlib.suppress(AssertionError):
        await eventually(lambda: stats.results == results, "they end so")
    assert stats.results == results


@pytest.mark.parametrize(("unwilling", "kind"), UNWILLING)
@scenario
async def test_the_next_is_asked_and_only_the_unwilling_is_blamed(unwilling: Unwilling, kind: str) -> None:
    port = free_port()
    good = Instance(echo)
    with unwilling() as bad:
        async with edge(tcp(port, bad, good, lb_max_fails="1"), upstream={"connect_timeout": 0.2}) as edge_:
            for _ in range(4):
                client = await edge_.client(port)
                await client.send(b"abc")
                assert await client.exactly(3) == b"abc"
                await client.close()
            await _results(edge_, port, ok=4)
            assert (_endpoint(edge_, bad).fails, _endpoint(edge_, good).fails) == (1, 0)


@pytest.mark.parametrize(("unwilling", "kind"), UNWILLING)
@scenario
async def test_a_client_whom_nobody_takes_is_closed_and_counted_by_the_last_failure(
    unwilling: Unwilling, kind: str
) -> None:
    port = free_port()
    with unwilling() as one, unwilling() as other:
        async with edge(tcp(port, one, other), upstream={"connect_timeout": 0.2}) as edge_:
            client = await edge_.client(port)
            assert await client.rest() == b""
            await _results(edge_, port, **{kind: 1})
            assert (_endpoint(edge_, one).fails, _endpoint(edge_, other).fails) == (1, 1)


@scenario
async def test_success_is_credited_when_the_connection_is_made() -> None:
    port = free_port()
    late, good = refused(), Instance(holding)
    async with edge(tcp(port, late, good, lb_fail_timeout="1s")) as edge_:
        clients = [await edge_.client(port) for _ in range(2)]
        for client in clients:
            assert await client.exactly(5) == b"hello"
        assert _endpoint(edge_, late).fails >= 1
        late.script = holding
        await late.start()
        # nginx: once more than fail_timeout has passed, in whole seconds, one attempt shows whether it is back.
        await asyncio.sleep(2.1)
        clients += [await edge_.client(port) for _ in range(2)]
        for client in clients[2:]:
            assert await client.exactly(5) == b"hello"
        assert len(late.connections) >= 1
        assert _endpoint(edge_, late).fails == 0
        assert late.open >= 1  # the sessions that it was credited for go on
        for client in clients:
            await client.close()
        await eventually(lambda: not late.open, "they end")
        await late.stop()


@pytest.mark.parametrize(("script", "result"), [(closing, "ok"), (resetting, "reset"), (silent, "idle")])
@scenario
async def test_nothing_that_happens_after_the_connection_was_made_is_a_failure(script: Script, result: str) -> None:
    port = free_port()
    instances = [Instance(script), Instance(script)]
    async with edge(tcp(port, *instances, lb_max_fails="1"), tcp={"idle_timeout": 0.2}) as edge_:
        for _ in range(4):
            client = await edge_.client(port)
            await client.left()
            await client.close()
        await _results(edge_, port, **{result: 4})
        assert [len(instance.connections) for instance in instances] == [2, 2]
        assert [_endpoint(edge_, instance).fails for instance in instances] == [0, 0]


@scenario
async def test_a_full_instance_is_passed_over_and_a_full_service_closes() -> None:
    port = free_port()
    instances = [Instance(holding), Instance(holding)]
    async with edge(tcp(port, *instances, lb_max_conns="2")) as edge_:
        held = [await edge_.client(port) for _ in range(4)]
        for client in held:
            assert await client.exactly(5) == b"hello"
        assert [instance.open for instance in instances] == [2, 2]
        assert await (await edge_.client(port)).left() == b""
        await _results(edge_, port, no_live_upstream=1)
        await held[0].close()
        await _results(edge_, port, no_live_upstream=1, ok=1)
        again = await edge_.client(port)
        assert await again.exactly(5) == b"hello"
        assert [_endpoint(edge_, instance).fails for instance in instances] == [0, 0]


@scenario
async def test_the_limit_holds_for_an_instance_alone_and_for_attempts_that_are_under_way() -> None:
    port = free_port()
    with stalled() as busy:
        async with edge(tcp(port, busy, lb_max_conns="1"), upstream={"connect_timeout": 0.3}) as edge_:
            first = await edge_.client(port)
            await eventually(lambda: _endpoint(edge_, busy).active == 1, "it is being connected to")
            assert await (await edge_.client(port)).left() == b""
            await _results(edge_, port, no_live_upstream=1)
            assert await first.left() == b""
            await _results(edge_, port, no_live_upstream=1, connect_timeout=1)


@pytest.mark.parametrize("early", [b"", b"a word", b"x" * 60_000])
@scenario
async def test_a_client_that_resets_while_connecting_ends_the_attempt_and_nobody_is_blamed(early: bytes) -> None:
    port = free_port()
    with stalled() as busy:
        async with edge(tcp(port, busy, Instance(echo))) as edge_:
            # One of these two meets the instance that accepts nobody.
            clients = [await edge_.client(port) for _ in range(2)]
            for client in clients:
                client.writer.write(early)
            await eventually(lambda: _endpoint(edge_, busy).active == 1, "it is being connected to")
            await asyncio.sleep(0.05)
            for client in clients:
                client.reset()
            stats = edge_.tcp_stats(f"front-{port}")
            await eventually(lambda: stats.results.get("client_left") == 1, "the attempt is given up")
            assert (_endpoint(edge_, busy).active, _endpoint(edge_, busy).fails) == (0, 0)


@scenario
async def test_a_client_that_has_left_in_order_while_connecting_leaves_no_connection_behind() -> None:
    port = free_port()
    instance = Instance(echo)
    with stalled() as busy:
        async with edge(tcp(port, busy, instance), upstream={"connect_timeout": 0.2}) as edge_:
            for _ in range(4):
                client = await edge_.client(port)
                await client.send(b"goodbye")
                await client.close()
            # What it has said goes on: a close in order is no other than a half-close until it is answered.
            await eventually(lambda: instance.requests.count(b"goodbye") == 4, "it is heard")
            await eventually(lambda: not instance.open, "the connections end")


@scenario
async def test_much_that_is_said_early_waits_and_arrives_whole() -> None:
    port = free_port()
    data = random.Random(1).randbytes(3_000_000)

    async def script(connection: Connection) -> None:
        heard = await connection.rest()
        await connection.send(b"right" if heard == data else b"wrong")

    with stalled() as busy:
        async with edge(tcp(port, busy, Instance(script)), upstream={"connect_timeout": 0.3}) as edge_:
            clients = [await edge_.client(port) for _ in range(2)]
            for client in clients:
                client.writer.write(data)
                client.eof()
            assert [await client.rest() for client in clients] == [b"right", b"right"]
            assert edge_.tcp_stats(f"front-{port}").received == 2 * len(data)


@scenario
async def test_an_instance_may_speak_first_and_the_two_talk_in_turns() -> None:
    async def mail(connection: Connection) -> None:
        await connection.send(b"220 ready\r\n")
        for number in itertools.count(1):
            line = await connection.until(b"\r\n")
            if line == b"QUIT\r\n":
                await connection.send(b"221 bye\r\n")
                return
            await connection.send(b"250 %d\r\n" % number)

    port = free_port()
    async with edge(tcp(port, refused(), Instance(mail))) as edge_:
        client = await edge_.client(port)
        assert await client.until(b"\r\n") == b"220 ready\r\n"
        for number in range(1, 20):
            await client.send(b"NOOP\r\n")
            assert await client.until(b"\r\n") == b"250 %d\r\n" % number
        await client.send(b"QUIT\r\n")
        assert await client.rest() == b"221 bye\r\n"
