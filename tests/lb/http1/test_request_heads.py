"""Request heads, good and bad: each is read whole, cut at every octet, and with more behind it."""

from __future__ import annotations

from typing import Any

import pytest

from lb.http1.head import Limits
from tests.lb.http1.reading import LIMITS, Head, Refused, deliveries, read_head

NEXT = b"GET /next HTTP/1.1\r\nHost: other\r\n\r\n"


def get(*lines: bytes) -> bytes:
    """A request for / with these header lines behind Host."""
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""))


BAD: dict[str, tuple[bytes, int, str]] = {
    # Line ends and characters (RFC 9112 sections 2.2 and 5, RFC 9110 section 5.5)
    "bare LF behind the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", 400, "bare LF in a header field value"),
    "bare CR behind the request line": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, "a malformed request line"),
    "two CR behind the request line": (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "bare CR in a value": (get(b"B: c\rd"), 400, "bare CR in a header field value"),
    "bare CR between lines": (get(b"B: c\r", b"D: e"), 400, "bare CR in a header field value"),
    "bare CR in a name": (get(b"B\r: c"), 400, "an illegal header field name"),
    "NUL in a value": (get(b"B: c\0d"), 400, "NUL in a header field value"),
    "NUL in a name": (get(b"B\0: c"), 400, "an illegal header field name"),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "control character in a value": (get(b"B: \x01"), 400, "a control character in a header field value"),
    "DEL in a value": (get(b"B: \x7f"), 400, "a control character in a header field value"),
    # Field lines (RFC 9112 section 5)
    "obs-fold with a space": (get(b"B: c", b" d"), 400, "obsolete line folding in the header"),
    "obs-fold with a tab": (get(b"B: c", b"\td"), 400, "obsolete line folding in the header"),
    "white space before the first field": (
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        400,
        "obsolete line folding in the header",
    ),
    "space before the colon": (get(b"B : c"), 400, "white space before the colon of a header line"),
    "tab before the colon": (get(b"Content-Length\t: 5"), 400, "white space before the colon of a header line"),
    "no colon": (get(b"B"), 400, "a header line without a colon"),
    "empty name": (get(b": c"), 400, "an illegal header field name"),
    "space in a name": (get(b"B c: d"), 400, "an illegal header field name"),
    "delimiter in a name": (get(b"B(c): d"), 400, "an illegal header field name"),
    "name outside ASCII": (get(b"B\xe4: d"), 400, "an illegal header field name"),
    # Framing (RFC 9112 section 6)
    "two lengths": (get(b"Content-Length: 5", b"Content-Length: 6"), 400, "more than one Content-Length"),
    "one length twice": (get(b"Content-Length: 5", b"Content-Length: 5"), 400, "more than one Content-Length"),
    "list of lengths": (get(b"Content-Length: 5, 5"), 400, "a Content-Length that is not a number"),
    "negative length": (get(b"Content-Length: -1"), 400, "a Content-Length that is not a number"),
    "signed length": (get(b"Content-Length: +1"), 400, "a Content-Length that is not a number"),
    "hexadecimal length": (get(b"Content-Length: 0x5"), 400, "a Content-Length that is not a number"),
    "length with an underscore": (get(b"Content-Length: 1_0"), 400, "a Content-Length that is not a number"),
    "empty length": (get(b"Content-Length:"), 400, "a Content-Length that is not a number"),
    "length over 18 digits": (get(b"Content-Length: " + b"9" * 19), 400, "a Content-Length that is not a number"),
    "length and chunked": (
        get(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        400,
        "Content-Length beside Transfer-Encoding",
    ),
    "chunked and length": (
        get(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        400,
        "Content-Length beside Transfer-Encoding",
    ),
    "unknown coding": (get(b"Transfer-Encoding: gzip"), 501, "a transfer coding other than chunked"),
    "identity": (get(b"Transfer-Encoding: identity"), 501, "a transfer coding other than chunked"),
    "unknown coding below chunked": (
        get(b"Transfer-Encoding: gzip, chunked"),
        501,
        "a transfer coding other than chunked",
    ),
    "parameter of chunked": (get(b"Transfer-Encoding: chunked;a=b"), 501, "a transfer coding other than chunked"),
    "vertical tab before chunked": (
        get(b"Transfer-Encoding: \x0bchunked"),
        400,
        "a control character in a header field value",
    ),
    "empty coding": (get(b"Transfer-Encoding:"), 501, "a transfer coding other than chunked"),
    "chunked twice in a list": (get(b"Transfer-Encoding: chunked, chunked"), 400, "a transfer coding after chunked"),
    "chunked not last": (get(b"Transfer-Encoding: chunked, gzip"), 400, "a transfer coding after chunked"),
    "chunked on two lines": (
        get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        400,
        "more than one Transfer-Encoding",
    ),
    "codings on two lines": (
        get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        400,
        "more than one Transfer-Encoding",
    ),
    # Host (RFC 9112 section 3.2, RFC 3986 section 3.2.2)
    "two hosts": (get(b"Host: b"), 400, "more than one Host"),
    "one host twice": (get(b"Host: a"), 400, "more than one Host"),
    "path in the host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "an illegal Host"),
    "user in the host": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "an illegal Host"),
    "space in the host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "an illegal Host"),
    "port that is none": (b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400, "an illegal Host"),
    "port over 65535": (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, "an illegal port in Host"),
    # Request lines (RFC 9112 section 3)
    "HTTP/0.9 request": (b"GET /\r\n\r\n", 400, "a malformed request line"),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", 505, "an HTTP version other than 1.0 and 1.1"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\n", 505, "an HTTP version other than 1.0 and 1.1"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "an HTTP version other than 1.0 and 1.1"),
    "version without a minor": (b"GET / HTTP/2\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "version of two digits": (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "version in small letters": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "tabs": (b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "leading space": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "trailing space": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "illegal method": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a malformed request line"),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "a malformed request line"),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method CONNECT is not served"),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method TRACE is not served"),
    "authority-form": (
        b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "a request target that is neither a path nor an absolute URI",
    ),
    "asterisk-form of GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the target * goes with OPTIONS only"),
    "another scheme": (
        b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "a request target that is neither a path nor an absolute URI",
    ),
    "user in an absolute URI": (
        b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "a request target that is neither a path nor an absolute URI",
    ),
    "absolute URI without a host": (
        b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "a request target that is neither a path nor an absolute URI",
    ),
    # Expectations (RFC 9110 section 10.1.1)
    "unknown expectation": (get(b"Expect: tea"), 417, "an expectation other than 100-continue"),
    "two expectations": (
        get(b"Expect: 100-continue", b"Expect: 100-continue"),
        417,
        "an expectation other than 100-continue",
    ),
    # Limits
    "request line over the limit": (
        b"GET /" + b"a" * 87 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        414,
        "a request line over 100 octets",
    ),
    "header line over the limit": (get(b"B: " + b"c" * 98), 431, "a header line over 100 octets"),
    "long line with a fault at its end": (get(b"B: " + b"c" * 200 + b"\0"), 431, "a header line over 100 octets"),
    "header over the limit": (
        get(*(b"B: " + b"c" * 88 for _ in range(4)), b"D: e"),
        431,
        "a header over 400 octets",
    ),
    "request line and header over the limit": (
        b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n" + b"B: c\r\n" * 40 + b"\r\n",
        414,
        "a request line over 100 octets",
    ),
    "too many lines": (get(*(b"B: c" for _ in range(12))), 400, "more than 12 header lines"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_heads_are_refused_however_they_come(name: str) -> None:
    data, status, reason = BAD[name]
    assert read_head([data]) == Refused(status, reason)
    assert read_head([data + NEXT]) == Refused(status, reason)
    for pieces in deliveries(data):
        # The reason may be another one: a bare LF, say, is refused as soon as it is seen.
        refused = read_head(pieces)
        assert isinstance(refused, Refused), pieces
        assert refused.status == status, pieces


GOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "the least": (get(), {"host": b"a", "authority": b"a", "forward": b"", "persistent": None, "has_body": False}),
    "no Host, as in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", {"minor": 0, "host": b"", "count": 0}),
    "HTTP/1.2 is read as HTTP/1.1": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", {"minor": 1}),
    "host with port": (
        b"GET / HTTP/1.1\r\nHost: A.Example:80\r\n\r\n",
        {"host": b"a.example", "authority": b"A.Example:80"},
    ),
    "no space behind the colon": (b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", {"host": b"a"}),
    "white space around a value": (b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", {"host": b"a"}),
    "method of its own": (b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", {"method": b"M-SEARCH"}),
    "octets beyond ASCII": (
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\nB: \xe4\r\n\r\n",
        {"target": b"/\xc3\xa4", "forward": b"B: \xe4\r\n"},
    ),
    "absolute-form": (
        b"GET http://B:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
        {"target": b"/c?d", "uri_authority": b"B:81"},
    ),
    "absolute-form of https": (
        b"GET HTTPS://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
        {"target": b"/c", "uri_authority": b"b"},
    ),
    "absolute-form without a path": (b"GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", {"target": b"/"}),
    "absolute-form, query alone": (
        b"GET http://b?c@d HTTP/1.1\r\nHost: a\r\n\r\n",
        {"target": b"/?c@d", "uri_authority": b"b"},
    ),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", {"target": b"*", "uri_authority": b""}),
    "asterisk as absolute URI": (
        b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
        {"target": b"*", "uri_authority": b"b"},
    ),
    "length": (get(b"Content-Length: 5"), {"content_length": 5, "has_body": True, "forward": b"Content-Length: 5\r\n"}),
    "length with zeros in front": (
        get(b"Content-Length: 007"),
        {"content_length": 7, "forward": b"Content-Length: 7\r\n"},
    ),
    "length of 0": (get(b"Content-Length: 0"), {"content_length": 0, "has_body": False}),
    "chunked": (
        get(b"transfer-encoding: Chunked"),
        {"chunked": True, "has_body": True, "forward": b"Transfer-Encoding: chunked\r\n"},
    ),
    "close": (get(b"Connection: close"), {"persistent": False, "forward": b""}),
    "keep-alive": (get(b"Connection: Keep-Alive"), {"persistent": True}),
    "close wins": (get(b"Connection: keep-alive", b"Connection: ,close"), {"persistent": False}),
    "fields that end here": (
        get(b"Keep-Alive: 5", b"TE: trailers", b"Proxy-Connection: close", b"B: c"),
        {"forward": b"B: c\r\n", "persistent": None},
    ),
    "fields that Connection names": (get(b"X: 1", b"Y: 2", b"Connection: x, close"), {"forward": b"Y: 2\r\n"}),
    "Connection cannot take the framing away": (
        get(b"Content-Length: 5", b"Connection: content-length, host"),
        {"host": b"a", "content_length": 5, "forward": b"Content-Length: 5\r\n"},
    ),
    "upgrade": (get(b"Connection: Upgrade", b"Upgrade: websocket"), {"upgrade": b"websocket", "forward": b""}),
    "upgrade that Connection does not name": (get(b"Upgrade: websocket"), {"upgrade": b"", "forward": b""}),
    "upgrade to h2c": (
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAAA"),
        {"upgrade": b"", "forward": b""},
    ),
    "upgrade to too much": (get(b"Connection: upgrade", b"Upgrade: " + b"a" * 65), {"upgrade": b"", "forward": b""}),
    "expectation": (get(b"Expect: 100-Continue"), {"expect_continue": True, "forward": b""}),
    "forwarded by others": (
        get(b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For:", b"X-Forwarded-For: ::1, 5.6.7.8"),
        {"forwarded_for": b"1.2.3.4, ::1, 5.6.7.8", "forward": b""},
    ),
    "forwarding that the proxy tells itself": (
        get(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: b", b"X_Forwarded_For: 1.2.3.4", b"A_B: c"),
        {"forward": b""},
    ),
    "what the access log wants": (
        get(b"Referer: b", b"User-Agent: c", b"User-Agent: d"),
        {"referer": b"b", "user_agent": b"c", "forward": b"Referer: b\r\nUser-Agent: c\r\nUser-Agent: d\r\n"},
    ),
    "lines go on in their order and as they were written": (
        get(b"b:  c", b"B: d ", b"a:"),
        {"forward": b"b:  c\r\nB: d \r\na:\r\n"},
    ),
    "request line at the limit": (b"GET /" + b"a" * 86 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {"target": b"/" + b"a" * 86}),
    "header line at the limit": (get(b"B: " + b"c" * 97), {"count": 2}),
    "header at the limit": (get(*(b"B: " + b"c" * 88 for _ in range(4)), b"D:e"), {"count": 6}),
    "lines at the limit": (get(*(b"B: c" for _ in range(11))), {"count": 12}),
}


def seen(head: Head) -> dict[str, Any]:
    block = {name: getattr(head.block, name) for name in (*head.block.__slots__, "has_body")}
    line = head.line
    return {**block, "method": line.method, "target": line.target, "minor": line.minor, "uri_authority": line.authority}


@pytest.mark.parametrize("name", GOOD)
def test_good_heads_are_read_alike_however_they_come(name: str) -> None:
    data, expected = GOOD[name]
    whole = read_head([data])
    assert isinstance(whole, Head)
    assert {key: seen(whole)[key] for key in expected} == expected
    for pieces in deliveries(data):
        assert read_head(pieces) == whole, pieces
    assert read_head([data + NEXT]) == whole._replace(rest=NEXT)


@pytest.mark.parametrize("name", GOOD)
def test_a_head_is_not_taken_for_whole_before_its_end(name: str) -> None:
    data, _ = GOOD[name]
    for cut in range(len(data)):
        assert read_head([data[:cut]]) is None


def test_an_endless_head_is_refused_while_it_comes() -> None:
    flood = get(*(b"B: " + b"c" * 50 for _ in range(100)))
    for size in range(len(flood)):
        if read_head([flood[:size]]) is not None:
            break
    assert size <= LIMITS.total + 4
    assert read_head([flood[:size]]) == Refused(431, "a header over 400 octets")


def test_an_endless_request_line_is_refused_while_it_comes() -> None:
    assert read_head([b"GET /" + b"a" * 97]) == Refused(414, "a request line over 100 octets")


def test_a_remembered_block_is_held_to_the_limits_of_each_call() -> None:
    data = get(b"B: remembered under wide limits", b"C: d")
    assert isinstance(read_head([data]), Head)
    assert read_head([data], Limits(line=20, total=400, count=12)) == Refused(431, "a header line over 20 octets")
    assert read_head([data], Limits(line=100, total=400, count=2)) == Refused(400, "more than 2 header lines")
    assert isinstance(read_head([data]), Head)
