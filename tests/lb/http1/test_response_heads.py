"""Status lines, response headers, and where a response ends."""

from __future__ import annotations

from typing import Any

import pytest

from lb.errors import ProtocolError
from lb.http1.head import Framing, parse_response_block, parse_status_line, response_framing


@pytest.mark.parametrize(
    ("line", "minor", "status"),
    [
        (b"HTTP/1.1 200 OK", 1, 200),
        (b"HTTP/1.0 404 Not Found", 0, 404),
        (b"HTTP/1.1 599 \xe4\t!", 1, 599),
        (b"HTTP/1.1 204 ", 1, 204),
        (b"HTTP/1.1 204", 1, 204),  # not to the letter, but common, and without a doubt
        (b"HTTP/1.2 200 OK", 2, 200),
    ],
)
def test_good_status_lines(line: bytes, minor: int, status: int) -> None:
    assert parse_status_line(line) == (minor, status)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 ",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 600 OK",
        ),
        *(b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1 200 OK", b"HTTP/1.10 200 OK", b"http/1.1 200 OK"),
        *(b"HTTP/1.1  200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200OK", b"ICY 200 OK"),
        *(b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 +20 OK"),
    ],
)
def test_bad_status_lines(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="a malformed status line") as refused:
        parse_status_line(line)
    assert refused.value.status == 502


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {"content_length": None, "chunked": False, "has_date": False, "forward": b""}),
        ([b"Content-Length: 05"], {"content_length": 5, "forward": b"Content-Length: 5\r\n"}),
        ([b"Transfer-Encoding: CHUNKED"], {"chunked": True, "forward": b"Transfer-Encoding: chunked\r\n"}),
        ([b"Connection: close", b"A: b"], {"persistent": False, "forward": b"A: b\r\n"}),
        ([b"Connection: keep-alive", b"Keep-Alive: timeout=5"], {"persistent": True, "forward": b""}),
        ([b"Connection: a", b"A: b", b"C: d"], {"persistent": None, "forward": b"C: d\r\n"}),
        ([b"Connection: upgrade", b"Upgrade: websocket"], {"upgrade": b"websocket", "forward": b""}),
        ([b"A_B: c"], {"forward": b"A_B: c\r\n"}),
        ([b"date: now"], {"has_date": True, "forward": b"date: now\r\n"}),
        ([b"Set-Cookie: a", b"Set-Cookie: b"], {"forward": b"Set-Cookie: a\r\nSet-Cookie: b\r\n"}),
        # Of meaning in requests alone.
        (
            [b"X-Forwarded-For: a", b"Host: b", b"Expect: c"],
            {"forward": b"X-Forwarded-For: a\r\nHost: b\r\nExpect: c\r\n"},
        ),
    ],
)
def test_good_headers(lines: list[bytes], expected: dict[str, Any]) -> None:
    block = parse_response_block(b"\r\n".join(lines))
    assert {key: getattr(block, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b"Content-Length: 5", b"Content-Length: 5"], "more than one Content-Length"),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], "Content-Length beside Transfer-Encoding"),
        ([b"Content-Length: five"], "a Content-Length that is not a number"),
        ([b"Transfer-Encoding: gzip, chunked"], "a transfer coding other than chunked"),
        ([b"Transfer-Encoding: chunked, gzip"], "a transfer coding after chunked"),
        ([b"A: b\nC: d"], "bare LF in a header field value"),
        ([b"A: b", b" c"], "obsolete line folding in the header"),
        ([b"A : b"], "white space before the colon of a header line"),
        ([b"A"], "a header line without a colon"),
    ],
)
def test_bad_headers_are_a_bad_gateway(lines: list[bytes], reason: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_response_block(b"\r\n".join(lines))
    assert (refused.value.status, refused.value.reason) == (502, reason)


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 5"


@pytest.mark.parametrize(
    ("method", "status", "header", "framing"),
    [
        (b"GET", 200, LENGTH, "length"),
        (b"GET", 200, b"Content-Length: 0", "none"),
        (b"GET", 200, CHUNKED, "chunked"),
        (b"GET", 200, b"", "close"),
        (b"POST", 500, b"", "close"),
        (b"GET", 205, LENGTH, "length"),
        (b"HEAD", 200, LENGTH, "none"),
        (b"HEAD", 200, CHUNKED, "none"),
        (b"HEAD", 200, b"", "none"),
        (b"GET", 304, LENGTH, "none"),
        (b"GET", 304, CHUNKED, "none"),
        (b"GET", 204, LENGTH, "none"),
        (b"GET", 204, CHUNKED, "none"),
        (b"GET", 101, b"", "none"),
        (b"GET", 103, CHUNKED, "none"),
    ],
)
def test_where_a_response_ends(method: bytes, status: int, header: bytes, framing: Framing) -> None:
    assert response_framing(method, status, parse_response_block(header)) == framing
