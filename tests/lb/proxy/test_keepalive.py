"""Connections that serve more than one request: clients' and instances'."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.support.edge import chunked, eventually, get, put, reply, scenario, web
from tests.support.scripted import OK, Connection, field, replying, sending


@pytest.mark.parametrize(
    ("request_", "kept", "said"),
    [
        (get(), True, None),
        (get("/", "Connection: close"), False, b"close"),
        (get(version="1.0"), False, b"close"),
        (get("/", "Connection: Keep-Alive", version="1.0"), True, b"keep-alive"),
        (get("/nowhere", host="other.test"), True, None),
        (get("/nowhere", "Connection: close", host="other.test"), False, b"close"),
        (get("/nowhere", host="other.test", version="1.0"), False, b"close"),
    ],
)
@scenario
async def test_client_connection_is_kept_as_the_client_wishes(request_: bytes, kept: bool, said: bytes | None) -> None:
    async with web() as (edge_, _):
        client = await edge_.client()
        answer = await client.ask(request_)
        assert answer.field(b"connection") == said
        if kept:
            assert (await client.ask(get())).status == 200
        else:
            assert await client.rest() == b""


@scenario
async def test_client_connection_ends_after_its_number_of_requests() -> None:
    async with web(http={"keepalive_requests": 2}) as (edge_, _):
        client = await edge_.client()
        assert (await client.ask(get())).field(b"connection") is None
        assert (await client.ask(get())).field(b"connection") == b"close"
        assert await client.rest() == b""


@scenario
async def test_last_reply_reaches_a_client_that_pipelined_more() -> None:
    async with web(http={"keepalive_requests": 1}) as (edge_, [instance]):
        client = await edge_.client()
        client.writer.write(get("/1") + get("/2") * 100_000)
        assert (await client.reply()).body == b"ok"
        assert await client.rest() == b""
        assert len(instance.requests[0].split(b"\r\n\r\n")) == 2


@scenario
async def test_idle_client_is_closed_in_time_and_in_order() -> None:
    async with web(http={"keepalive_timeout": 0.2}) as (edge_, _):
        client = await edge_.client()
        await client.ask(get())
        assert await client.rest() == b""


@scenario
async def test_pipelined_requests_are_answered_in_order_and_asked_one_at_a_time() -> None:
    at_once = 0

    async def script(connection: Connection) -> None:
        nonlocal at_once
        while True:
            request = await connection.request()
            at_once += 1
            await asyncio.sleep(0.01)
            assert at_once == 1
            at_once -= 1
            await connection.send(reply(request.split(b" ")[1]))

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(b"".join(get(f"/{n}") for n in range(10)) + put(b"abc") + get("/last")[:20])
        assert [(await client.reply()).body for _ in range(11)] == [*(b"/%d" % n for n in range(10)), b"/"]
        await client.send(get("/last")[20:])
        assert (await client.reply()).body == b"/last"
        assert len(instance.connections) == 1


@scenario
async def test_pipelined_requests_without_end_wait_in_the_kernel() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await go_on.wait()
            await connection.send(OK)

    async with web(script) as (edge_, _):
        client = await edge_.client()
        count = 0
        one = get("/", "X-Filler: " + "x" * 4000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while count * len(one) < 64 << 20:
                    await client.send(one)
                    count += 1
        assert count * len(one) < 16 << 20
        go_on.set()
        for _ in range(count):
            assert (await client.reply()).status == 200


@scenario
async def test_pipelined_requests_of_a_client_that_does_not_read_are_each_answered_once() -> None:
    body = b"x" * 400_000
    async with web(replying(reply(body))) as (edge_, [instance]):
        client = await edge_.client(buffer=1 << 16)
        for number in range(40):
            await client.send(get(f"/{number}"))
            await asyncio.sleep(0.002)
        assert len(instance.requests[0].split(b"\r\n\r\n")) < 40  # the proxy waits for the client
        for _ in range(40):
            assert len((await client.reply()).body) == len(body)
        asked = [request.split(b" ")[1] for request in instance.requests[0].split(b"\r\n\r\n")[:-1]]
        assert asked == [b"/%d" % number for number in range(40)]


@scenario
async def test_unrouted_requests_of_a_client_that_does_not_read_are_each_answered_once() -> None:
    async with web(http={"keepalive_requests": 1_000_000}) as (edge_, _):
        client = await edge_.client(buffer=1024)
        one = get("/", "X-Filler: " + "x" * 1000, host="nobody.test")
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while sent < 100_000:
                    sent += 100
                    await client.send(one * 100)
        assert sent < 100_000  # the proxy waits for the client
        client.writer.write(one[:10])
        for _ in range(sent):
            assert (await client.reply()).status == 404
        await client.send(one[10:])
        assert (await client.reply()).status == 404
        assert (await client.ask(one)).status == 404


@scenario
async def test_empty_lines_before_a_request_are_ignored() -> None:
    async with web() as (edge_, _):
        client = await edge_.client()
        await client.send(b"\r\n", b"\r\n" + get() + b"\r\n" + get())
        assert (await client.reply()).status == 200
        assert (await client.reply()).status == 200


@scenario
async def test_instance_connections_are_kept_and_the_last_used_is_taken_first() -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(0.02)
            await connection.send(reply(b"%d" % connection.number))

    async with web(script) as (edge_, [instance]):
        clients = [await edge_.client() for _ in range(3)]
        await asyncio.gather(*(client.ask(get()) for client in clients))
        assert len(instance.connections) == 3
        assert edge_.idle == 3
        last = (await clients[0].ask(get())).body
        assert {(await clients[n % 3].ask(get())).body for n in range(5)} == {last}


@scenario
async def test_instance_connections_are_kept_up_to_a_number() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.02)
        await connection.send(OK)
        await connection.rest()

    async with web(script, upstream={"keepalive_connections": 2}) as (edge_, [instance]):
        await asyncio.gather(*(edge_.ask(get()) for _ in range(5)))
        await eventually(lambda: instance.open == 2, "all but two are closed")
        assert edge_.idle == 2


@scenario
async def test_instance_connection_ends_after_its_number_of_requests() -> None:
    async with web(upstream={"keepalive_requests": 3}) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(6):
            assert (await client.ask(get())).status == 200
        assert [request.count(b"GET ") for request in instance.requests] == [3, 3]


@scenario
async def test_idle_instance_connection_is_closed_in_time() -> None:
    async with web(upstream={"keepalive_timeout": 0.2}) as (edge_, [instance]):
        await edge_.ask(get())
        assert edge_.idle == 1
        await eventually(lambda: instance.open == 0 and edge_.idle == 0, "it is closed")


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"ok", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"x",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok") + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nbody",
    ],
    ids=["close", "1.0", "extra", "two replies", "extra line", "body of 204"],
)
@scenario
async def test_instance_connection_is_not_kept_behind_such_a_reply(answer: bytes) -> None:
    async with web(replying(answer, OK)) as (edge_, [instance]):
        client = await edge_.client()
        first = await client.ask(get("/1"))
        assert first.body in (b"ok", chunked(b"ok"), b"")
        second = await client.ask(get("/2"))
        assert second.body == first.body
        assert await asyncio.wait_for(_count(instance.connections, 2), 2) == 2


async def _count(connections: list[Connection], wanted: int) -> int:
    await eventually(lambda: len(connections) == wanted, f"{wanted} connections")
    return len(connections)


@scenario
async def test_http_1_0_instance_that_keeps_alive_is_used_again() -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
    async with web(replying(answer)) as (edge_, [instance]):
        client = await edge_.client()
        await client.ask(get())
        await client.ask(get())
        assert len(instance.connections) == 1


@scenario
async def test_bytes_on_an_idle_instance_connection_never_reach_a_client() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(OK)
        await asyncio.sleep(0.02)
        await connection.send(reply(b"poison"))
        await connection.rest()

    async with web(script) as (edge_, [instance]):
        await edge_.ask(get())
        assert edge_.idle == 1
        await eventually(lambda: edge_.idle == 0, "the connection is given up")
        assert (await edge_.ask(get())).body == b"ok"
        assert len(instance.connections) == 2


@scenario
async def test_connection_paused_for_a_slow_client_serves_the_next_one() -> None:
    body = b"x" * 2_000_000
    async with web(replying(reply(body), OK)) as (edge_, [instance]):
        slow = await edge_.client(buffer=1024)
        await slow.send(get())
        await asyncio.sleep(0.05)
        assert (await slow.reply()).body == body
        assert (await edge_.ask(get())).body == b"ok"
        assert len(instance.connections) == 1


@scenario
async def test_connection_of_an_instance_that_left_is_closed_after_its_reply() -> None:
    proceed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await proceed.wait()
        await connection.send(OK)
        assert await connection.rest() == b""

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get())
        await eventually(lambda: instance.requests and instance.requests[0], "the request arrives")
        edge_.apply()
        assert (await (await edge_.client()).ask(get())).status == 404
        proceed.set()
        assert (await client.reply()).body == b"ok"
        await eventually(lambda: instance.open == 0, "the connection is closed")
        assert (await client.ask(get())).status == 404


@scenario
async def test_reply_that_ends_with_its_connection_takes_the_connection_with_it() -> None:
    async with web(sending(b"HTTP/1.1 200 OK\r\n\r\n", b"a")) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(2):
            assert (await client.ask(get())).body == chunked(b"a")
        assert len(instance.connections) == 2
        assert field(instance.requests[1], b"host") == b"web.test"
