"""Hostile clients: one request never becomes two, and nobody gets the reply of another, seen by the raw octets."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lb.proxy.forms import BAD_BODIES, BAD_HEADS, CHUNKED, HOST, LIMITS, get, head, post
from tests.lb.proxy.strict import DATE, Asked, Echo, StrictClient, Told
from tests.support.edge import Edge, chunked, eventually, reply, scenario, web
from tests.support.edge import get as get_path
from tests.support.scripted import Connection, field

SMUGGLED = get_path("/smuggled")
LENGTH = b"Content-Length: %d" % len(SMUGGLED)


def one(method: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """The head of a request for /1."""
    return head(method + b" /1 HTTP/" + version, HOST, *lines)


# Octets, the statuses of their replies, the targets that instances may be asked for. Behind 400 and 501 all ends.
SMUGGLING: dict[str, tuple[bytes, list[int], list[bytes]]] = {
    "CL.TE": (post(b"Content-Length: 50", CHUNKED) + b"0\r\n\r\n" + SMUGGLED, [400], []),
    "TE.CL": (post(CHUNKED, b"Content-Length: 4") + b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n", [400], []),
    "TE.TE, unknown second": (post(CHUNKED, b"Transfer-Encoding: x") + b"0\r\n\r\n" + SMUGGLED, [400], []),
    "TE.TE, obscured": (post(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED, [501], []),
    "TE.TE, vertical tab": (post(b"Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n" + SMUGGLED, [400], []),
    "TE.0, of HTTP/1.0": (one(b"POST", CHUNKED, version=b"1.0") + chunked(SMUGGLED), [400], []),
    "CL.CL": (post(b"Content-Length: 0", LENGTH) + SMUGGLED, [400], []),
    "CL.CL in a list": (post(b"Content-Length: 0, %d" % len(SMUGGLED)) + SMUGGLED, [400], []),
    "CL.0": (one(b"POST", LENGTH) + SMUGGLED, [200], [b"/1"]),
    "CL.0 of GET": (one(b"GET", LENGTH) + SMUGGLED, [200], [b"/1"]),
    "CL.0 of HEAD": (one(b"HEAD", LENGTH) + SMUGGLED, [200], [b"/1"]),
    "CL.0 of OPTIONS *": (head(b"OPTIONS * HTTP/1.1", HOST, LENGTH) + SMUGGLED, [200], [b"*"]),
    "CL.0 by Connection": (one(b"POST", b"Connection: content-length", LENGTH) + SMUGGLED, [200], [b"/1"]),
    "TE.0 by Connection": (
        one(b"POST", b"Connection: transfer-encoding", CHUNKED) + chunked(SMUGGLED),
        [200],
        [b"/1"],
    ),
    "chunks of requests": (one(b"POST", CHUNKED) + chunked(SMUGGLED, SMUGGLED), [200], [b"/1"]),
    "chunk of framing": (one(b"POST", CHUNKED) + chunked(b"\r\n0\r\n\r\n" + SMUGGLED), [200], [b"/1"]),
    "CL.0 by expectation": (one(b"POST", b"Expect: 100-continue", LENGTH) + SMUGGLED, [200], [b"/1"]),
    "CL.0 by obscured expectation": (post(b"Expect: x 100-continue", LENGTH) + SMUGGLED, [417], []),
    "0.CL, underscore": (one(b"POST", b"Content_Length: 99") + SMUGGLED, [200, 200], [b"/1", b"/smuggled"]),
    "0.TE, underscore": (one(b"POST", b"Transfer_Encoding: chunked") + SMUGGLED, [200, 200], [b"/1", b"/smuggled"]),
    "0.CL, fold": (post(b"X: 1", b" Content-Length: 99") + SMUGGLED, [400], []),
    "0.CL, space before the colon": (post(b"Content-Length : 99") + SMUGGLED, [400], []),
    "0.CL, bare CR": (post(b"X: 1\rContent-Length: 99") + SMUGGLED, [400], []),
    "0.CL, bare LF": (post(b"X: 1\nContent-Length: 99") + SMUGGLED, [400], []),
    "TERM.EXT": (post(CHUNKED) + b"5;\nxx\r\nhello\r\n0\r\n\r\n" + SMUGGLED, [400], []),
    "EXT.TERM": (post(CHUNKED) + b"5;a=\n\r\nhello\r\n0\r\n\r\n" + SMUGGLED, [400], []),
    "TERM.SPILL": (post(CHUNKED) + b"5\r\nhello\r0\r\n\r\n" + SMUGGLED, [400], []),
    "SPILL.TERM": (post(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED, [400], []),
    "two octets for CRLF": (post(CHUNKED) + b"5\r\nhello\n\n0\r\n\r\n" + SMUGGLED, [400], []),
    "chunks that end in bare LF": (post(CHUNKED) + b"5\nhello\n0\n\n" + SMUGGLED, [400], []),
    "chunk size that overflows": (post(CHUNKED) + b"1" + b"0" * 15 + b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, [400], []),
    "trailer with a length": (post(CHUNKED) + b"0\r\n" + LENGTH + b"\r\n\r\n" + SMUGGLED, [400], []),
    "trailer with a coding": (post(CHUNKED) + b"0\r\n" + CHUNKED + b"\r\n\r\n" + SMUGGLED, [400], []),
    "trailer of a request": (post(CHUNKED) + b"0\r\n" + SMUGGLED, [400], []),
    "CR LF in an escape": (get_path("/1%0d%0aA:%20b"), [200], [b"/1%0d%0aA:%20b"]),
    "upgrade that is not made": (
        one(b"GET", b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 777") + SMUGGLED,
        [200, 200],
        [b"/1", b"/smuggled"],
    ),
    "upgrade to h2c": (
        one(b"GET", b"Connection: upgrade", b"Upgrade: h2c") + SMUGGLED,
        [200, 200],
        [b"/1", b"/smuggled"],
    ),
    "upgrade with a body": (
        one(b"POST", b"Connection: upgrade", b"Upgrade: x", LENGTH) + SMUGGLED,
        [200],
        [b"/1"],
    ),
    "behind close": (one(b"GET", b"Connection: close") + SMUGGLED, [200], [b"/1"]),
    "behind HTTP/1.0": (one(b"GET", version=b"1.0") + SMUGGLED, [200], [b"/1"]),
    "behind HTTP/0.9": (b"GET /1\r\n\r\n" + SMUGGLED, [400], []),
    "behind CONNECT": (head(b"CONNECT web.test:80 HTTP/1.1", HOST) + SMUGGLED, [405], []),
    "behind an unknown host with a body": (
        head(b"POST / HTTP/1.1", b"Host: nobody.test", LENGTH) + SMUGGLED,
        [404],
        [],
    ),
}


@pytest.mark.parametrize("delivery", ["whole", "octet by octet"])
@pytest.mark.parametrize("name", SMUGGLING)
@scenario
async def test_smuggling_classic_asks_for_no_more_than_it_seems_to(name: str, delivery: str) -> None:
    octets, statuses, targets = SMUGGLING[name]
    echo = Echo()
    async with web(echo) as (edge_, _):
        client = await edge_.client()
        pieces = [octets] if delivery == "whole" else [octets[at : at + 1] for at in range(len(octets))]
        for piece in pieces:
            if not client.writer.is_closing():  # it may be refused before its end
                client.writer.write(piece)
                await asyncio.sleep(0)  # so that each goes out by itself
        strict = StrictClient(client)
        told = [await strict.reply(octets.partition(b" ")[0]) for _ in statuses]
        assert [reply.status for reply in told] == statuses
        assert strict.surplus == b""
        assert (await edge_.ask(get_path("/next"))).body == b"/next"
        assert echo.targets == [*targets, b"/next"]
        if statuses[-1] != 200 or "behind" in name:
            assert await client.rest() == b""


class Move(NamedTuple):
    """What a client sends, the reply it is to get, and the request of it that an instance is to get, if any."""

    octets: bytes
    status: int
    asked: Asked | None = None


@st.composite
def good_moves(draw: st.DrawFn, nonce: str) -> Move:
    """A good request with a target of its own; a body may look like requests or framing."""
    target = b"/" + nonce.encode()
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE"]))
    first = method + b" " + target + b" HTTP/1.1"
    body = b"".join(
        draw(st.lists(st.sampled_from([b"", b"x" * 99, SMUGGLED, b"0\r\n\r\n", b"\r\n", b"\0"]), max_size=3))
    )
    lines = draw(st.lists(st.sampled_from([b"A: b", b"Connection: keep-alive", b"TE: trailers"]), max_size=2))
    match draw(st.sampled_from(["none", "length", "chunked"])):
        case "none":
            return Move(head(first, HOST, *lines), 200, Asked(method, target, b""))
        case "length":
            octets = head(first, HOST, *lines, b"Content-Length: %d" % len(body)) + body
        case _:
            places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
            parts = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
            octets = head(first, HOST, CHUNKED, *lines) + chunked(*filter(None, parts))
    return Move(octets, 200, Asked(method, target, body))


@st.composite
def bad_moves(draw: st.DrawFn) -> Move:
    """A request that is refused, and what would be smuggled behind it."""
    name = draw(st.sampled_from([*BAD_HEADS, *BAD_BODIES]))
    status, octets = BAD_HEADS[name] if name in BAD_HEADS else BAD_BODIES[name]
    return Move((b"" if name in BAD_HEADS else post(CHUNKED)) + octets + SMUGGLED, status)


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[list[Move], list[int]]]:
    """What some clients send at once, and the places where each cuts it."""
    clients = []
    for client in range(draw(st.integers(1, 4))):
        moves = [draw(good_moves(f"{client}-{number}")) for number in range(draw(st.integers(0, 5)))]
        if draw(st.booleans()):
            moves.append(draw(bad_moves()))
        clients.append((moves, draw(st.lists(st.integers(0, 3000), max_size=6))))
    return clients


async def converse(edge_: Edge, moves: list[Move], cuts: list[int]) -> None:
    """Send the moves, cut at these places, and check what comes back to the end of the connection."""
    octets = b"".join(move.octets for move in moves)
    if all(move.asked for move in moves):
        octets += get(b"Connection: close").replace(b"/bad", b"/last")
        moves = [*moves, Move(b"", 200, Asked(b"GET", b"/last", b""))]
    client = await edge_.client()
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    for start, end in itertools.pairwise(places):
        client.writer.write(octets[start:end])
        await asyncio.sleep(0)
    strict = StrictClient(client)
    for move in moves:
        told = await strict.reply(move.asked.method if move.asked else b"GET")
        if move.asked is None:
            assert told.status == move.status
        else:
            assert told == Told(200, b"" if move.asked.method == b"HEAD" else move.asked.target)
    assert await client.rest() == strict.surplus == b""


@given(clients=conversations())
@settings(max_examples=150, derandomize=True, deadline=None)
@scenario
async def test_clients_get_their_own_replies_and_instances_only_good_requests(
    clients: list[tuple[list[Move], list[int]]],
) -> None:
    echo = Echo()
    async with web(echo, http=LIMITS, upstream={"keepalive_connections": 2}) as (edge_, _):
        async with asyncio.TaskGroup() as group:
            for moves, cuts in clients:
                group.create_task(converse(edge_, moves, cuts))
        wanted = [move.asked for moves, _ in clients for move in moves if move.asked]
        assert sorted(asked for asked in echo.asked if asked.target != b"/last") == sorted(wanted)
        assert not any(target in (b"/smuggled", b"/bad") for target in echo.targets)


class SlowEcho(Echo):
    """Sends its replies in pieces, so that a client can leave in the middle of one."""

    async def answer(self, connection: Connection, asked: Asked, octets: bytes) -> bool:
        for start in range(0, len(octets), 20):
            if connection.writer.is_closing():
                return False
            connection.writer.write(octets[start : start + 20])
            await asyncio.sleep(0)
        return True


@scenario
async def test_no_reply_goes_astray_among_clients_that_leave_in_the_middle() -> None:
    chance = random.Random(3)

    async def good(edge_: Edge, number: int) -> None:
        strict = StrictClient(await edge_.client())
        for turn in range(30):
            target = f"/good-{number}-{turn}"
            assert await strict.ask(get_path(target)) == Told(200, target.encode())

    async def bad(edge_: Edge, number: int) -> None:
        for turn in range(30):
            client = await edge_.client()
            octets = get_path(f"/bad-{number}-{turn}") * 3
            client.writer.write(octets[: chance.randrange(1, len(octets) + 1)])
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            chance.choice((client.reset, client.eof, client.writer.close))()

    slow = [SlowEcho(), SlowEcho()]
    async with web(*slow, upstream={"keepalive_connections": 2}) as (edge_, _):
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(good(edge_, number))
                group.create_task(bad(edge_, number))
        await eventually(lambda: edge_.http_stats().active == 0, "all requests end")
        assert edge_.http_stats().codes[200] >= 180


@scenario
async def test_body_that_never_comes_behind_an_expectation_smuggles_nothing() -> None:
    async def script(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        assert SMUGGLED not in await connection.rest()

    async with web(script) as (edge_, [instance]):
        strict = StrictClient(await edge_.client())
        told = await strict.ask(post(b"Expect: 100-continue", LENGTH))
        assert told == Told(403, b"no")
        await strict.client.send(SMUGGLED)  # is it the body, or a request? The connection ends instead
        assert await strict.client.rest() == b""
        assert len(instance.connections) == 1


@scenario
async def test_flood_of_empty_lines_does_not_hold_others_up() -> None:
    async with web(Echo()) as (edge_, _):
        flood = await edge_.client()
        flood.writer.write(b"\r\n" * 500_000)
        clock = asyncio.get_running_loop().time
        worst = 0.0
        for number in range(20):
            start = clock()
            assert (await edge_.ask(get_path(f"/{number}"))).body == b"/%d" % number
            worst = max(worst, clock() - start)
        assert worst < 0.25  # it is a matter of milliseconds, however many lines there are
        flood.reset()


@scenario
async def test_last_reply_of_an_unknown_host_reaches_a_client_that_pipelined_more() -> None:
    async with web(http={"keepalive_requests": 1}) as (edge_, [instance]):
        client = await edge_.client()
        client.writer.write(get_path(host="nobody.test") * 100_000)
        answer = await client.reply()
        assert (answer.status, field(answer.head, b"connection")) == (404, b"close")
        assert await client.rest() == b""
        assert not instance.connections


@scenario
async def test_client_that_pipelines_much_for_an_unknown_host_is_read_from_afterwards() -> None:
    go_on = asyncio.Event()
    answer = reply(b"ok", f"Date: {DATE}")

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            if b"/held" in request:
                await go_on.wait()
            await connection.send(answer)

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        assert (await client.ask(get_path("/first"))).body == b"ok"
        await client.send(get_path("/held"))
        await eventually(lambda: b"/held" in instance.requests[0], "the instance is asked")
        await client.send(get_path(host="nobody.test") * 900)
        await asyncio.sleep(0.05)  # for the edge to have read enough of them, and to read no more
        go_on.set()
        assert (await client.reply()).body == b"ok"
        for _ in range(900):
            assert (await client.reply()).status == 404
        assert (await client.ask(get_path("/last"))).body == b"ok"
