"""Hostile instances: whatever one says, its client is told a legal reply or a cut one, and others get their own."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lb.proxy.strict import DATE, Asked, Echo, StrictClient, Told
from tests.support.edge import Edge, chunked, eventually, get, reply, scenario, web
from tests.support.scripted import OK, Connection, Script

SOON = 0.2
POISON = reply(b"poison")
SMUGGLED = get("/smuggled")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH_5 = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

End = Literal["keep", "close", "reset", "hang"]


class Act(NamedTuple):
    """What an instance does when it is asked for /evil, and what its client is to be told for that.

    The pieces are sent one by one; in the `end` the connection is kept and served on, closed, reset, or read from
    without another word. `reused` tells that nothing speaks against another request on it.
    """

    pieces: Sequence[bytes]
    told: Told
    end: End = "keep"
    reused: bool = False
    method: str = "GET"


class Hostile(Echo):
    """Echoes, but plays an act when it is asked for /evil."""

    def __init__(self, pieces: Sequence[bytes], end: End) -> None:
        super().__init__()
        self._pieces = pieces
        self._end = end
        self.played = 0

    def has_played(self, times: int) -> bool:
        """Whether the act was played so often."""
        return self.played >= times

    async def answer(self, connection: Connection, asked: Asked, octets: bytes) -> bool:
        if asked.target != b"/evil":
            return await super().answer(connection, asked, octets)
        try:
            await connection.send(*self._pieces)
        finally:
            self.played += 1
        if self._end == "reset":
            connection.reset()
        elif self._end == "hang":
            await connection.rest()
        return self._end == "keep"


WHOLE = Told(200, b"hello")
CUT = Told(200, b"hel", whole=False)
BAD = Told(502, b"")
LATE = Told(504, b"")
NOTHING = Told(200, b"")


def fields(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A response head of these lines, with `hello` behind it."""
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", b"hello"))


