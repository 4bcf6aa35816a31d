"""A request as an instance gets it: its head, its body, and whether it may be sent a second time."""

from __future__ import annotations

from lb.errors import ProtocolError
from lb.http1.framing import Body, ChunkedBody, LengthBody
from lb.http1.head import RequestBlock
from lb.http1.target import RequestLine

KEEP_OCTETS = 64 << 10
"""How much of a request is kept; a longer one is not sent a second time."""

_NOT_REPEATED = frozenset((b"POST", b"PATCH", b"LOCK"))


class RequestBody:
    """A body on its way: of a known length or chunked (None), followed to its end, held to a limit (octets; 0: none).

    Raises ProtocolError: 413 for one over the limit, as soon as that is known, and 400 for one that is malformed.
    """

    __slots__ = ("_body", "_limit")

    def __init__(self, length: int | None, limit: int) -> None:
        self._body: Body = ChunkedBody() if length is None else LengthBody(length)
        self._limit = limit
        self._check(length or 0)

    @property
    def done(self) -> bool:
        """Whether all of it was seen."""
        return self._body.done

    def take(self, data: bytes) -> int:
        """Follow it through `data`, and return where it ends there."""
        end = self._body.take(data)
        self._check(self._body.octets)
        return end

    def _check(self, octets: int) -> None:
        if self._limit and octets > self._limit:
            raise ProtocolError(413, f"a body over {self._limit} octets")


def is_repeatable(method: bytes) -> bool:
    """Whether a request may go to another instance after some of it was sent to one (nginx's `non_idempotent`)."""
    return method not in _NOT_REPEATED


def upgrade_of(line: RequestLine, block: RequestBlock) -> bytes:
    """The protocol that the client wants to switch to; HTTP/1.0 knows none (RFC 9110 section 7.8)."""
    return block.upgrade if line.minor else b""


def forwarded_head(line: RequestLine, block: RequestBlock, client: bytes) -> bytes:
    """The head as an instance gets it: hop-by-hop fields left out, X-Forwarded-* of the `client` (an address) added."""
    authority = line.authority or block.authority
    forwarded = block.forwarded_for + b", " + client if block.forwarded_for else client
    upgrade = b"Connection: upgrade\r\nUpgrade: %b\r\n" % block.upgrade if upgrade_of(line, block) else b""
    return (
        b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%bX-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: %b\r\n\r\n"
    ) % (line.method, line.target, authority, block.forward, upgrade, forwarded, authority)
