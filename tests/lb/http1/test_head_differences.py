"""Request heads beside h11 and httptools: where they differ from us is listed here, with the reason.

Every listed difference has an example that must differ so, and whatever hypothesis finds to differ must be explained
by one.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lb.http1.differences import Difference, Peer, reason
from tests.lb.http1.peers import read, read_h11, read_httptools
from tests.lb.http1.reading import Refused, deliveries, read_head


def head(first: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def get(*lines: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", b"Host: a", *lines)


WE_REFUSE = (
    Difference(
        "other versions than HTTP/1 are not spoken here",
        head(b"GET / HTTP/2.0", b"Host: a"),
        reason("an HTTP version other"),
    ),
    Difference(
        "CONNECT is for forward proxies, TRACE would show a client's cookies to scripts: nginx's 405",
        head(b"TRACE / HTTP/1.1", b"Host: a"),
        lambda data, given: data.startswith((b"CONNECT", b"TRACE")),
    ),
    Difference(
        "RFC 9112 section 3.2 has no other forms of target: both readers leave them to the application",
        head(b"GET ftp://b/ HTTP/1.1", b"Host: a"),
        reason("a request target that is neither|the target [*]"),
    ),
    Difference(
        "a fragment is not part of a request target",
        head(b"GET /a#b HTTP/1.1", b"Host: a"),
        lambda data, given: given == "a malformed request line" and b"#" in data.partition(b"\r\n")[0],
    ),
    Difference(
        "RFC 9112 section 3.2 asks for 400: both readers leave the value of Host to the application",
        head(b"GET / HTTP/1.1", b"Host: a b"),
        reason("an illegal (Host|port|IPv6)"),
    ),
    Difference(
        "an expectation that nobody here can meet is 417 (RFC 9110 section 10.1.1)",
        get(b"Expect: b"),
        reason("an expectation"),
    ),
)

STRICTER_THAN_H11 = (
    *WE_REFUSE,
    Difference(
        "RFC 9112 section 2.2 lets a recipient take a bare LF for a line's end: two that disagree can be played off",
        b"GET / HTTP/1.1\nHost: a\n\n",
        lambda data, _: re.search(rb"(?<!\r)\n", data) is not None,
    ),
    Difference("obs-fold is to be refused or replaced (RFC 9112 section 5.2)", get(b"A: b", b" c"), reason("obsolete")),
    Difference(
        "control characters other than NUL, CR and LF are illegal, too (RFC 9110 section 5.5)",
        get(b"A: \x01"),
        reason("a control character"),
    ),
    Difference(
        "repeated lengths may be refused even if they agree (RFC 9112 section 6.3): nginx does",
        get(b"Content-Length: 5, 5"),
        reason("more than one Content-Length|a Content-Length that"),
    ),
    Difference(
        "with Transfer-Encoding a length is an attempt at smuggling (RFC 9112 section 6.1): nginx refuses it",
        get(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        reason("Content-Length beside"),
    ),
)

H11_REFUSES = (
    Difference(
        "Host is asked for by the session, which knows the version, too",
        head(b"GET / HTTP/1.1"),
        reason("Missing mandatory Host"),
    ),
    Difference(
        "octets beyond ASCII in a target are passed on, as nginx does",
        head(b"GET /\xe4 HTTP/1.1", b"Host: a"),
        lambda data, given: "illegal request line" in given and re.match(rb"[^\r]*[\x80-\xff]", data) is not None,
    ),
)

STRICTER_THAN_HTTPTOOLS = (
    *WE_REFUSE,
    Difference(
        "one space parts the words of a request line: llhttp skips more",
        head(b"GET  / HTTP/1.1", b"Host: a"),
        lambda data, given: given == "a malformed request line" and b"  " in data.partition(b"\r\n")[0],
    ),
    Difference(
        "empty lines before a request line are taken away by the session",
        b"\r\n" + head(b"GET / HTTP/1.1", b"Host: a"),
        lambda data, _: data[:1] in (b"\r", b"\n"),
    ),
    Difference(
        "a request line without a version is HTTP/0.9, which is not spoken here",
        b"GET /\r\n\r\n",
        lambda data, _: re.match(rb"[^\r\n]* HTTP/", data) is None,
    ),
    Difference("two Hosts are 400 (RFC 9112 section 3.2)", get(b"Host: a"), reason("more than one Host")),
    Difference(
        "chunked is the only coding that can be followed here",
        get(b"Transfer-Encoding: gzip, chunked"),
        reason("a transfer coding|more than one Transfer-Encoding"),
    ),
)

HTTPTOOLS_REFUSES = (
    Difference(
        "any token is a method (RFC 9110 section 9.1): llhttp has a list",
        head(b"FOO / HTTP/1.1", b"Host: a"),
        reason("Invalid method encountered|Expected space after method"),
    ),
    Difference(
        "HTTP/1.2 and above are read as HTTP/1.1 (RFC 9110 section 2.5)",
        head(b"GET / HTTP/1.2", b"Host: a"),
        reason("Invalid HTTP version"),
    ),
    Difference(
        "octets beyond ASCII in a target are passed on, as nginx does",
        head(b"GET /\xe4 HTTP/1.1", b"Host: a"),
        lambda data, given: "char in url" in given and re.match(rb"[^\r]*[\x80-\xff]", data) is not None,
    ),
)

PEERS = {
    "h11": Peer(read, read_h11, STRICTER_THAN_H11, H11_REFUSES),
    "httptools": Peer(read, read_httptools, STRICTER_THAN_HTTPTOOLS, HTTPTOOLS_REFUSES),
}


METHODS = st.sampled_from(
    [b"GET"] * 6 + [b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"BREW", b"get", b"G(T", b""]
)
TARGETS = st.sampled_from(
    [b"/"] * 6
    + [
        b"/a?b=c",
        b"*",
        b"http://b/c",
        b"http://",
        b"http://u@b/",
        b"ftp://b/",
        b"b:80",
        b"b",
        b"/a#b",
        b'/"|',
        b"/\xe4",
        b"",
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1", b"HTTP/1.10", b"http/1.1"]
)
LINES = st.sampled_from(
    [
        *(
            b"Host: a",
            b"Host: a:80",
            b"Host:",
            b"Host: a b",
            b"A: b",
            b"A:",
            b"a:\tb ",
            b"A : b",
            b" a: b",
            b"A",
            b": b",
        ),
        *(b"A(: b", b"A: \xe4", b"A: \x7f", b"Cookie: a=b; c", b"Content-Length: 5", b"Content-Length: 5, 5"),
        *(b"Content-Length: +5", b"Content-Length: 007", b"Content-Length:", b"Content-Length: " + b"9" * 20),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip, chunked"),
        *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding:"),
        *(b"Connection: close", b"Connection: a, keep-alive", b"Connection: upgrade", b"Upgrade: websocket"),
        *(b"Expect: 100-continue", b"Expect: b", b"TE: trailers"),
    ]
)
ENDS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n "])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Heads that are nearly right: a word, a line's end or an octet may be wrong."""
    first = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    lines = [first, *draw(st.sampled_from([[b"Host: a"], [b"Host: a"], []])), *draw(st.lists(LINES, max_size=4)), b""]
    data = b"".join(line + draw(ENDS) for line in lines)
    if draw(st.booleans()):
        return data
    place = draw(st.integers(0, len(data) - 1))
    octet = draw(st.one_of(st.sampled_from([b"\0", b"\r", b"\n", b" ", b"\t", b":", b",", b""]), st.binary(max_size=1)))
    return data[:place] + octet + data[place + draw(st.integers(0, 1)) :]


@pytest.mark.parametrize("peer", PEERS)
@given(data=heads())
@settings(max_examples=1500, derandomize=True, deadline=None)
def test_heads_are_read_alike_but_for_the_listed_differences(peer: str, data: bytes) -> None:
    PEERS[peer].compare(data)


@given(data=heads())
@settings(max_examples=300, derandomize=True, deadline=None)
def test_a_head_means_the_same_however_it_comes(data: bytes) -> None:
    whole = read_head([data])
    for pieces in deliveries(data):
        found = read_head(pieces)
        if not isinstance(whole, Refused):
            assert found == whole
        else:
            assert isinstance(found, Refused)  # of many faults the one that is seen first is told


@pytest.mark.parametrize("peer", PEERS)
def test_every_listed_difference_of_heads_is_one(peer: str) -> None:
    PEERS[peer].check_examples()
