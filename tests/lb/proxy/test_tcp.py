"""TCP services: listeners that follow the catalog, and connections that are relayed."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.edge import Client, Edge, Service, edge, eventually, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, Script, closing, refused, stalled


async def echo(connection: Connection) -> None:
    """Say back what comes, until the other side has said all."""
    while part := await connection.some():
        await connection.send(part)


def named(name: bytes) -> Script:
    """Say a name at once, then stay until the other side has said all."""

    async def script(connection: Connection) -> None:
        await connection.send(name)
        await connection.rest()

    return script


def tcp(port: int, *instances: Instance, name: str = "front", **options: str) -> Service:
    """A TCP service on a port."""
    return Service(f"{name}-{port}", instances, tags=("tcp",), meta=tuple(options.items()))


async def _results(edge_: Edge, port: int, **results: int) -> None:
    """Wait until so many sessions have ended so."""
    stats = edge_.tcp_stats(f"front-{port}")
    await eventually(lambda: stats.results == results, f"{results}, not {stats.results}")


async def _gone(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@scenario
async def test_bytes_pass_and_half_close_is_carried_through() -> None:
    port = free_port()
    async with edge(tcp(port, Instance(echo))) as edge_:
        client = await edge_.client(port)
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
        await client.send(b"last")
        client.eof()
        assert await client.rest() == b"last"
        await _results(edge_, port, ok=1)
        stats = edge_.tcp_stats(f"front-{port}")
        assert (stats.received, stats.sent, stats.opened) == (7, 7, 1)


@scenario
async def test_what_an_instance_says_after_the_client_has_said_all_arrives() -> None:
    async def script(connection: Connection) -> None:
        question = await connection.rest()
        await connection.send(b"you said ", question)

    port = free_port()
    async with edge(tcp(port, Instance(script))) as edge_:
        client = await edge_.client(port)
        client.writer.write(b"x" * 300_000)
        client.eof()
        assert await client.rest() == b"you said " + b"x" * 300_000


@scenario
async def test_client_that_reads_slowly_is_not_taken_for_idle() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"x" * 200_000)
        await connection.rest()

    port = free_port()
    async with edge(tcp(port, Instance(script)), tcp={"idle_timeout": 0.2}) as edge_:
        edge_.send_little(port)
        client = await edge_.client(port, buffer=4096)
        assert await client.slowly(200_000) == b"x" * 200_000
        await _results(edge_, port, idle=1)


@scenario
async def test_client_may_go_on_after_the_instance_has_said_all() -> None:
    heard = b""

    async def script(connection: Connection) -> None:
        nonlocal heard
        await connection.send(b"welcome")
        connection.eof()
        heard = await connection.rest()

    port = free_port()
    async with edge(tcp(port, Instance(script))) as edge_:
        client = await edge_.client(port)
        assert await client.rest() == b"welcome"
        await client.send(b"thank ", b"you")
        await client.close()
        await eventually(lambda: heard == b"thank you", "it is heard to the end")


@scenario
async def test_reset_of_either_side_is_a_reset_to_the_other() -> None:
    seen: list[str] = []

    async def script(connection: Connection) -> None:
        if await connection.exactly(1) == b"!":
            connection.reset()
            return
        try:
            await connection.rest()
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    port = free_port()
    async with edge(tcp(port, Instance(script))) as edge_:
        one, two = await edge_.client(port), await edge_.client(port)
        await one.send(b"!")
        with pytest.raises(ConnectionResetError):
            await one.rest()
        await two.send(b"?")
        await _opened(edge_, port, 2)
        two.reset()
        await eventually(lambda: seen, "the instance notices")
        assert seen == ["reset"]
        await _results(edge_, port, reset=2)


async def _opened(edge_: Edge, port: int, count: int) -> None:
    """Wait until octets of so many sessions have passed."""
    await eventually(lambda: edge_.tcp_stats(f"front-{port}").received >= count, "octets pass")


@scenario
async def test_listener_comes_and_goes_with_the_catalog_and_connections_go_on() -> None:
    port, other = free_port(), free_port()
    instance = Instance(echo)
    async with edge(tcp(port, instance)) as edge_:
        client = await edge_.client(port)
        await client.send(b"a")
        assert await client.exactly(1) == b"a"
        edge_.apply(tcp(other, instance))
        assert await _gone(port)
        late = await edge_.client(other)
        await late.send(b"b")
        assert await late.exactly(1) == b"b"
        await client.send(b"c")
        assert await client.exactly(1) == b"c"
        edge_.apply(tcp(other, instance), tcp(port, instance))
        again = await edge_.client(port)
        await again.send(b"d")
        assert await again.exactly(1) == b"d"


@scenario
async def test_listener_that_leaves_and_returns_at_once_is_there() -> None:
    port = free_port()
    instance = Instance(echo)
    async with edge(tcp(port, instance)) as edge_:
        for _ in range(20):
            edge_.apply()
            edge_.apply(tcp(port, instance))
        assert edge_.problems == ()
        client = await edge_.client(port)
        await client.send(b"a")
        assert await client.exactly(1) == b"a"


@scenario
async def test_taken_port_is_a_problem_that_is_retried_and_hurts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.keeper.RETRY_FIRST", 0.05)
    instance = Instance(echo)
    free = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with edge(tcp(port, instance), tcp(free, instance, name="other")) as edge_:
            (problem,) = edge_.problems
            assert problem.kind == "listener"
            assert problem.subject == f"front-{port} port {port}"
            assert "Address already in use" in problem.reason
            client = await edge_.client(free)
            await client.send(b"a")
            assert await client.exactly(1) == b"a"
            taken.close()
            await eventually(lambda: not edge_.problems, "it is tried again")
            client = await edge_.client(port)
            await client.send(b"b")
            assert await client.exactly(1) == b"b"


@scenario
async def test_taken_port_that_is_not_wanted_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.keeper.RETRY_FIRST", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with edge(tcp(port, Instance(echo))) as edge_:
            edge_.apply()
            assert edge_.problems == ()
            taken.close()
            await asyncio.sleep(0.2)
            assert await _gone(port)


@scenario
async def test_refused_connection_goes_to_the_next_instance() -> None:
    port = free_port()
    async with edge(tcp(port, refused(), Instance(echo))) as edge_:
        for _ in range(3):
            client = await edge_.client(port)
            await client.send(b"a")
            assert await client.exactly(1) == b"a"


@scenario
async def test_all_refused_or_none_there_is_a_closed_connection() -> None:
    port = free_port()
    async with edge(tcp(port, refused(), refused())) as edge_:
        assert await (await edge_.client(port)).left() == b""
        await _results(edge_, port, connect_refused=1)
        edge_.apply(tcp(port))
        assert await (await edge_.client(port)).left() == b""
        await _results(edge_, port, connect_refused=1, no_instance=1)


@scenario
async def test_instance_that_does_not_accept_is_passed_over_and_early_bytes_are_kept() -> None:
    port = free_port()
    with stalled() as silent:
        async with edge(tcp(port, silent, Instance(echo)), upstream={"connect_timeout": 0.2}) as edge_:
            clients = [await edge_.client(port) for _ in range(2)]
            for client in clients:
                await client.send(b"first ", b"second")
                client.eof()
            assert [await client.rest() for client in clients] == [b"first second"] * 2


@scenario
async def test_client_that_says_nothing_may_close_its_side_before_an_instance_is_found() -> None:
    async def script(connection: Connection) -> None:
        assert await connection.rest() == b""
        await connection.send(b"hello")

    port = free_port()
    with stalled() as silent:
        async with edge(tcp(port, silent, Instance(script)), upstream={"connect_timeout": 0.2}) as edge_:
            clients = [await edge_.client(port) for _ in range(2)]
            for client in clients:
                client.eof()
            assert [await client.rest() for client in clients] == [b"hello"] * 2


@scenario
async def test_client_that_leaves_while_connecting_leaves_nothing_behind() -> None:
    port = free_port()
    with stalled() as silent:
        async with edge(tcp(port, silent), upstream={"connect_timeout": 0.3}) as edge_:
            quiet, loud = await edge_.client(port), await edge_.client(port)
            await loud.send(b"hello")
            await eventually(lambda: edge_.tcp_stats(f"front-{port}").active == 2, "both are connecting")
            quiet.reset()
            await _results(edge_, port, client_left=1)
            await loud.close()
            await _results(edge_, port, client_left=1, connect_timeout=1)


@scenario
async def test_least_connections_first() -> None:
    port = free_port()
    busy, free = Instance(named(b"a")), Instance(named(b"b"))
    async with edge(tcp(port, busy, free)) as edge_:
        held = [await edge_.client(port) for _ in range(10)]
        assert sorted([await client.exactly(1) for client in held]) == [b"a"] * 5 + [b"b"] * 5
        for client in held:
            if client.received == b"b":
                await client.close()
        await eventually(lambda: edge_.tcp_stats(f"front-{port}").active == 5, "half are gone")
        more = [await edge_.client(port) for _ in range(5)]
        assert [await client.exactly(1) for client in more] == [b"b"] * 5


@scenario
async def test_instance_that_closes_at_once_is_no_failure() -> None:
    port = free_port()
    instance = Instance(closing)
    async with edge(tcp(port, instance, Instance(closing), lb_max_fails="1")) as edge_:
        for _ in range(6):
            client = await edge_.client(port)
            assert await client.rest() == b""
            await client.close()
        await _results(edge_, port, ok=6)
        assert len(instance.connections) == 3


@scenario
async def test_idle_session_ends_in_time() -> None:
    port = free_port()
    async with edge(tcp(port, Instance(echo)), tcp={"idle_timeout": 0.3}) as edge_:
        client = await edge_.client(port)
        for _ in range(4):
            await asyncio.sleep(0.15)
            await client.send(b"x")
            assert await client.exactly(1) == b"x"
        assert await client.rest() == b""
        await _results(edge_, port, idle=1)


@scenario
async def test_session_whose_last_bytes_nobody_takes_ends_in_time() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"x" * 6_000_000)

    port = free_port()
    async with edge(tcp(port, Instance(script)), tcp={"idle_timeout": 0.3}) as edge_:
        client = await edge_.client(port, buffer=1024)
        client.eof()
        await eventually(lambda: edge_.tcp_stats(f"front-{port}").active == 0, "it ends")
        assert len(await client.left()) < 6_000_000


@scenario
async def test_instance_is_not_read_faster_than_the_client_reads() -> None:
    port = free_port()
    count, written = 32_000_000, 0

    async def script(connection: Connection) -> None:
        nonlocal written
        while written < count:
            await connection.send(b"x" * 100_000)
            written += 100_000

    async with edge(tcp(port, Instance(script))) as edge_:
        client = await edge_.client(port, buffer=1 << 16)
        await asyncio.sleep(0.3)
        assert 0 < written < count
        assert len(await client.rest()) == count


@scenario
async def test_client_is_not_read_faster_than_the_instance_reads() -> None:
    port = free_port()
    count = 32_000_000
    proceed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await proceed.wait()
        await connection.send(b"%d" % len(await connection.rest()))

    async def pour(client: Client) -> None:
        for _ in range(count // 100_000):
            await client.send(b"x" * 100_000)
        client.eof()

    async with edge(tcp(port, Instance(script))) as edge_:
        client = await edge_.client(port)
        pouring = asyncio.create_task(pour(client))
        await asyncio.sleep(0.3)
        assert not pouring.done()
        proceed.set()
        assert await client.rest() == b"%d" % count
        await pouring


@scenario
async def test_draining_closes_ports_and_then_sessions() -> None:
    port = free_port()
    service = tcp(port, Instance(echo))
    async with edge(service) as edge_:
        client = await edge_.client(port)
        await client.send(b"a")
        assert await client.exactly(1) == b"a"
        draining = asyncio.create_task(edge_.drain(0.3))
        await asyncio.sleep(0)
        assert await _gone(port)
        edge_.apply(service)
        assert await _gone(port)
        await client.send(b"b")
        assert await client.exactly(1) == b"b"
        await draining
        assert await client.left() == b""
        await _results(edge_, port, aborted=1)
