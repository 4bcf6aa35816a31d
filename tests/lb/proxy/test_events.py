"""Replies that come bit by bit: server-sent events, interim responses, trailers.

Nothing may wait in the proxy for what comes behind it: an instance here goes on only when the client has what it has
said so far.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web as aiohttp_web

from tests.support.edge import LOCAL, Edge, Service, edge, eventually, get, scenario, web
from tests.support.scripted import OK, Connection, Instance, field, replying

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def event(number: int) -> bytes:
    """One server-sent event."""
    return b"id: %d\ndata: event %d\n\n" % (number, number)


class Source:
    """An aiohttp application that streams events, each as soon as it is told to; see `publish`."""

    def __init__(self) -> None:
        self.streams = 0
        """Clients that are listening, as far as the application knows."""
        self._queues: set[asyncio.Queue[bytes]] = set()

    def publish(self, data: bytes) -> None:
        """Send to every listener; empty data ends the streams."""
        for queue in self._queues:
            queue.put_nowait(data)

    async def stream(self, request: aiohttp_web.Request) -> aiohttp_web.StreamResponse:
        """Serve one listener."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        response = aiohttp_web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._queues.add(queue)
        self.streams += 1
        try:
            while data := await queue.get():
                await response.write(data)
        finally:
            self._queues.discard(queue)
            self.streams -= 1
        return response


@contextlib.asynccontextmanager
async def events() -> AsyncIterator[tuple[Edge, Source]]:
    """Run the proxy before a real aiohttp server of events."""
    source = Source()
    application = aiohttp_web.Application()
    application.router.add_get("/events", source.stream)
    runner = aiohttp_web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    site = aiohttp_web.TCPSite(runner, LOCAL, 0)
    await site.start()
    instance = Instance()
    instance.port = runner.addresses[0][1]
    try:
        async with edge(Service("web", [instance])) as edge_:
            yield edge_, source
    finally:
        await runner.cleanup()


# Server-sent events


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@scenario
async def test_events_of_a_real_server_arrive_one_by_one(version: str) -> None:
    async with events() as (edge_, source):
        client = await edge_.client()
        await client.send(get("/events", "Accept: text/event-stream", version=version))
        head = await client.until(b"\r\n\r\n")
        assert field(head, b"content-type") == b"text/event-stream"
        assert field(head, b"transfer-encoding") == (b"chunked" if version == "1.1" else None)
        await eventually(lambda: source.streams == 1, "the instance serves it")
        for number in range(50):
            source.publish(event(number))
            assert (await client.until(b"\n\n")).endswith(event(number))
        source.publish(b"")
        if version == "1.0":
            assert await client.rest() == b""
        else:
            assert await client.until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"
            assert (await client.ask(get("/other"))).status == 404  # the connection was kept


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("head", [CHUNKED, UNTIL_CLOSE], ids=["chunked", "until close"])
@scenario
async def test_events_arrive_one_by_one_whatever_the_framing(head: bytes, version: str) -> None:
    said = asyncio.Queue[bytes]()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(head)
        while data := await said.get():
            await connection.send(b"%x\r\n%b\r\n" % (len(data), data) if head is CHUNKED else data)
        if head is CHUNKED:
            await connection.send(b"0\r\n\r\n")

    async with web(script) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version=version))
        await client.until(b"\r\n\r\n")
        for number in range(20):
            said.put_nowait(event(number))
            assert (await client.until(b"\n\n")).endswith(event(number))
        said.put_nowait(b"")
        if version == "1.1":
            assert await client.until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"
        else:
            assert await client.rest() == b""


@scenario
async def test_every_listener_gets_every_event() -> None:
    listeners = 100
    async with events() as (edge_, source):
        clients = [await edge_.client() for _ in range(listeners)]
        for client in clients:
            await client.send(get("/events"))
        await eventually(lambda: source.streams == listeners, "all listen")
        for number in range(5):
            source.publish(event(number))
            for client in clients:
                assert (await client.until(b"\n\n")).endswith(event(number))
        assert edge_.http_stats().active == listeners


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@scenario
async def test_listener_that_leaves_ends_the_stream_at_the_instance(how: str) -> None:
    async with events() as (edge_, source):
        stays, leaves = await edge_.client(), await edge_.client()
        for client in (stays, leaves):
            await client.send(get("/events"))
        await eventually(lambda: source.streams == 2, "both listen")
        source.publish(event(1))
        await leaves.until(event(1))
        match how:
            case "close":
                await leaves.close()
            case "reset":
                leaves.reset()
            case _:
                leaves.eof()
        await eventually(lambda: source.streams == 1, "the instance is told, with no event to send")
        source.publish(event(2))
        await stays.until(event(2))
        assert edge_.http_stats().codes == {499: 1}


# Interim responses (RFC 9110 section 15.2, RFC 8297)


def hints(number: int) -> bytes:
    """An early hint."""
    return b"HTTP/1.1 103 Early Hints\r\nLink: </%d.css>; rel=preload\r\n\r\n" % number


