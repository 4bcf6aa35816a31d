"""A request as an instance gets it: its head, its body, and whether it may be sent a second time."""

from __future__ import annotations

from lb.errors import ProtocolError
from lb.http1.framing import Body, ChunkedBody, LengthBody
from lb.http1.head import RequestBlock
from lb.http1.target import RequestLine
from lb.proxy.outbox import Octets
from lb.proxy.request_id import RequestIds
from lb.proxy.targets import HttpTarget

KEEP_OCTETS = 64 << 10
"""How much of a request is kept; a longer one is not sent a second time."""

_NOT_REPEATED = frozenset((b"POST", b"PATCH", b"LOCK"))


class Request:
    """A request's head, read and routed: all of it that depends on neither the client nor the moment.

    `before` and `after` are the head as an instance gets it (hop-by-hop fields left out, X-Forwarded-* added), but for
    the client's address between them. `plain` tells that nothing in it asks for special care: HTTP/1.1, no body, no
    upgrade, no HEAD. `last` tells that the client will ask no more, `long` that the last reply to it was.
    `request_id` is the client's own, if `ids` are wanted.
    """

    __slots__ = ("after", "before", "block", "last", "line", "long", "plain", "request_id", "target")

    def __init__(
        self, line: RequestLine, block: RequestBlock, cookie: bytes, target: HttpTarget, ids: RequestIds | None
    ) -> None:
        self.line = line
        self.block = block
        self.target = target
        authority = line.authority or block.authority
        forward, self.request_id = (block.forward, b"") if ids is None else ids.take_out(block.forward)
        before = b"%bHost: %b%b\r\n%bX-Forwarded-For: " % (line.forward, authority, cookie, forward)
        self.before = before + block.forwarded_for + b", " if block.forwarded_for else before
        self.after = b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: %b\r\n\r\n" % authority
        self.plain = bool(line.minor) and not block.special and line.method != b"HEAD"
        self.long = False
        self.last = block.persistent is False
        if self.upgrade:
            self.after = b"\r\nConnection: upgrade\r\nUpgrade: " + self.upgrade + self.after

    @property
    def upgrade(self) -> bytes:
        """The protocol that the client wants to switch to; HTTP/1.0 knows none (RFC 9110 section 7.8)."""
        return self.block.upgrade if self.line.minor else b""

    @property
    def repeatable(self) -> bool:
        """Whether it may go to another instance after some of it was sent to one (nginx's `non_idempotent`)."""
        return self.line.method not in _NOT_REPEATED


class Outgoing:
    """A request on its way to instances: from its head to the end of its body.

    `kept` is all of it so far, as long as that is not too much to send it again; then None. The body is followed to its
    end (`done`) and held to `limit` (octets; 0: none); `received` counts it, framing and all.
    """

    __slots__ = ("_body", "_limit", "_size", "done", "kept", "received")

    def __init__(self, head: bytes, block: RequestBlock, limit: int) -> None:
        """Raises ProtocolError (413) for a body that announces more than the limit."""
        self.kept: list[Octets] | None = [head]
        self._size = len(head)
        self._limit = limit
        self._body: Body | None = None
        self.received = 0
        self.done = not block.has_body
        if not self.done:
            length = block.content_length
            self._body = ChunkedBody() if length is None else LengthBody(length)
            self._check(length or 0)

    @property
    def left(self) -> int:
        """Octets of a body of known length that are still to come."""
        return self._body.left if isinstance(self._body, LengthBody) else 0

    @property
    def long(self) -> bool:
        """Whether it is more than is kept for longer than need be."""
        return self._size > KEEP_OCTETS

    def take(self, data: bytes, start: int = 0) -> int:
        """Follow the body through `data[start:]`, keep it; returns where it ends there.

        Raises ProtocolError: 413 for a body over the limit, as soon as that is known, and 400 for one that is
        malformed.
        """
        body = self._body
        assert body is not None
        end = body.take(data, start)
        self._check(body.octets)
        self.done = body.done
        size = end - start
        self.received += size
        if self.kept is not None and size:
            self._size += size
            self.kept.append(data if size == len(data) else memoryview(data)[start:end])
        return end

    def skip(self, octets: int) -> None:
        """Note octets of the body, whose length is known, that went on by another way."""
        body = self._body
        assert isinstance(body, LengthBody)
        body.skip(octets)
        self.done = body.done
        self.received += octets

    def forget_if_long(self) -> None:
        """All of it so far is sent: keep it only if it is not too much."""
        if self.long:
            self.kept = None

    def _check(self, octets: int) -> None:
        if self._limit and octets > self._limit:
            raise ProtocolError(413, f"a body over {self._limit} octets")
