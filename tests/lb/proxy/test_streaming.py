"""Bodies stream with back-pressure; clients that leave; replies that come early."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable

import pytest

from tests.support.edge import Client, Edge, Service, chunked, edge, eventually, get, put, reply, scenario, web
from tests.support.scripted import OK, Connection, Instance, Script, closing_asked, replying, stalled

BIG = 64 << 20
BOUND = 32 << 20
"""More than the kernel's buffers and ours together hold, and far less than `BIG`."""


class Upload:
    """A request with a body of `BIG` octets, sent as fast as it is taken; `written` counts them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.written = 0
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        await self.client.send(get("/", f"Content-Length: {BIG}", method="POST"))
        part = b"x" * (1 << 16)
        while self.written < BIG:
            await self.client.send(part)
            self.written += len(part)


@scenario
async def test_instance_is_not_read_faster_than_the_client_reads() -> None:
    written = 0

    async def script(connection: Connection) -> None:
        nonlocal written
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        part = b"x" * (1 << 16)
        while written < BIG:
            await connection.send(part)
            written += len(part)

    async with web(script) as (edge_, _):
        client = await edge_.client(buffer=1 << 12)
        await client.send(get())
        await client.until(b"\r\n\r\n")
        assert await _settled(lambda: written) < BOUND
        await _drop(client.reader, BIG)
        await eventually(lambda: written == BIG, "all of it is out")


@scenario
async def test_client_is_not_read_faster_than_the_instance_reads() -> None:
    proceed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await proceed.wait()
        await _drop(connection.reader, BIG)
        await connection.send(OK)

    async with web(script, http={"max_body": 0}) as (edge_, _):
        upload = Upload(await edge_.client())
        assert await _settled(lambda: upload.written) < BOUND
        proceed.set()
        assert (await upload.client.reply()).status == 200
        await upload.task


@scenario
async def test_client_is_not_read_while_an_instance_is_dialed_and_nothing_is_lost() -> None:
    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await _drop(connection.reader, BIG)
        await connection.send(OK)

    good = Instance(script)
    with stalled() as silent:
        service = Service("web", [silent, good])
        async with edge(service, http={"max_body": 0}, upstream={"connect_timeout": 1}) as edge_:
            upload = Upload(await edge_.client())
            assert await _settled(lambda: upload.written) < BOUND
            assert (await upload.client.reply()).status == 200
            await upload.task


async def _settled(value: Callable[[], int]) -> int:
    """Return a growing number once it has stood still for a while."""
    last, now = -1, 0
    while not now or last != now:
        last = now
        await asyncio.sleep(0.15)
        now = value()
    return now


async def _drop(reader: asyncio.StreamReader, count: int) -> None:
    """Read so many octets and keep none."""
    while count:
        part = await reader.read(min(count, 1 << 20))
        assert part
        count -= len(part)


@pytest.mark.parametrize("coding", ["length", "chunked"])
@scenario
async def test_large_bodies_arrive_unchanged_both_ways_at_once(coding: str) -> None:
    body = random.Random(1).randbytes(5_000_000)

    async def echo(connection: Connection) -> None:
        request = await connection.request()
        head, _, sent = request.partition(b"\r\n\r\n")
        if b"chunked" in head:
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)
        else:
            await connection.send(reply(sent))

    parts = [body[place : place + 70_001] for place in range(0, len(body), 70_001)]
    wire = body if coding == "length" else chunked(*parts)
    request = put(body) if coding == "length" else get("/", "Transfer-Encoding: chunked", method="PUT") + wire
    async with web(echo, http={"max_body": 0}) as (edge_, _):
        answer = await edge_.ask(request)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(wire).digest()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("when", ["before the head", "in the body", "while sending"])
@scenario
async def test_client_that_leaves_is_499_and_the_instance_is_hung_up_on(how: str, when: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        if when == "in the body":
            await connection.send(reply(b"hello world")[:-6])
        await connection.rest()

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        if when == "while sending":
            await client.send(get("/", "Content-Length: 10", method="POST") + b"hello")
        else:
            await client.send(get())
        await eventually(lambda: instance.requests and instance.requests[0], "the instance is asked")
        if when == "in the body":
            await client.until(b"hello")
        match how:
            case "close":
                await client.close()
            case "reset":
                client.reset()
            case _:
                client.eof()
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert edge_.http_stats().codes == {499: 1}
        assert edge_.http_stats().attempts == {}


def _early(answer: bytes, *, close: bool = False) -> Script:
    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(answer)
        if not close:
            await connection.rest()

    return script


@pytest.mark.parametrize("close", [False, True])
@scenario
async def test_early_reply_reaches_a_client_that_is_still_sending(close: bool) -> None:
    answer = reply(b"too much", status="413 Content Too Large")
    async with web(_early(answer, close=close), replying(OK)) as (edge_, [_, other]):
        client = await edge_.client()
        await client.send(get("/", "Content-Length: 100000", method="POST"), b"x" * 1000)
        got = await client.reply()
        assert (got.status, got.body, got.field(b"connection")) == (413, b"too much", b"close")
        await client.send(b"x" * 50_000 + get("/smuggled"))
        client.eof()
        assert await client.rest() == b""
        assert not other.connections
        assert edge_.idle == 0


@scenario
async def test_body_goes_on_to_an_instance_that_answers_while_it_reads() -> None:
    async def script(connection: Connection) -> None:
        head = await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        body = await connection.body(head)
        await connection.send(body)
        await connection.rest()

    async with web(script) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/", "Content-Length: 10", method="POST"), b"hello")
        await client.until(b"\r\n\r\n")
        await client.send(b"world")
        assert await client.until(b"world") == b"helloworld"
        client.eof()
        assert await client.rest() == b""


@scenario
async def test_nothing_is_left_after_a_storm_of_everything() -> None:
    chance = random.Random(7)

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            match chance.randrange(6):
                case 0:
                    return
                case 1:
                    connection.reset()
                    return
                case 2:
                    await connection.send(OK + b"extra")
                case 3:
                    await connection.send(OK[:-1])
                    return
                case _:
                    await connection.send(OK)

    async def one(edge_: Edge, number: int) -> None:
        client = await edge_.client()
        for _ in range(chance.randrange(1, 6)):
            await client.send(chance.choice([get(), put(b"abc"), put(b"x" * 100_000, method="POST"), get()[:9]]))
            if chance.random() < 0.7:
                async with asyncio.timeout(0.2):
                    await client.some()
        match number % 3:
            case 0:
                client.reset()
            case 1:
                client.eof()
            case _:
                await client.close()

    async with web(*[script] * 4) as (edge_, _):
        await asyncio.gather(*(one(edge_, number) for number in range(60)), return_exceptions=True)
    # what the harness checks at its end is the test


@scenario
async def test_failed_requests_do_not_share_a_connection_with_good_ones() -> None:
    async with web(closing_asked, replying(OK)) as (edge_, [_, good]):
        client = await edge_.client()
        for number in range(20):
            assert (await client.ask(get(f"/{number}"))).body == b"ok"
        asked = [line.split(b" ")[1] for line in good.requests[0].split(b"\r\n") if line.startswith(b"GET ")]
        assert asked == [b"/%d" % number for number in range(20)]
