"""Chunked bodies beside h11 and httptools: where they differ from us is listed here, with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lb.http1.differences import Difference, Peer, reason
from tests.lb.http1.peers import read_chunked, read_chunked_h11, read_chunked_httptools

TRAILER_FIELDS = Difference(
    "fields about framing, routing or the connection must not stand in a trailer (RFC 9110 section 6.5.1)",
    b"0\r\nHost: b\r\n\r\n",
    reason("a field that must not stand in a trailer"),
)
EXTENSIONS = Difference(
    "extensions are held to their grammar (RFC 9112 section 7.1.1), sizes to 15 digits",
    b"1;a=\r\nx\r\n0\r\n\r\n",
    reason("a malformed chunk size or extension"),
)

PEERS = {
    "h11": Peer(
        read_chunked,
        read_chunked_h11,
        we_refuse=(
            TRAILER_FIELDS,
            EXTENSIONS,
            Difference("h11 takes a bare LF for a line's end in trailers", b"0\r\n\n", reason("bare LF")),
            Difference("obs-fold is refused in trailers, too", b"0\r\nA: b\r\n c\r\n\r\n", reason("obsolete")),
            Difference(
                "control characters are refused in trailers, too",
                b"0\r\nA: \x01\r\n\r\n",
                reason("a control character"),
            ),
        ),
        it_refuses=(
            Difference(
                "white space before a semicolon is legal (RFC 9112 section 7.1.1)",
                b"1 ; a = b\r\nx\r\n0\r\n\r\n",
                reason("illegal chunk header"),
            ),
        ),
    ),
    "httptools": Peer(
        read_chunked,
        read_chunked_httptools,
        we_refuse=(TRAILER_FIELDS, EXTENSIONS),
        it_refuses=(
            Difference(
                "white space behind a size leaves no doubt, and some servers pad with it",
                b"1 \r\nx\r\n0\r\n\r\n",
                reason("Invalid character in chunk size"),
            ),
            Difference(
                "white space around the parts of an extension is legal (RFC 9112 section 7.1.1)",
                b"1; a = b\r\nx\r\n0\r\n\r\n",
                reason("Invalid character in chunk"),
            ),
        ),
    ),
}

SIZES = st.sampled_from(
    [b"1"] * 12
    + [b"2", b"a", b"0", b"01", b"1 ", b" 1", b"1;a", b"1 ; a=b", b'1;a="b;c"', b"1;", b"1;a=", b'1;a="b', b"1;a b"]
    + [b"0x1", b"+1", b"1_0", b"", b"g", b"1;a=\x01", b"1;\xe4", b"0" * 14 + b"1", b"0" * 15 + b"1", b"1" * 21]
)
CONTENT = st.sampled_from([b"x"] * 12 + [b"xy", b"x" * 10, b"", b"\r\n", b"0\r\n\r\n"])
LAST = st.sampled_from([b"0"] * 8 + [b"00", b"0;a", b"0 ", b"", b"0x"])
TRAILERS = st.sampled_from(
    [b"A: b"] * 4 + [b"A : b", b" A: b", b"A", b": b", b"A: \x7f", b"Content-Length: 5", b"Host: b"]
)
ENDS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b""])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Chunked bodies that are nearly right."""
    parts = [part for _ in range(draw(st.integers(0, 2))) for part in (draw(SIZES), draw(CONTENT))]
    parts += [draw(LAST), *draw(st.lists(TRAILERS, max_size=2)), b""]
    data = b"".join(part + draw(ENDS) for part in parts)
    if draw(st.booleans()):
        return data
    place = draw(st.integers(0, len(data)))
    octet = draw(st.one_of(st.sampled_from([b"\0", b"\r", b"\n", b" ", b"\t", b";", b"5", b""]), st.binary(max_size=1)))
    return data[:place] + octet + data[place + draw(st.integers(0, 1)) :]


@pytest.mark.parametrize("peer", PEERS)
@given(data=bodies())
@settings(max_examples=1500, derandomize=True, deadline=None)
def test_bodies_are_read_alike_but_for_the_listed_differences(peer: str, data: bytes) -> None:
    PEERS[peer].compare(data)


@pytest.mark.parametrize("peer", PEERS)
def test_every_listed_difference_of_bodies_is_one(peer: str) -> None:
    PEERS[peer].check_examples()
