"""A response on its way, without I/O: whole, split at every octet, and with octets behind it."""

from __future__ import annotations

import pytest

from lb.errors import ProtocolError
from lb.proxy.reply import Reply
from tests.support.edge import chunked

DATE = b"Mon, 23 Nov 2026 04:43:59 GMT"
CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def told(reply: Reply, *pieces: bytes) -> bytes:
    """What the client is told of a response that comes in these pieces."""
    return b"".join(part for piece in pieces for part in reply.feed(piece, lambda: DATE))


# method, minor version of the client, the instance's response, its body for the client, persistent
CASES = {
    "length": (b"GET", 1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "length, 1.0": (b"GET", 0, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "empty": (b"GET", 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "chunked": (b"GET", 1, CODED + chunked(b"hel", b"lo"), chunked(b"hel", b"lo")),
    "chunked, 1.0": (b"GET", 0, CODED + chunked(b"hel", b"lo"), b"hello"),
    "head": (b"HEAD", 1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b""),
    "head, chunked": (b"HEAD", 1, CODED, b""),
    "no content": (b"GET", 1, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
    "not modified": (b"GET", 1, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "no reason": (b"GET", 1, b"HTTP/1.1 299\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "interim": (
        b"GET",
        1,
        b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_whole_split_and_with_surplus(name: str) -> None:
    method, minor, response, body = CASES[name]
    whole = Reply(method, minor, True)
    out = told(whole, response)
    assert whole.done
    assert whole.persistent
    assert out.endswith(b"\r\n\r\n" + body)
    for place in range(1, len(response)):
        split = Reply(method, minor, True)
        assert told(split, response[:place], response[place:]) == out
        assert split.done
    single = Reply(method, minor, True)
    assert told(single, *(response[place : place + 1] for place in range(len(response)))) == out
    more = Reply(method, minor, True)
    assert told(more, response + b"HTTP/1.1 200") == out
    assert (more.done, more.surplus) == (True, b"HTTP/1.1 200")


def test_octets_of_the_head_are_told_apart_from_those_of_the_body() -> None:
    reply = Reply(b"GET", 1, True)
    out = told(reply, b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    assert len(out) - reply.head_octets == 3
    out += told(reply, b"lo")
    assert len(out) - reply.head_octets == 5


def test_response_without_length_ends_with_its_connection() -> None:
    modern, old = Reply(b"GET", 1, True), Reply(b"GET", 0, True)
    response = b"HTTP/1.1 200 OK\r\n\r\nhello"
    assert told(modern, response).endswith(b"Transfer-Encoding: chunked\r\nDate: " + DATE + b"\r\n\r\n5\r\nhello\r\n")
    assert told(old, response).endswith(b"Connection: close\r\n\r\nhello")
    assert (modern.done, old.done) == (False, False)
    assert modern.end()
    assert old.end()
    assert (modern.last(), old.last()) == (b"0\r\n\r\n", b"")
    assert (modern.keep_alive, old.keep_alive) == (True, False)
    assert (modern.delimited, old.delimited) == (True, False)
    assert not modern.persistent


@pytest.mark.parametrize(
    "response",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", CODED + b"5\r\nhello\r\n0\r\n"],
)
def test_response_that_was_cut_is_not_complete(response: bytes) -> None:
    reply = Reply(b"GET", 1, True)
    told(reply, response)
    assert not reply.end()


@pytest.mark.parametrize(
    "response", [CODED + b"zz\r\n", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n"]
)
def test_refused_head_counts_as_not_given_out(response: bytes) -> None:
    reply = Reply(b"GET", 1, True)
    with pytest.raises(ProtocolError) as refused:
        reply.feed(response, lambda: DATE)
    assert refused.value.status == 502
    assert reply.status == 0


def test_switch_is_passed_on_only_as_asked_for() -> None:
    reply = Reply(b"GET", 1, True, upgrade=b"echo")
    out = told(reply, b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\nX: 1\r\n\r\nraw")
    assert out == b"HTTP/1.1 101 Go\r\nX: 1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    assert (reply.switched, reply.surplus) == (True, b"raw")


def test_interim_responses_announce_no_body() -> None:
    reply = Reply(b"GET", 1, True)
    assert told(reply, b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\nX: 1\r\n\r\n") == (
        b"HTTP/1.1 103 Hints\r\nX: 1\r\n\r\n"
    )
    assert told(reply, b"HTTP/1.1 102 Wait\r\nTransfer-Encoding: chunked\r\n\r\n") == b"HTTP/1.1 102 Wait\r\n\r\n"
