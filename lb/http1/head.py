"""Request and response heads: strict, limited, and remembered by their bytes.

A head is a first line and a block of field lines. What depends on the block's bytes alone (host, framing, the
block as it is sent on) is parsed once and remembered; nothing about client, route or time is part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lb.errors import ProtocolError
from lb.http1.fields import VALUE, Kind, parse_line, seen_lines, tokens
from lb.http1.memo import Memo
from lb.http1.target import parse_host

CRLF = b"\r\n"
HEAD_END = b"\r\n\r\n"

BARE_LF = re.compile(rb"(?<!\r)\n")
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: " + VALUE + rb")?")
_CONNECTION_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
_MAX_UPGRADE = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a head: octets of one line, octets in all (no fewer), number of field lines."""

    line: int
    total: int
    count: int


@dataclass(slots=True)  # not frozen: that would triple what it costs to make one
class RequestBlock:
    """What a request's field lines say; never changed, as it is remembered.

    `host` is for look-up (lower case, no port; empty when there was none), `authority` as the client wrote it.
    `forward` is the block as it goes on, Host and X-Forwarded-* left out. `persistent` is None when Connection
    says neither close nor keep-alive. `upgrade` is the protocol asked for, empty for none. `count` lines there were,
    none of more than `longest` octets. `has_body` tells that a body follows (an announced length of 0 is none),
    `special` that this or an upgrade asks for more care than most requests do. `ends_cookie` tells
    that Connection names Cookie: no other hop gets one.
    """

    host: bytes
    authority: bytes
    content_length: int | None
    chunked: bool
    persistent: bool | None
    upgrade: bytes
    expect_continue: bool
    forward: bytes
    forwarded_for: bytes
    referer: bytes | None
    user_agent: bytes | None
    authorization: bytes
    count: int
    longest: int
    has_body: bool
    special: bool
    ends_cookie: bool


@dataclass(slots=True)
class ResponseBlock:
    """What a response's field lines say; never changed, as it is remembered. `forward` is the block as it goes
    on to the client."""

    content_length: int | None
    chunked: bool
    persistent: bool | None
    upgrade: bytes
    has_date: bool
    forward: bytes


Framing = Literal["none", "length", "chunked", "close"]

seen_blocks: Memo[RequestBlock] = Memo(entries=4096, octets=2 << 20, longest=4096)
_responses: Memo[ResponseBlock] = Memo(entries=4096, octets=2 << 20, longest=4096)


def find_head_end(buffer: bytes | bytearray, start: int, limits: Limits) -> int:
    """Return the offset of the blank line that ends the head, or -1 when more is needed.

    `start` is how far an earlier call has looked; pass 0 the first time. Raises ProtocolError when what is there can
    no longer become a legal head: 414 for a request line over the limit, 431 for the header, 400 for a bare LF.
    """
    end = buffer.find(HEAD_END, max(0, start - 3))
    if end < 0:
        _check_unfinished(buffer, start, limits)
    elif end > limits.line and (end > limits.total or buffer.find(CRLF, 0, limits.line + len(CRLF)) < 0):
        raise _too_large(buffer, limits)
    return end


def _check_unfinished(buffer: bytes | bytearray, start: int, limits: Limits) -> None:
    """Refuse what no further octets can make legal; the last ones may be part of the CRLF CRLF that ends the head."""
    if BARE_LF.search(buffer, max(0, start - 1)):
        raise ProtocolError(400, "bare LF in the head")
    last = buffer.rfind(CRLF)
    if last >= 0 and len(buffer) - last - 3 > limits.line:
        raise line_too_long(limits)
    if len(buffer) - 3 > limits.total or (last < 0 and len(buffer) - 1 > limits.line):
        raise _too_large(buffer, limits)


