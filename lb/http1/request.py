"""A request's head as a whole: its line, its block of fields, and its cookie.

Browsers send the same block with every request but for the cookie, and each has a cookie of its own. So the cookie is
read apart, and the block is remembered without it.
"""

from __future__ import annotations

import re

from lb.errors import ProtocolError
from lb.http1.fields import VALUE, parse_line
from lb.http1.head import CRLF, Limits, RequestBlock, line_too_long, parse_request_block, seen_blocks, too_many_lines
from lb.http1.target import RequestLine, parse_request_line, seen_request_lines

_COOKIE = b"\r\nCookie: "
_COOKIE_LINE = re.compile(re.escape(_COOKIE) + VALUE)


def read_request(line: bytes, fields: bytes, limits: Limits) -> tuple[RequestLine, RequestBlock, bytes, bool]:
    """Read a request line (without its CRLF) and a block of fields (without the CRLF CRLF that ends it).

    Returns both, the cookie's line with the CRLF before it (empty if there is none, or if it is part of the block),
    and whether both were seen before. Raises ProtocolError as `parse_request_line` and `parse_request_block` do, and
    400 for a head that lacks what its version asks for or has what its version does not know.
    """
    cookie = b""
    start = fields.find(_COOKIE)
    if start >= 0:
        end = fields.find(CRLF, start + 2)
        cookie = fields[start:] if end < 0 else fields[start:end]
        fields = fields[:start] if end < 0 else fields[:start] + fields[end:]
    known_line = seen_request_lines.recent.get(line)
    known_block = seen_blocks.recent.get(fields)
    request_line = known_line or parse_request_line(line)
    block = parse_request_block(fields, limits)
    if cookie:
        cookie = _checked(cookie, block, limits)
    if request_line.minor:
        if not block.host:
            raise ProtocolError(400, "no Host in an HTTP/1.1 request")
    elif block.chunked:
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    return request_line, block, cookie, known_line is not None and known_block is not None


def _checked(cookie: bytes, block: RequestBlock, limits: Limits) -> bytes:
    """Return the cookie's line if it is legal beside its block, nothing if Connection names it; or raise."""
    if len(cookie) - len(CRLF) > limits.line:
        raise line_too_long(limits)
    if block.count >= limits.count:
        raise too_many_lines(limits)
    if _COOKIE_LINE.fullmatch(cookie) is None:
        parse_line(cookie[len(CRLF) :])  # tells what is wrong with it
    return b"" if block.ends_cookie else cookie
