"""WebSockets: a real server and a real client on both sides of the proxy (RFC 6455).

What any upgraded connection does, whatever its protocol, is in test_tunnel. Every test ends with the harness's look at
what is left: no lease, no counter, no deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.support.edge import LOCAL, Edge, Service, edge, eventually, scenario
from tests.support.scripted import Instance

Handler = Callable[[ServerConnection], Awaitable[None]]

ABNORMAL = 1006  # the code of a connection that ended without a close frame (RFC 6455 section 7.1.5)


@contextlib.asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[Edge]:
    """Run the proxy before a WebSocket server of these options."""
    async with serve(handler, LOCAL, 0, max_size=None, **options) as server:
        instance = Instance()
        instance.port = next(iter(server.sockets)).getsockname()[1]
        async with edge(Service("web", [instance])) as edge_:
            yield edge_


def connecting(edge_: Edge, path: str = "/chat", **options: Any) -> connect:
    """Connect a WebSocket client through the proxy."""
    url = f"ws://web.test:{edge_.port}{path}"
    return connect(url, host=LOCAL, port=edge_.port, proxy=None, max_size=None, **options)


async def echo(connection: ServerConnection) -> None:
    """Say back every message."""
    async for message in connection:
        await connection.send(message)


async def accounted(edge_: Edge, connections: int = 1) -> None:
    """Wait until so many have ended, all as switched."""
    await eventually(lambda: edge_.http_stats().codes == {101: connections}, "all are accounted for")


@pytest.mark.parametrize("compression", [None, "deflate"])
@scenario
async def test_messages_of_every_size_come_back_unchanged(compression: str | None) -> None:
    # The borders of the three forms of a length (RFC 6455 section 5.2), and what takes many reads.
    sizes = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20]
    noise = random.Random(1).randbytes(sizes[-1])
    async with serving(echo, compression=compression) as edge_:
        async with connecting(edge_, compression=compression) as client:
            assert bool(client.protocol.extensions) == bool(compression)
            for size in sizes:
                await client.send(noise[:size])
                assert await client.recv() == noise[:size]
            await client.send("naïve " * 50_000)
            assert await client.recv() == "naïve " * 50_000
        await accounted(edge_)


@pytest.mark.parametrize("compression", [None, "deflate"])
@scenario
async def test_fragments_stay_apart_both_ways(compression: str | None) -> None:
    chance = random.Random(2)
    parts = [chance.randbytes(chance.choice([1, 100, 10_000, 200_000])) for _ in range(40)]

    async def handler(connection: ServerConnection) -> None:
        got = [part async for part in connection.recv_streaming()]
        await connection.send(got)

    async with (
        serving(handler, compression=compression) as edge_,
        connecting(edge_, compression=compression) as client,
    ):
        await client.send(parts)
        # The sender ends a fragmented message with an empty frame.
        assert [part async for part in client.recv_streaming() if part] == parts


@scenario
async def test_pings_are_answered_from_end_to_end_even_inside_a_message() -> None:
    pinged = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await (await connection.ping(b"from the server"))
        assert await connection.recv() == "in fragments"

    async def fragments(client: ClientConnection) -> AsyncIterator[str]:
        yield "in "
        await (await client.ping(b"from the client"))
        pinged.set()
        yield "fragments"

    async with serving(handler) as edge_, connecting(edge_) as client:
        await client.send(fragments(client))
        assert pinged.is_set()
        await client.wait_closed()
        assert client.close_code == 1000


@scenario
async def test_many_at_once_get_each_their_own_messages() -> None:
    clients, messages = 60, 20

    async def one(edge_: Edge, number: int) -> None:
        async with connecting(edge_, f"/{number}") as client:
            for count in range(messages):
                message = f"{number}/{count}" * (count * 37 + 1)
                await client.send(message)
                assert await client.recv() == message

    async with serving(echo) as edge_:
        await asyncio.gather(*(one(edge_, number) for number in range(clients)))
        await accounted(edge_, clients)


@scenario
async def test_handshake_carries_subprotocols_and_fields_both_ways() -> None:
    seen: list[Request] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)
        await connection.send(connection.subprotocol or "none")

    def add_field(_connection: ServerConnection, _request: Request, response: Response) -> None:
        response.headers["X-Server"] = "one"
        response.headers["Set-Cookie"] = "a=1"

    known = [Subprotocol("chat"), Subprotocol("superchat")]
    fields = {"X-Token": "t", "Cookie": "b=2", "Authorization": "Bearer c"}
    async with (
        serving(handler, subprotocols=known, process_response=add_field) as edge_,
        connecting(
            edge_, "/a?b=c", subprotocols=[known[1]], additional_headers=fields, origin="http://web.test"
        ) as client,
    ):
        assert await client.recv() == client.subprotocol == "superchat"
        assert client.response is not None
        assert (client.response.headers["X-Server"], client.response.headers["Set-Cookie"]) == ("one", "a=1")
        [request] = seen
        assert request.path == "/a?b=c"
        assert {name: request.headers[name] for name in fields} == fields
        assert request.headers["Origin"] == "http://web.test"
        assert request.headers["Host"] == f"web.test:{edge_.port}"
        assert request.headers["X-Forwarded-For"] == LOCAL


@scenario
async def test_refused_handshake_is_an_ordinary_reply() -> None:
    def refuse(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "members only\n")

    async with serving(echo, process_request=refuse) as edge_:
        with pytest.raises(InvalidStatus) as refused:
            await connecting(edge_)
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"members only\n"
        await eventually(lambda: edge_.http_stats().codes == {403: 1}, "it is accounted for")


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going away"), (3000, "done"), (4999, "é" * 61)])
@pytest.mark.parametrize("first", ["client", "server"])
@scenario
async def test_close_codes_are_carried(first: str, code: int, reason: str) -> None:
    ended: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        if first == "server":
            await connection.close(code, reason)
        await connection.wait_closed()
        ended.put_nowait((connection.close_code, connection.close_reason))

    async with serving(handler) as edge_, connecting(edge_) as client:
        if first == "client":
            await client.close(code, reason)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (code, reason)
        assert await ended.get() == (code, reason)
        await accounted(edge_)


@pytest.mark.parametrize("how", ["reset", "half-closed"])
@pytest.mark.parametrize("leaver", ["client", "server"])
@pytest.mark.parametrize("when", ["between messages", "in a message"])
@scenario
async def test_side_that_leaves_without_a_word_is_missed_by_the_other(leaver: str, when: str, how: str) -> None:
    """What was said before still arrives; then the connection ends as an abnormal one, on both sides."""
    ended: asyncio.Queue[int | None] = asyncio.Queue()

    async def leave(connection: ClientConnection | ServerConnection) -> None:
        if how == "reset":
            connection.transport.abort()
        else:
            connection.transport.write_eof()
        await connection.wait_closed()

    async def break_off(connection: ClientConnection | ServerConnection) -> AsyncIterator[str]:
        yield "a beginning"
        await leave(connection)
        yield "too late"

    async def go(connection: ClientConnection | ServerConnection) -> None:
        if when == "between messages":
            await leave(connection)
        else:
            with pytest.raises(ConnectionClosed):
                await connection.send(break_off(connection))

    async def stay(connection: ClientConnection | ServerConnection) -> None:
        if when == "in a message":
            frames = connection.recv_streaming()
            assert await anext(frames) == "a beginning"
            with pytest.raises(ConnectionClosed):
                await anext(frames)
        else:
            with pytest.raises(ConnectionClosed):
                await connection.recv()

    async def handler(connection: ServerConnection) -> None:
        assert await connection.recv() == "hello"
        await connection.send("hello yourself")
        await (go(connection) if leaver == "server" else stay(connection))
        await connection.wait_closed()
        ended.put_nowait(connection.close_code)

    async with serving(handler) as edge_:
        client = await connecting(edge_)
        await client.send("hello")
        assert await client.recv() == "hello yourself"
        await (go(client) if leaver == "client" else stay(client))
        await client.wait_closed()
        assert client.close_code == ABNORMAL
        assert await ended.get() == ABNORMAL
        await accounted(edge_)


@scenario
async def test_abandoned_while_much_is_on_its_way() -> None:
    """Neither side reads any more when the other one goes: what waits in the proxy goes, too."""
    message = b"x" * (8 << 20)

    async def pour(connection: ServerConnection | ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(message)

    async with serving(pour, compression=None) as edge_:
        client = await connecting(edge_, compression=None, max_queue=1)
        pouring = asyncio.create_task(pour(client))
        await eventually(lambda: edge_.http_stats().active == 1, "the tunnel is there")
        await asyncio.wait([pouring], timeout=0.1)
        client.transport.abort()
        await pouring
        await accounted(edge_)