def _too_large(buffer: bytes | bytearray, limits: Limits) -> ProtocolError:
    """Tell whether it is the request line that makes a head too large."""
    first = buffer.find(CRLF)
    if (len(buffer) if first < 0 else first) > limits.line:
        return ProtocolError(414, f"a request line over {limits.line} octets")
    return ProtocolError(431, f"a header over {limits.total} octets")


def line_too_long(limits: Limits) -> ProtocolError:
    """A field line over the limit."""
    return ProtocolError(431, f"a header line over {limits.line} octets")


def too_many_lines(limits: Limits) -> ProtocolError:
    """More field lines than the limit."""
    return ProtocolError(400, f"more than {limits.count} header lines")


def parse_request_block(block: bytes, limits: Limits) -> RequestBlock:
    """Parse the field lines of a request: everything after the request line, without the last CRLF CRLF.

    Raises ProtocolError: 400 for what RFC 9112 forbids and for more lines than the limit, 431 for a line over the
    limit, 417 for an unknown expectation, 501 for an unknown transfer coding.
    """
    parsed = seen_blocks.get(block)
    # Remembered blocks were within the limits of their time, which need not be these.
    if parsed is None or parsed.longest > limits.line or parsed.count > limits.count:
        lines = _split(block)
        longest = len(block)
        if longest > limits.line:
            longest = max(map(len, lines), default=0)
        if longest > limits.line:
            raise line_too_long(limits)
        if len(lines) > limits.count:
            raise too_many_lines(limits)
        parsed = _request_block(_Fields(lines, passing=Kind.DATE), len(lines), longest)
        seen_blocks.put(block, parsed)
    return parsed


def parse_response_block(block: bytes) -> ResponseBlock:
    """Parse the field lines of a response, without the last CRLF CRLF.

    Raises ProtocolError (502) for what RFC 9112 forbids.
    """
    parsed = _responses.get(block)
    if parsed is None:
        try:
            parsed = _response_block(_Fields(_split(block), passing=Kind.UNDERSCORED))
        except ProtocolError as error:
            raise ProtocolError(502, error.reason) from None
        _responses.put(block, parsed)
    return parsed


