"""Many clients that are slow on purpose: they end on time, hold little memory meanwhile, and hurt nobody else.

One such client by itself is in test_time and test_streaming. Here it is counted what the proxy holds for many of
them. The bounds are generous: what fails to hold them would exceed them many times over.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import pytest

from lb.proxy.http_session import HttpSession
from tests.support.edge import Client, Edge, chunked, eventually, get, reply, scenario, web
from tests.support.scripted import Connection, Script, hanging

SOON = 0.3
FOR_ONE = 1 << 20
"""What one slow client may cost: the limit of a transport's buffer, one large read, what is kept for a retry, and what
the test itself has read of it."""
LARGE = b"x" * (8 << 20)


@contextlib.contextmanager
def traced() -> Iterator[None]:
    """Trace memory from here on."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def memory() -> int:
    """Octets that were allocated since the tracing began and are still held."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def sessions(edge_: Edge) -> set[HttpSession]:
    """The open connections of clients."""
    assert edge_.plane._http is not None
    return {one for one in edge_.plane._http._contexts[0].sessions if isinstance(one, HttpSession)}


def held(edge_: Edge) -> int:
    """Octets that wait to be served or to be read by the client for which there are most."""
    return max(len(one._buffer) + one.transport.get_write_buffer_size() for one in sessions(edge_))


async def crowd(edge_: Edge, count: int) -> list[Client]:
    """Connect so many clients, which take next to nothing unread."""
    edge_.send_little()
    clients = [await edge_.client(buffer=4096) for _ in range(count)]
    await eventually(lambda: edge_.listener_stats.active == count, "all are there")
    return clients


async def replies(clients: list[Client]) -> set[int]:
    """Read a reply by each client, and the end behind it; return their statuses."""

    async def one(client: Client) -> int:
        status = (await client.reply()).status
        assert await client.rest() == b""
        return status

    return set(await asyncio.gather(*map(one, clients)))


async def others_are_served(edge_: Edge) -> None:
    """Ask as anybody else."""
    assert (await edge_.ask(get(host="nobody.test"))).status == 404


# Heads


@scenario
async def test_heads_one_octet_at_a_time_are_all_refused_in_time() -> None:
    request = get("/slow", *(f"X-Field-{number}: value" for number in range(20)))

    async def trickle(clients: list[Client]) -> None:
        for place in range(len(request)):
            for client in clients:
                client.writer.write(request[place : place + 1])
            await asyncio.sleep(0.01)

    async with web(http={"header_timeout": SOON}) as (edge_, [instance]):
        clients = await crowd(edge_, 100)
        trickling = asyncio.create_task(trickle(clients))
        assert await replies(clients) == {408}
        trickling.cancel()
        assert not instance.connections
        assert edge_.listener_stats.rejected == {408: 100}


@scenario
async def test_clients_that_say_nothing_are_all_closed_in_time() -> None:
    async with web(http={"header_timeout": SOON}) as (edge_, _):
        clients = await crowd(edge_, 100)
        assert set(await asyncio.gather(*(client.rest() for client in clients))) == {b""}
        await eventually(lambda: edge_.listener_stats.active == 0, "all are gone")


@scenario
async def test_unfinished_heads_are_held_up_to_their_limit() -> None:
    limit, count = 32 << 10, 100
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    head = get("/slow")[:-2] + line * (limit // len(line) - 1)
    async with web(http={"max_header": limit, "header_timeout": 30}) as (edge_, [instance]):
        clients = await crowd(edge_, count)
        with traced():
            for client in clients:
                await client.send(head)
            await eventually(lambda: held(edge_) == len(head), "all of a head is here")
            await others_are_served(edge_)
            assert memory() < count * FOR_ONE
            for client in clients:
                await client.send(line * 2)
            assert await replies(clients) == {431}
        assert not instance.connections


# Bodies


@scenario
async def test_bodies_that_stop_are_all_refused_in_time() -> None:
    async with web(hanging, http={"body_timeout": SOON}) as (edge_, [instance]):
        clients = await crowd(edge_, 100)
        for client in clients:
            await client.send(get("/", "Content-Length: 10", method="PUT") + b"hello")
        assert await replies(clients) == {408}
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert edge_.http_stats().codes == {408: 100}


@pytest.mark.parametrize("coding", ["length", "chunked"])
@scenario
async def test_bodies_that_nobody_takes_are_held_up_to_a_bound(coding: str) -> None:
    count = 50
    body = LARGE if coding == "length" else chunked(LARGE)
    announced = f"Content-Length: {len(LARGE)}" if coding == "length" else "Transfer-Encoding: chunked"

    async def deaf(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with web(deaf, http={"max_body": 0}, upstream={"send_timeout": 2}) as (edge_, [instance]):
        clients = await crowd(edge_, count)
        with traced():
            async with pouring(clients, get("/", announced, method="POST") + body):
                await eventually(lambda: instance.open == count, "all are sent on")
                await others_are_served(edge_)
                assert await settled() < count * FOR_ONE
                await eventually(lambda: edge_.http_stats().codes == {504: count}, "the instance is given up")
            for client in clients:
                client.reset()
            await eventually(lambda: edge_.listener_stats.active == 0, "all have left")
            assert memory() < (count * FOR_ONE) // 2  # what the instances have read of it


@contextlib.asynccontextmanager
async def pouring(clients: list[Client], data: bytes) -> AsyncIterator[None]:
    """Send by all clients as much as is taken."""
    tasks = [asyncio.create_task(client.send(data)) for client in clients]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled() -> int:
    """Return the memory held, once it grows no more."""
    before, now = -1, memory()
    while now > before:
        before = now
        await asyncio.sleep(0.1)
        now = memory()
    return now


# Readers

REPLIES = {
    "length": reply(LARGE),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*[LARGE[: 1 << 16]] * 128),
    "until close": b"HTTP/1.1 200 OK\r\n\r\n" + LARGE,
}


def answering(framing: str) -> Script:
    """Answer each request with a large reply."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(REPLIES[framing])
            if framing == "until close":
                return

    return script


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", REPLIES)
@scenario
async def test_replies_that_nobody_reads_are_held_up_to_a_bound(framing: str, version: str) -> None:
    count = 200
    async with web(answering(framing), http={"send_timeout": 60}) as (edge_, _):
        clients = await crowd(edge_, count)
        with traced():
            for client in clients:
                await client.send(get(version=version))
            await eventually(lambda: all(not one.writable for one in sessions(edge_)), "no reply goes on")
            await others_are_served(edge_)
            assert held(edge_) < FOR_ONE
            assert await settled() < count * FOR_ONE
            for client in clients:
                client.reset()
            await eventually(lambda: edge_.listener_stats.active == 0, "all have left")
            assert memory() < (count * FOR_ONE) // 4


@scenario
async def test_requests_without_end_for_replies_that_nobody_reads_are_held_up_to_a_bound() -> None:
    count = 50
    async with web(answering("length"), http={"send_timeout": 60}) as (edge_, [instance]):
        clients = await crowd(edge_, count)
        with traced():
            async with pouring(clients, get() * 100_000):
                await eventually(lambda: instance.open == count, "all are asked")
                await others_are_served(edge_)
                assert await settled() < count * FOR_ONE
                assert held(edge_) < FOR_ONE
                assert all(request.count(b"GET / ") == 1 for request in instance.requests)
                for client in clients:
                    client.reset()


@pytest.mark.parametrize("fields", [(), ("Connection: close",)], ids=["kept alive", "closed behind it"])
@scenario
async def test_clients_that_do_not_read_are_all_cut_in_time(fields: tuple[str, ...]) -> None:
    async with web(answering("length"), http={"send_timeout": SOON}) as (edge_, [instance]):
        clients = await crowd(edge_, 200)
        for client in clients:
            await client.send(get("/", *fields))
        await eventually(lambda: edge_.listener_stats.active == 0, "all are cut")
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert edge_.http_stats().codes == {200: 200}
        for client in clients:
            assert len(await client.left()) < len(LARGE)