# Replies that are whole, and what is behind them
WHOLE_REPLIES: dict[str, Act] = {
    "good": Act([LENGTH_5 + b"hello"], WHOLE, reused=True),
    "octet by octet": Act([bytes([octet]) for octet in LENGTH_5 + b"hello"], WHOLE, reused=True),
    "chunks octet by octet": Act([bytes([octet]) for octet in CHUNKED + chunked(b"he", b"llo")], WHOLE, reused=True),
    "100 thrice": Act([b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + LENGTH_5 + b"hello"], WHOLE, reused=True),
    "103 sixteen times": Act([*[EARLY_HINTS] * 16, LENGTH_5 + b"hello"], WHOLE, reused=True),
    "1xx of no meaning": Act([b"HTTP/1.1 199 Huh\r\n\r\n" + LENGTH_5 + b"hello"], WHOLE, reused=True),
    "octets behind a length": Act([LENGTH_5 + b"hello" + b"world"], WHOLE),
    "octets behind a length, later": Act([LENGTH_5 + b"hello", b"world"], WHOLE),
    "CRLF behind a length": Act([LENGTH_5 + b"hello\r\n"], WHOLE),
    "octets behind the last chunk": Act([CHUNKED + chunked(b"hello") + b"x"], WHOLE),
    "two replies at once": Act([LENGTH_5 + b"hello" + POISON], WHOLE),
    "two replies, one later": Act([LENGTH_5 + b"hello", POISON], WHOLE),
    "two replies, cut in the second": Act([LENGTH_5 + b"hello" + POISON[:9], POISON[9:]], WHOLE),
    "reply, then half a reply": Act([LENGTH_5 + b"hello" + POISON[:30]], WHOLE),
    "reply, then an interim one": Act([LENGTH_5 + b"hello" + EARLY_HINTS], WHOLE),
    "reply, then close": Act([LENGTH_5 + b"hello"], WHOLE, "close"),
    "reply, then reset": Act([LENGTH_5 + b"hello"], WHOLE, "reset"),
    "close is said and not done": Act([reply(b"hello", "Connection: close")], WHOLE),
    "close in a list": Act([reply(b"hello", "Connection: keep-alive, close")], WHOLE),
    "HTTP/1.0 that keeps open": Act([b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"], WHOLE),
    "ended by close": Act([UNTIL_CLOSE + b"hel", b"lo"], WHOLE, "close"),
    "ended by close, HTTP/1.0": Act([b"HTTP/1.0 200 OK\r\n\r\nhello"], WHOLE, "close"),
    "length of 0 with a body": Act([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON], NOTHING),
    "204 with a body": Act([fields(b"Content-Length: 5", status=b"204 No Content")], Told(204, b"")),
    "204 with chunks": Act([CHUNKED.replace(b"200", b"204") + chunked(b"hello")], Told(204, b"")),
    "204 with a reply": Act([fields(status=b"204 No Content")[:-5] + POISON], Told(204, b"")),
    "304 with a body": Act([fields(b"Content-Length: 5", status=b"304 Not Modified")], Told(304, b"")),
    "304 with a reply": Act([fields(status=b"304 Not Modified")[:-5] + POISON], Told(304, b"")),
    "HEAD with a body": Act([LENGTH_5 + b"hello"], NOTHING, method="HEAD"),
    "HEAD with a body, later": Act([LENGTH_5, b"hello"], NOTHING, method="HEAD"),
    "HEAD with chunks": Act([CHUNKED + chunked(b"hello")], NOTHING, method="HEAD"),
    "HEAD with a reply": Act([LENGTH_5 + POISON], NOTHING, method="HEAD"),
    "HEAD without a length": Act([UNTIL_CLOSE], NOTHING, reused=True, method="HEAD"),
}

# Replies that are not whole
CUT_REPLIES: dict[str, Act] = {
    "short of its length, close": Act([LENGTH_5 + b"hel"], CUT, "close"),
    "short of its length, reset": Act([LENGTH_5, b"hel"], CUT, "reset"),
    "short of its length, silence": Act([LENGTH_5, b"hel"], CUT, "hang"),
    "close in mid chunk": Act([CHUNKED + b"5\r\nhel"], CUT, "close"),
    "reset in mid chunk": Act([CHUNKED, b"5\r\nhel"], CUT, "reset"),
    "silence in mid chunk": Act([CHUNKED, b"5\r\nhel"], CUT, "hang"),
    "close in a chunk size": Act([CHUNKED + b"3\r\nhel\r\n5"], CUT, "close"),
    "close behind a chunk": Act([CHUNKED + b"3\r\nhel\r\n"], CUT, "close"),
    "close behind the last size": Act([CHUNKED + b"3\r\nhel\r\n0\r\n"], CUT, "close"),
    "close in a trailer": Act([CHUNKED + b"3\r\nhel\r\n0\r\nX: "], CUT, "close"),
    "reset where close would end it": Act([UNTIL_CLOSE, b"hel"], CUT, "reset"),
    "silence where close would end it": Act([UNTIL_CLOSE, b"hel"], CUT, "hang"),
    "bad chunk size, later": Act([CHUNKED + b"3\r\nhel\r\n", b"zz\r\n"], CUT),
    "chunk longer than its size, later": Act([CHUNKED + b"3\r\nhel", b"lo\r\n0\r\n\r\n"], CUT),
    "bare LF behind a chunk, later": Act([CHUNKED + b"3\r\nhel", b"\n0\r\n\r\n"], CUT),
    "overflowing chunk size, later": Act([CHUNKED + b"3\r\nhel\r\n", b"f" * 16 + b"\r\n"], CUT),
    "length in a trailer, later": Act([CHUNKED + b"3\r\nhel\r\n", b"0\r\nContent-Length: 5\r\n\r\n"], CUT),
    "reply in place of a chunk, later": Act([CHUNKED + b"3\r\nhel\r\n", POISON], CUT),
}

# Replies of which nothing may be seen
BAD_REPLIES: dict[str, Act] = {
    "nothing, close": Act([], BAD, "close"),
    "nothing, reset": Act([], BAD, "reset"),
    "nothing, silence": Act([], LATE, "hang"),
    "half a head, close": Act([LENGTH_5[:20]], BAD, "close"),
    "half a head, reset": Act([LENGTH_5[:20]], BAD, "reset"),
    "half a head, silence": Act([LENGTH_5[:20]], LATE, "hang"),
    "interim reply, close": Act([EARLY_HINTS], BAD, "close"),
    "interim reply, reset": Act([EARLY_HINTS], BAD, "reset"),
    "interim reply, silence": Act([EARLY_HINTS], LATE, "hang"),
    "interim reply with a body": Act([fields(b"Content-Length: 5", status=b"103 Hints") + POISON], BAD),
    "1xx without end": Act([EARLY_HINTS] * 17, BAD),
    "1xx without end, at once": Act([b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000], BAD),
    "switch that nobody asked for": Act([b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + POISON], BAD),
    "head without end": Act([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000], BAD),
    "line without end": Act([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000], BAD),
    "reason without end": Act([b"HTTP/1.1 200 " + b"y" * 300_000], BAD),
    "bad chunk with its head": Act([CHUNKED + b"zz\r\n"], BAD),
    "page without a head": Act([b"<html>hello</html>"], BAD),
    "another protocol": Act([b"SSH-2.0-OpenSSH_9.2\r\n"], BAD),
    "request in place of a reply": Act([get("/evil")], BAD),
    "empty lines in front": Act([b"\r\n\r\n" + POISON], BAD),
    **{
        f"status line {line!r}": Act([line + b"\r\nContent-Length: 5\r\n\r\nhello"], BAD)
        for line in (
            *(b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.1", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK"),
            *(b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1  200 OK"),
            *(b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 O\0K", b" HTTP/1.1 200 OK", b"ICY 200 OK"),
        )
    },
    **{
        f"fields {lines!r}": Act([fields(*lines)], BAD)
        for lines in (
            (b"Content-Length: 5", b"Content-Length: 5"),
            (b"Content-Length: 5", b"Content-Length: 6"),
            (b"Content-Length: 5, 5",),
            (b"Content-Length: +5",),
            (b"Content-Length: 0x5",),
            (b"Content-Length:",),
            (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked, chunked",),
            (b"Transfer-Encoding: gzip, chunked",),
            (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding:\x0bchunked",),
            (b"Content-Length : 5",),
            (b"Content-Length: 5", b" 6"),
            (b"Content-Length: 5\nX: 1",),
            (b"Content-Length: 5\rX: 1",),
            (b"Content-Length: 5", b"X: a\0b"),
            (b"Content-Length: 5", b"X Y: 1"),
            (b"Content-Length: 5", b": 1"),
            (b"Content-Length: 5", b"X"),
        )
    },
    "bare LF for every line's end": Act([b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"], BAD),
    "chunked HTTP/1.0": Act([CHUNKED.replace(b"1.1", b"1.0") + chunked(b"hello")], BAD),
}

ACTS = WHOLE_REPLIES | CUT_REPLIES | BAD_REPLIES


async def others_are_served(edge_: Edge, *clients: StrictClient) -> None:
    """These clients and a new one get their own replies, twice."""
    everybody = [*clients, StrictClient(await edge_.client())]
    for turn in range(2):
        for number, client in enumerate(everybody):
            path = f"/good-{number}-{turn}"
            assert await client.ask(get(path)) == Told(200, path.encode())


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", ACTS)
@scenario
async def test_act_of_an_instance_harms_nobody_else(name: str, version: str) -> None:
    act = ACTS[name]
    hostile = Hostile(act.pieces, act.end)
    async with web(hostile, upstream={"read_timeout": SOON}) as (edge_, [instance]):
        client = StrictClient(await edge_.client())
        told = await client.ask(get("/evil", "Connection: keep-alive", method=act.method, version=version))
        assert told._replace(body=b"") == act.told._replace(body=b"") if told.status >= 500 else told == act.told
        await eventually(lambda: hostile.played and edge_.idle == act.reused, "the edge has heard it all")
        assert not (told.whole and client.surplus)
        stays = told.whole and version == "1.1"
        await others_are_served(edge_, *([client] if stays else []))
        assert len(instance.connections) == (1 if act.reused else 2)
        assert hostile.targets.count(b"/evil") == 1


@pytest.mark.parametrize("name", ACTS)
@scenario
async def test_act_on_a_kept_connection_harms_nobody_else_however_often_it_was_seen(name: str) -> None:
    act = ACTS[name]
    dated = [piece.replace(b" 200 OK\r\n", f" 200 OK\r\nDate: {DATE}\r\n".encode()) for piece in act.pieces]
    hostile = Hostile(dated, act.end)
    async with web(hostile, upstream={"read_timeout": SOON / 2}) as (edge_, _):
        first = StrictClient(await edge_.client())
        for turn in (1, 2):
            assert await first.ask(get("/first")) == Told(200, b"/first")
            second = StrictClient(await edge_.client())
            told = await second.ask(get("/evil", method=act.method))
            assert (told.status, told.whole) == (act.told.status, act.told.whole)
            assert told.status != 200 or told.body == act.told.body
            await eventually(functools.partial(hostile.has_played, turn), "the act is over")
            await eventually(lambda: edge_.idle == act.reused, "the edge has heard it all")
            await others_are_served(edge_, first, *([second] if told.whole else []))


@pytest.mark.parametrize("upgrade", ["", "websocket"])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 X\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
@scenario
async def test_switch_without_a_protocol_opens_no_tunnel(head: bytes, upgrade: str) -> None:
    async with web(Hostile([head + POISON], "keep")) as (edge_, _):
        client = StrictClient(await edge_.client())
        wish = ("Connection: upgrade", f"Upgrade: {upgrade}") if upgrade else ()
        assert (await client.ask(get("/evil", *wish))).status == 502
        await others_are_served(edge_, client)


def early(pieces: Sequence[bytes], end: End) -> Script:
    """Answer the first request as soon as its head is there, with these pieces, and end so; echo all others."""
    echo = Echo()

    async def script(connection: Connection) -> None:
        if connection.number:
            await echo(connection)
            return
        await connection.until(b"\r\n\r\n")
        await connection.send(*pieces)
        if end == "reset":
            connection.reset()
        elif end != "close":
            await connection.rest()

    return script


@pytest.mark.parametrize("rest", [b"", b"x" * len(SMUGGLED), SMUGGLED * 2], ids=["stops", "goes on", "smuggles"])
@pytest.mark.parametrize("end", ["keep", "close", "reset"])
@pytest.mark.parametrize(
    "pieces",
    [[OK], [OK[:20], OK[20:]], [CHUNKED + chunked(b"ok")], [OK + POISON], [OK, POISON]],
    ids=["whole", "in pieces", "chunked", "two at once", "two"],
)
@scenario
async def test_early_reply_is_the_last_on_both_connections(pieces: list[bytes], end: End, rest: bytes) -> None:
    head = get("/evil", f"Content-Length: {len(SMUGGLED)}", method="POST")
    async with web(early(pieces, end)) as (edge_, [instance]):
        client = StrictClient(await edge_.client())
        assert await client.ask(head) == Told(200, b"ok")
        await client.client.send(rest)
        assert await client.client.left() == client.surplus == b""
        await eventually(lambda: edge_.idle == 0 and instance.open == 0, "the instance is hung up on")
        await others_are_served(edge_)
        assert len(instance.connections) == 2
        assert not any(b"/smuggled" in request.partition(b"\r\n\r\n")[0] for request in instance.requests)


@scenario
async def test_reply_cut_anywhere_is_the_same_reply_under_a_head_that_was_seen_before() -> None:
    head = f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Length: 100\r\nX: ".encode()
    head += b"x" * (102 - len(head))  # so long that the beginning of a reply is as long as its body would be
    body = bytes(range(100))
    whole = head + b"\r\n\r\n" + body
    places = iter(range(1, len(whole)))

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(whole)
            for place in places:
                await connection.request()
                connection.writer.write(whole[:place])
                await asyncio.sleep(0.002)
                connection.writer.write(whole[place:])

    async with web(script) as (edge_, [instance]):
        client = StrictClient(await edge_.client())
        for _ in whole:
            assert await client.ask(get()) == Told(200, body)
        assert len(instance.connections) == 1


FRAGMENTS = [
    *(LENGTH_5, CHUNKED, UNTIL_CLOSE, EARLY_HINTS, POISON, OK, b"hello", b"hel", chunked(b"hello"), b"5\r\nhello\r\n"),
    *(b"0\r\n\r\n", b"0\r\n", b"\r\n", b"\n", b"\0", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"X: y\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(b"HTTP/1.1 304 Not Modified\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
]


@st.composite
def improvised(draw: st.DrawFn) -> tuple[list[bytes], End, str, str]:
    """Pieces of replies in any order, cut anywhere, and any end; a method and a version to ask with."""
    octets = b"".join(draw(st.lists(st.sampled_from(FRAGMENTS), max_size=7)))
    places = sorted({0, len(octets), *draw(st.lists(st.integers(0, len(octets)), max_size=3))})
    pieces = [octets[start:end] for start, end in itertools.pairwise(places)]
    end: End = draw(st.sampled_from(["keep", "close", "reset"]))
    return pieces, end, draw(st.sampled_from(["GET", "HEAD", "POST"])), draw(st.sampled_from(["1.1", "1.0"]))


@given(improvised())
@settings(max_examples=100, derandomize=True, deadline=None)
@scenario
async def test_improvised_reply_is_legal_or_cut_and_others_get_their_own(
    act: tuple[list[bytes], End, str, str],
) -> None:
    pieces, end, method, version = act
    hostile = Hostile(pieces, end)
    async with web(hostile, upstream={"read_timeout": SOON / 4}) as (edge_, _):
        client = StrictClient(await edge_.client())
        told = await client.ask(get("/evil", method=method, version=version))
        assert told.status in (200, 204, 304, 502, 504)
        await eventually(lambda: hostile.played, "the act is over")
        await asyncio.sleep(0.005)  # for the edge to hear of its last octets
        kept = told.whole and version == "1.1" and client.surplus == b"" and not client.client.reader.at_eof()
        await others_are_served(edge_, *([client] if kept else []))