def parse_status_line(line: bytes) -> tuple[int, int]:
    """Return (minor version, status) of a status line (RFC 9112 section 4); raises ProtocolError (502)."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(502, "a malformed status line")
    return int(match[1]), int(match[2])


def response_framing(method: bytes, status: int, block: ResponseBlock) -> Framing:
    """Tell where a response ends (RFC 9112 section 6.3)."""
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return "none"
    if block.chunked:
        return "chunked"
    if block.content_length is not None:
        return "length" if block.content_length else "none"
    return "close"


def _split(block: bytes) -> list[bytes]:
    return block.split(CRLF) if block else []


class _Fields:
    """What one pass over the lines of a block learns; the rules that requests and responses share.

    Lines up to the kind `passing` go on, in `kept`. The values of all that are not plain are in `seen`.
    """

    __slots__ = ("chunked", "connection", "content_length", "kept", "seen", "upgrade")

    def __init__(self, lines: list[bytes], passing: Kind) -> None:
        self.kept: list[bytes] = []
        self.seen: dict[Kind, list[bytes]] = {}
        recent, keep = seen_lines.recent, self.kept.append
        for line in lines:
            _, value, kind = recent.get(line) or parse_line(line)
            if kind <= passing:
                keep(line)
            if kind:
                self.seen.setdefault(kind, []).append(value)
        self.content_length = self._length()
        self.chunked = self._coding()
        self.connection = [token for value in self.values(Kind.CONNECTION) for token in tokens(value)]
        self.upgrade = self._upgrade()
        self._end_hops()

    def values(self, kind: Kind) -> Sequence[bytes]:
        """The values of a kind, in their order."""
        return self.seen.get(kind, ())

    def first(self, kind: Kind) -> bytes | None:
        """The first value of a kind, None if there is none."""
        values = self.seen.get(kind)
        return values[0] if values else None

    def _length(self) -> int | None:
        lengths = self.values(Kind.CONTENT_LENGTH)
        if not lengths:
            return None
        if len(lengths) > 1:
            raise ProtocolError(400, "more than one Content-Length")
        if not _CONTENT_LENGTH.fullmatch(lengths[0]):
            raise ProtocolError(400, "a Content-Length that is not a number")
        return int(lengths[0])

    def _coding(self) -> bool:
        """Tell whether the body is chunked. Any other coding, and any doubt, is refused (RFC 9112 section 6.1)."""
        codings = self.values(Kind.TRANSFER_ENCODING)
        if not codings:
            return False
        if self.content_length is not None:
            raise ProtocolError(400, "Content-Length beside Transfer-Encoding")
        if len(codings) > 1:
            raise ProtocolError(400, "more than one Transfer-Encoding")
        if codings[0].lower() == b"chunked":
            return True
        if b"chunked" in tokens(codings[0])[:-1]:
            raise ProtocolError(400, "a transfer coding after chunked")
        raise ProtocolError(501, "a transfer coding other than chunked")

    def _upgrade(self) -> bytes:
        """The protocols offered, if Connection says so."""
        if b"upgrade" not in self.connection:
            return b""
        upgrade = b", ".join(self.values(Kind.UPGRADE))
        # h2c would carry requests that nobody here can see; its upgrade ends at the proxy (RFC 9113 took it back).
        return b"" if len(upgrade) > _MAX_UPGRADE or b"h2c" in tokens(upgrade) else upgrade

    def _end_hops(self) -> None:
        """Remove what Connection names, too (RFC 9110 section 7.6.1)."""
        named = set(self.connection) - _CONNECTION_OPTIONS
        if named:
            self.kept = [line for line in self.kept if parse_line(line).name not in named]

    @property
    def persistent(self) -> bool | None:
        """What Connection says about the time after this message; close wins."""
        if b"close" in self.connection:
            return False
        return True if b"keep-alive" in self.connection else None

    def forward(self) -> bytes:
        """The lines that go on, each with its CRLF; framing as it was received."""
        kept = self.kept
        if self.chunked:
            kept = [*kept, b"Transfer-Encoding: chunked"]
        elif self.content_length is not None:
            kept = [*kept, b"Content-Length: %d" % self.content_length]
        return CRLF.join([*kept, b""])


def _request_block(fields: _Fields, count: int, longest: int) -> RequestBlock:
    hosts = fields.values(Kind.HOST)
    if len(hosts) > 1:
        raise ProtocolError(400, "more than one Host")
    authority = hosts[0] if hosts else b""
    expectations = [value.lower() for value in fields.values(Kind.EXPECT)]
    if expectations not in ([], [b"100-continue"]):
        raise ProtocolError(417, "an expectation other than 100-continue")
    has_body = fields.chunked or bool(fields.content_length)
    persistent = fields.persistent
    return RequestBlock(
        host=parse_host(authority) if authority else b"",
        authority=authority,
        content_length=fields.content_length,
        chunked=fields.chunked,
        persistent=persistent,
        upgrade=fields.upgrade,
        expect_continue=bool(expectations),
        forward=fields.forward(),
        forwarded_for=b", ".join(value for value in fields.values(Kind.FORWARDED_FOR) if value),
        referer=fields.first(Kind.REFERER),
        user_agent=fields.first(Kind.USER_AGENT),
        authorization=fields.first(Kind.AUTHORIZATION) or b"",
        count=count,
        longest=longest,
        has_body=has_body,
        special=has_body or bool(fields.upgrade or expectations),
        ends_cookie=b"cookie" in fields.connection,
    )


def _response_block(fields: _Fields) -> ResponseBlock:
    return ResponseBlock(
        content_length=fields.content_length,
        chunked=fields.chunked,
        persistent=fields.persistent,
        upgrade=fields.upgrade,
        has_date=Kind.DATE in fields.seen,
        forward=fields.forward(),
    )
