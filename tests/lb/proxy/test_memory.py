"""Nothing is left to the garbage collector: what served a request, or a connection, goes when that is over."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.edge import Edge, Service, chunked, edge, eventually, get, put, reply, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, Script, closing_asked, refused

BURST = 20


@contextlib.contextmanager
def collected() -> Iterator[Counter[str]]:
    """Count, by type, the objects of the proxy that only the garbage collector could free."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("lb."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def answering(out: bytes) -> Script:
    """Answer every request with the same octets, for as long as the connection lasts."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(out)

    return script


async def echo(connection: Connection) -> None:
    """Say back what comes, until the other side has said all."""
    while part := await connection.some():
        await connection.send(part)


async def switching(connection: Connection) -> None:
    """Switch the protocol, then echo."""
    await connection.until(b"\r\n\r\n")
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    await echo(connection)


async def _kept_alive(edge_: Edge) -> None:
    client = await edge_.client()
    for _ in range(BURST):
        assert (await client.ask(get())).status == 200
    await client.close()


async def _connection_each(edge_: Edge) -> None:
    for _ in range(BURST):
        assert (await edge_.ask(get("/", "Connection: close"))).status == 200


async def _bodies(edge_: Edge) -> None:
    client = await edge_.client()
    for _ in range(BURST):
        assert (await client.ask(put(b"x" * 100_000))).status == 200
        assert (await client.ask(get("/", "Transfer-Encoding: chunked", method="PUT") + chunked(b"abc"))).status == 200
    await client.close()


async def _refused(edge_: Edge) -> None:
    for _ in range(BURST):
        assert (await edge_.ask(get(host="nobody.test"))).status == 404
        assert (await edge_.ask(b"nonsense\r\n\r\n")).status == 400


async def _failing(edge_: Edge) -> None:
    for _ in range(BURST):
        assert (await edge_.ask(get(host="down.test"))).status == 502
        assert (await edge_.ask(get(host="closing.test"))).status == 502


async def _client_leaves(edge_: Edge) -> None:
    for _ in range(BURST):
        client = await edge_.client()
        await client.send(get(host="silent.test"))
        client.reset()
    await eventually(lambda: edge_.listener_stats.active == 0, "all have left")


async def _tunnels(edge_: Edge) -> None:
    for _ in range(BURST):
        client = await edge_.client()
        request = get("/", "Connection: upgrade", "Upgrade: echo", host="switching.test")
        assert (await client.ask(request)).status == 101
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
        client.eof()
        assert await client.rest() == b""


async def _tcp_sessions(edge_: Edge) -> None:
    (port,) = edge_.plane.balancer.tcp_services
    for _ in range(BURST):
        client = await edge_.client(port)
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
        client.eof()
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "burst",
    [_kept_alive, _connection_each, _bodies, _refused, _failing, _client_leaves, _tunnels, _tcp_sessions],
    ids=lambda burst: burst.__name__.strip("_"),
)
@scenario
async def test_nothing_waits_for_the_garbage_collector(burst: Callable[[Edge], Awaitable[None]]) -> None:
    async def silent(connection: Connection) -> None:
        await connection.rest()

    async with edge(
        Service("web", [Instance(answering(reply(b"ok"))) for _ in range(2)]),
        Service("down", [refused(), refused()]),
        Service("closing", [Instance(closing_asked), Instance(closing_asked)]),
        Service("silent", [Instance(silent)]),
        Service("switching", [Instance(switching)]),
        Service(f"echo-{free_port()}", [Instance(echo)], tags=("tcp",)),
    ) as edge_:
        with collected() as found:
            await burst(edge_)
            await eventually(lambda: not edge_._left_over(), "all is over")
        assert not found
