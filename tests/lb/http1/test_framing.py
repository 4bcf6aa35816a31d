"""Where a body ends: each case comes whole, cut at every octet, and with the next message behind it."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import ProtocolError
from lb.http1.framing import Body, ChunkedBody, CloseBody, LengthBody
from tests.lb.http1.reading import deliveries

NEXT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"0\r\n\r\n"


def take_all(body: Body, pieces: list[bytes]) -> bytes:
    """Feed pieces; return what does not belong to the body."""
    rest = b""
    for piece in pieces:
        rest += piece[body.take(piece) :] if not body.done else piece
    return rest


# Length


@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_length_is_counted_to_its_end(length: int) -> None:
    for pieces in deliveries(b"x" * length + NEXT):
        body = LengthBody(length)
        assert take_all(body, pieces) == NEXT
        assert (body.done, body.octets, body.end()) == (True, length, True)


def test_a_length_of_0_takes_nothing() -> None:
    body = LengthBody(0)
    assert body.done
    assert body.take(NEXT) == 0
    assert body.octets == 0


def test_a_body_that_is_cut_short_is_not_whole() -> None:
    body = LengthBody(3)
    assert body.take(b"ab") == 2
    assert (body.done, body.octets, body.end()) == (False, 2, False)


def test_offsets_count_from_the_beginning_of_the_data() -> None:
    assert LengthBody(3).take(b"headabctail", 4) == 7
    assert ChunkedBody().take(b"head1\r\na\r\n0\r\n\r\ntail", 4) == 15
    assert CloseBody().take(b"headabc", 4) == 7


# Until close


def test_closing_ends_a_body_without_any_other_end() -> None:
    body = CloseBody()
    assert take_all(body, [b"ab", b"", NEXT]) == b""
    assert (body.done, body.octets) == (False, 2 + len(NEXT))
    assert body.end()
    assert body.done


# Chunked (RFC 9112 section 7.1)

GOOD_CHUNKED: dict[str, tuple[bytes, bytes]] = {
    "empty": (LAST, b""),
    "one chunk": (b"5\r\nhello\r\n" + LAST, b"hello"),
    "two chunks": (b"1\r\na\r\n2\r\nbc\r\n" + LAST, b"abc"),
    "content that looks like framing": (b"5\r\n0\r\n\r\n\r\n" + LAST, b"0\r\n\r\n"),
    "hexadecimal in both cases": (
        b"a\r\n" + b"x" * 10 + b"\r\nB\r\n" + b"y" * 11 + b"\r\n" + LAST,
        b"x" * 10 + b"y" * 11,
    ),
    "zeros in front": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "15 digits": (b"000000000000001\r\na\r\n" + LAST, b"a"),
    "padded size": (b"1  \t\r\nx\r\n" + LAST, b"x"),
    "extension": (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
    "extensions with white space": (b"1 ; a = b\t;c\r\nx\r\n" + LAST, b"x"),
    "quoted extension": (b'1;a="b;\\"c\\\\ \t"\r\nx\r\n' + LAST, b"x"),
    "trailer": (b"1\r\nx\r\n0\r\nA: b\r\n\r\n", b"x"),
    "trailer of many fields": (b"0\r\nA: b\r\nC:\r\nDate: now\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", GOOD_CHUNKED)
def test_good_chunked_bodies(name: str) -> None:
    data, content = GOOD_CHUNKED[name]
    for tail in (b"", NEXT):
        for pieces in deliveries(data + tail):
            payload: list[bytes] = []
            body = ChunkedBody(payload)
            assert take_all(body, pieces) == tail, pieces
            assert body.done
            assert (b"".join(payload), body.octets) == (content, len(content)), pieces


@pytest.mark.parametrize("name", GOOD_CHUNKED)
def test_a_chunked_body_is_not_whole_before_its_last_octet(name: str) -> None:
    data, _ = GOOD_CHUNKED[name]
    for cut in range(len(data)):
        body = ChunkedBody()
        assert body.take(data[:cut]) == cut
        assert not body.done
        assert not body.end()


SIZE = "a malformed chunk size or extension"
BAD_CHUNKED: dict[str, tuple[bytes, str]] = {
    "no size": (b"\r\n", SIZE),
    "extension without a size": (b";a\r\n", SIZE),
    "no digit": (b"g\r\n", SIZE),
    "0x": (b"0x1\r\n", SIZE),
    "sign": (b"+1\r\na\r\n", SIZE),
    "minus": (b"-1\r\na\r\n", SIZE),
    "underscore": (b"1_0\r\n", SIZE),
    "16 digits": (b"0000000000000001\r\na\r\n", SIZE),
    "white space in front": (b" 1\r\na\r\n", SIZE),
    "two sizes": (b"1 1\r\na\r\n", SIZE),
    "bare LF behind a size": (b"1\na\r\n", "bare LF in a chunked body"),
    "bare CR in a size line": (b"1\r\r\n", SIZE),
    "bare CR in an extension": (b"1;a=\rb\r\n", SIZE),
    "bare LF in an extension": (b"1;a\n\r\n", "bare LF in a chunked body"),
    "NUL in a size line": (b"1\0\r\n", SIZE),
    "control character in an extension": (b'1;a="\x01"\r\n', SIZE),
    "extension without a name": (b"1;\r\n", SIZE),
    "extension with an empty value": (b"1;a=\r\n", SIZE),
    "extension with an open quote": (b'1;a="b\r\n', SIZE),
    "extension with text behind its quote": (b'1;a="b"c\r\n', SIZE),
    "content longer than its size": (b"1\r\nab\r\n", "a chunk that is longer than its size"),
    "content without CRLF": (b"1\r\na1\r\n", "a chunk that is longer than its size"),
    "bare LF behind content": (b"1\r\na\n0\r\n\r\n", "a chunk that is longer than its size"),
    "bare CR behind content": (b"1\r\na\r0\r\n\r\n", "a chunk that is longer than its size"),
    "bare LF at the end": (b"0\r\n\n", "bare LF in a chunked body"),
    "bare LF in a trailer": (b"0\r\nA: b\n\r\n", "bare LF in a chunked body"),
    "bare CR in a trailer": (b"0\r\nA: b\rc\r\n\r\n", "bare CR in a header field value"),
    "bare CR at the end": (b"0\r\n\rX\r\n", "a header line without a colon"),
    "trailer without a colon": (b"0\r\nGET / HTTP/1.1\r\n", "a header line without a colon"),
    "obs-fold in a trailer": (b"0\r\nA: b\r\n c\r\n", "obsolete line folding in the header"),
    "space before the colon in a trailer": (b"0\r\nA : b\r\n", "white space before the colon of a header line"),
}
for field in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"TE", b"X-Forwarded-For", b"Expect"):
    BAD_CHUNKED[f"{field.decode()} in a trailer"] = (
        b"0\r\n%b: 1\r\n\r\n" % field,
        "a field that must not stand in a trailer",
    )


@pytest.mark.parametrize("name", BAD_CHUNKED)
def test_bad_chunked_bodies(name: str) -> None:
    data, reason = BAD_CHUNKED[name]
    for tail in (b"", NEXT):
        for pieces in deliveries(data + tail):
            with pytest.raises(ProtocolError) as refused:
                take_all(ChunkedBody(), pieces)
            assert (refused.value.status, refused.value.reason) == (400, reason), pieces


def of_size(octets: int) -> bytes:
    """A size line with an extension, of so many octets."""
    return b"1;" + b"a" * (octets - 4) + b"\r\n"


def test_a_size_line_is_bounded() -> None:
    body = ChunkedBody()
    body.take(of_size(1024))
    with pytest.raises(ProtocolError, match="a chunk line over its limit"):
        ChunkedBody().take(of_size(1025))
    with pytest.raises(ProtocolError, match="a chunk line over its limit"):
        take_all(ChunkedBody(), [b"0" * 512] * 3)


def test_extensions_are_bounded_in_all() -> None:
    chunk = of_size(1024) + b"x\r\n"
    body = ChunkedBody()
    with pytest.raises(ProtocolError, match="chunk extensions over their limit"):
        take_all(body, [chunk] * 20)
    assert body.octets == 16


def test_chunks_without_extensions_are_not_bounded() -> None:
    body = ChunkedBody()
    take_all(body, [b"1\r\nx\r\n" * 100] * 1000)
    assert body.octets == 100_000


def test_a_trailer_is_bounded() -> None:
    line = b"A: " + b"b" * 507 + b"\r\n"
    whole = b"0\r\n" + line * 15 + b"A: " + b"b" * 505 + b"\r\n\r\n"
    assert take_all(ChunkedBody(), [whole + NEXT]) == NEXT
    for pieces in (
        [whole.replace(b"\r\n\r\n", b"c\r\n\r\n")],
        [b"0\r\nA: ", *[b"b" * 1000] * 9],
        [b"0\r\n", *[line] * 17],
    ):
        with pytest.raises(ProtocolError, match="a trailer over its limit"):
            take_all(ChunkedBody(), pieces)


@pytest.mark.parametrize("octet", [b"0", b";", b'1;a="\\', b"1;a=", b"1" + b" " * 1000])
def test_a_hostile_size_line_costs_no_more_than_its_length(octet: bytes) -> None:
    line = (octet * 1024)[:1020] + b"\0\r\n"
    start = time.perf_counter()
    for _ in range(100):
        with pytest.raises(ProtocolError):
            ChunkedBody().take(line)
    assert time.perf_counter() - start < 0.5


# Against a straightforward reference


def reference(data: bytes) -> tuple[bytes, bytes] | None:
    """Content and rest of a legal chunked body without extensions and trailers, read all at once."""
    content = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return None
        length = int(size, 16)
        content += data[:length]
        if data[length : length + 2] != b"\r\n":
            return None
        data = data[length + 2 :]
        if not length:
            return content, data


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at these places, taken modulo its length."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    tail=st.binary(max_size=20),
    cuts=st.lists(st.integers(min_value=0), max_size=8),
)
def test_chunked_finds_what_the_reference_finds(parts: list[bytes], tail: bytes, cuts: list[int]) -> None:
    data = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + LAST + tail
    payload: list[bytes] = []
    body = ChunkedBody(payload)
    rest = take_all(body, cut(data, cuts))
    assert (b"".join(payload), rest) == reference(data) == (b"".join(parts), tail)
    assert body.octets == sum(map(len, parts))


@given(
    data=st.lists(
        st.sampled_from([b"0", b"1", b"2", b"\r\n", b"\r", b"\n", b";", b"a", b"x", b" ", b":", b'"']), max_size=25
    ).map(b"".join),
    cuts=st.lists(st.integers(min_value=0), max_size=8),
)
def test_cuts_change_nothing_for_whatever_comes(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for pieces in ([data], cut(data, cuts)):
        payload: list[bytes] = []
        body = ChunkedBody(payload)
        try:
            rest: object = take_all(body, pieces)
        except ProtocolError as error:
            rest = error.reason
        outcomes.append((rest, body.done, b"".join(payload)))
    assert outcomes[0] == outcomes[1]


@given(length=st.integers(0, 200), data=st.binary(max_size=200), cuts=st.lists(st.integers(min_value=0), max_size=8))
def test_length_finds_what_slicing_finds(length: int, data: bytes, cuts: list[int]) -> None:
    body = LengthBody(length)
    assert take_all(body, cut(data, cuts)) == data[length:]
    assert (body.octets, body.done) == (min(length, len(data)), len(data) >= length)


def test_a_long_body_in_small_chunks_is_followed_in_linear_time() -> None:
    chance = random.Random(1)
    data = b"".join(b"%x\r\n%b\r\n" % (n, b"x" * n) for n in (chance.randrange(1, 30) for _ in range(20_000))) + LAST
    start = time.perf_counter()
    body = ChunkedBody()
    assert take_all(body, [data]) == b""
    assert body.done
    assert time.perf_counter() - start < 2
