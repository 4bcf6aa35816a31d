"""Connections that change their protocol: WebSocket, and whatever else both sides agree on."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.edge import Client, Edge, Service, edge, eventually, get, scenario, web
from tests.support.scripted import OK, Connection, Instance, field, replying

ASK = get("/", "Connection: keep-alive, Upgrade", "Upgrade: echo")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n"


async def echo(connection: Connection) -> None:
    """Switch, then say back what comes, until the other side has said all."""
    await connection.until(b"\r\n\r\n")
    await connection.send(SWITCH + b"\r\nhello ")
    while part := await connection.some():
        await connection.send(part)


async def _switched(edge_: Edge, buffer: int | None = None) -> Client:
    client = await edge_.client(buffer=buffer)
    answer = await client.ask(ASK)
    assert answer.status == 101
    assert answer.field(b"upgrade") == b"echo"
    assert await client.exactly(6) == b"hello "
    return client


@scenario
async def test_bytes_pass_both_ways_and_half_close_is_carried_through() -> None:
    async with web(echo) as (edge_, [instance]):
        client = await _switched(edge_)
        assert field(instance.requests[0], b"connection") == b"upgrade"
        assert field(instance.requests[0], b"upgrade") == b"echo"
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
        await client.send(b"last")
        client.eof()
        assert await client.rest() == b"last"
        await eventually(lambda: edge_.http_stats().codes == {101: 1}, "it is accounted for")
        assert edge_.http_stats().received == 7
        assert edge_.http_stats().sent == 13
        assert edge_.idle == 0


@scenario
async def test_what_the_client_says_before_the_switch_goes_through() -> None:
    async with web(echo) as (edge_, _):
        client = await edge_.client()
        await client.send(ASK + b"GET /not-http HTTP/1.1\r\n\r\n")
        assert (await client.reply()).status == 101
        client.eof()
        assert await client.rest() == b"hello GET /not-http HTTP/1.1\r\n\r\n"


@scenario
async def test_refused_upgrade_is_an_ordinary_reply() -> None:
    async with web() as (edge_, _):
        client = await edge_.client()
        assert (await client.ask(ASK)).body == b"ok"
        assert (await client.ask(get())).body == b"ok"


@pytest.mark.parametrize(
    "fields", [("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAA"), ("Upgrade: echo",)]
)
@scenario
async def test_h2c_and_an_upgrade_that_connection_does_not_name_are_not_sent_on(fields: tuple[str, ...]) -> None:
    async with web(replying(SWITCH + b"\r\n")) as (edge_, [instance]):
        assert (await edge_.ask(get("/", *fields))).status == 502
        assert field(instance.requests[0], b"upgrade") is None
        assert field(instance.requests[0], b"http2-settings") is None


@scenario
async def test_reset_is_carried_through() -> None:
    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(SWITCH + b"\r\nhello ")
        await connection.exactly(1)
        connection.reset()

    async with web(script) as (edge_, _):
        client = await _switched(edge_)
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


@scenario
async def test_idle_tunnel_ends_in_time() -> None:
    async with web(echo, upstream={"read_timeout": 0.3}) as (edge_, [instance]):
        client = await _switched(edge_)
        for _ in range(4):
            await asyncio.sleep(0.15)
            await client.send(b"x")
            assert await client.exactly(1) == b"x"
        assert await client.rest() == b""
        await eventually(lambda: instance.open == 0, "the instance's side ends, too")


@scenario
async def test_tunnel_outlives_its_instance_in_the_catalog_and_the_beginning_of_a_drain() -> None:
    async with web(echo) as (edge_, _):
        client = await _switched(edge_)
        idle = await edge_.client()
        await idle.ask(get(host="nobody.test"))
        edge_.apply()
        draining = asyncio.create_task(edge_.drain(5))
        assert await idle.rest() == b""
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
        client.eof()
        assert await client.rest() == b""
        await draining


@scenario
async def test_tunnel_ends_with_the_time_to_drain() -> None:
    async with web(echo) as (edge_, _):
        client = await _switched(edge_)
        await edge_.drain(0.1)
        assert await client.left() == b""


@scenario
async def test_instance_is_not_read_faster_than_the_client_reads() -> None:
    count, written = 32_000_000, 0

    async def script(connection: Connection) -> None:
        nonlocal written
        await connection.until(b"\r\n\r\n")
        await connection.send(SWITCH + b"\r\nhello ")
        while written < count:
            await connection.send(b"x" * 100_000)
            written += 100_000

    async with web(script) as (edge_, _):
        client = await _switched(edge_, buffer=1 << 16)
        await asyncio.sleep(0.3)
        assert 0 < written < count
        client.eof()
        assert len(await client.rest()) == count


@scenario
async def test_instance_is_not_read_ahead_of_a_client_that_did_not_read_before_the_switch() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nX-Filler: " + b"x" * 8000 + b"\r\n\r\n"
    count, written = 32_000_000, 0

    async def script(connection: Connection) -> None:
        nonlocal written
        await connection.until(b"\r\n\r\n")
        await connection.send(early * 15 + SWITCH + b"\r\n")
        while written < count:
            await connection.send(b"x" * 100_000)
            written += 100_000

    async with web(script) as (edge_, _):
        edge_.send_little()
        client = await edge_.client(buffer=4096)
        await client.send(ASK)
        await asyncio.sleep(0.3)
        assert 0 < written < count
        client.eof()
        assert (await client.rest()).endswith(b"\r\n\r\n" + b"x" * count)


@scenario
async def test_real_websocket_client_and_server() -> None:
    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(handler, "127.0.0.1", 0, max_size=None) as server:
        instance = Instance()
        instance.port = next(iter(server.sockets)).getsockname()[1]
        async with edge(Service("web", [instance])) as edge_:
            url = f"ws://web.test:{edge_.port}/chat"
            async with connect(url, host="127.0.0.1", port=edge_.port, max_size=None) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                await client.send(b"x" * 3_000_000)
                assert await client.recv() == b"x" * 3_000_000
                await client.send(iter(["in ", "three ", "fragments"]))
                assert await client.recv() == "in three fragments"
                await asyncio.wait_for(await client.ping(), 2)
            gone = await connect(url, host="127.0.0.1", port=edge_.port)
            gone.transport.abort()
            with pytest.raises(ConnectionClosed):
                await gone.recv()
            await eventually(lambda: edge_.http_stats().codes == {101: 2}, "both are accounted for")


@scenario
async def test_connection_that_was_a_tunnel_is_never_an_idle_one() -> None:
    async with web(echo, replying(OK)) as (edge_, [first, _]):
        client = await _switched(edge_)
        client.eof()
        await client.rest()
        for _ in range(4):
            await edge_.ask(get())
        assert all(b"GET / HTTP/1.1" in request for request in first.requests)
        assert len(first.connections) >= 2