@scenario
async def test_early_hints_arrive_before_the_reply_is_made() -> None:
    seen = asyncio.Queue[int]()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            for number in range(3):
                await connection.send(hints(number))
                assert await seen.get() == number
            await connection.send(OK)

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(2):
            await client.send(get())
            for number in range(3):
                assert await client.until(b"\r\n\r\n") == hints(number)
                seen.put_nowait(number)
            answer = await client.reply()
            assert (answer.status, answer.body, answer.field(b"link")) == (200, b"ok", None)
        assert len(instance.connections) == 1
        # Hints are no content, in the counters as in the access log.
        assert (edge_.http_stats().codes, edge_.http_stats().sent) == ({200: 2}, 4)


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "apart"])
@scenario
async def test_early_hints_are_not_for_http_1_0(apart: bool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        pieces = [hints(1), hints(2), OK]
        await connection.send(*(pieces if apart else [b"".join(pieces)]))

    async with web(script) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version="1.0"))
        got = await client.rest()
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Link" not in got


@scenario
async def test_early_hints_of_an_instance_that_fails_do_not_keep_the_next_from_being_asked() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(hints(1))

    async with web(script, script, replying(OK)) as (edge_, _):
        client = await edge_.client()
        await client.send(get())
        got = await client.reply()
        while got.status == 103:
            got = await client.reply()
        assert (got.status, got.body) == (200, b"ok")


@scenario
async def test_fields_of_one_connection_do_not_pass_in_hints_either() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nLink: </a>\r\n\r\n"
    async with web(replying(early + OK)) as (edge_, _):
        client = await edge_.client()
        await client.send(get())
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert (await client.reply()).status == 200


# Trailers (RFC 9110 section 6.5, RFC 9112 section 7.1.2)

TRAILERS = b"X-Sum: 1\r\nServer-Timing: db;dur=5\r\n"
LAST = b"2\r\nok\r\n0\r\n" + TRAILERS + b"\r\n"


@scenario
async def test_trailers_pass_both_ways_with_the_field_that_announces_them() -> None:
    announced = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Server-Timing\r\n\r\n"
    request = get("/", "TE: trailers", "Trailer: X-Sum", "Transfer-Encoding: chunked", method="PUT")
    async with web(replying(announced + LAST)) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(2):
            answer = await client.ask(request + LAST)
            assert answer.body == LAST
            assert answer.field(b"trailer") == b"X-Sum, Server-Timing"
        head, body, *again = instance.requests[0].partition(LAST)
        # TE is about the connection with the client alone; trailers pass whether it asks for them or not.
        assert (field(head, b"te"), field(head, b"trailer")) == (None, b"X-Sum")
        assert body == LAST
        assert again[0] == head + LAST


@scenario
async def test_trailers_arrive_in_any_pieces() -> None:
    whole = CHUNKED + LAST
    for cut in range(len(CHUNKED) + 1, len(whole)):

        async def script(connection: Connection, cut: int = cut) -> None:
            await connection.request()
            await connection.send(whole[:cut], whole[cut:])

        async with web(script) as (edge_, _):
            assert (await edge_.ask(get())).body == LAST


@scenario
async def test_reply_may_have_in_its_trailer_what_it_may_have_in_its_head() -> None:
    last = b"2\r\nok\r\n0\r\nX_Sum: 1\r\n\r\n"
    async with web(replying(CHUNKED[:-2] + b"X_Kind: 1\r\n\r\n" + last)) as (edge_, _):
        answer = await edge_.ask(get())
        assert (answer.field(b"x_kind"), answer.body) == (b"1", last)


@scenario
async def test_http_1_0_gets_the_content_without_trailers() -> None:
    async with web(replying(CHUNKED + LAST)) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version="1.0"))
        assert (await client.rest()).partition(b"\r\n\r\n")[2] == b"ok"


FORBIDDEN = [
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Keep-Alive: timeout=5",
    b"Upgrade: h2c",
    b"TE: trailers",
    b"Host: other.test",
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Forwarded-Host: other.test",
]


@pytest.mark.parametrize("trailer", FORBIDDEN, ids=lambda line: line.partition(b":")[0].decode())
@scenario
async def test_request_with_a_forbidden_trailer_is_never_a_whole_one(trailer: bytes) -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        head = get("/", "Transfer-Encoding: chunked", method="PUT")
        await client.send(head, b"2\r\nok\r\n", b"0\r\nX-Sum: 1\r\n" + trailer + b"\r\n\r\n" + get("/smuggled"))
        assert (await client.reply()).status == 400
        client.eof()
        assert await client.rest() == b""
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        [request] = instance.requests
        assert request.endswith(b"\r\n\r\n2\r\nok\r\n")


@pytest.mark.parametrize("trailer", FORBIDDEN, ids=lambda line: line.partition(b":")[0].decode())
@scenario
async def test_reply_with_a_forbidden_trailer_is_cut_before_it(trailer: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(CHUNKED + b"2\r\nok\r\n", b"0\r\n" + trailer + b"\r\n\r\n")
        await connection.rest()

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get())
        got = await client.left()
        assert got.endswith(b"\r\n\r\n2\r\nok\r\n")
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert edge_.idle == 0
