"""A response on its way from an instance to a client, without I/O.

Fed with what the instance sends, it gives what the client is to get: hop-by-hop fields end here, the framing is
the client's (chunked for an HTTP/1.1 client where the instance just closes, plain for an HTTP/1.0 client of a
chunked response).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lb.errors import ProtocolError
from lb.http1.framing import Body, ChunkedBody, CloseBody, LengthBody
from lb.http1.head import (
    BARE_LF,
    CRLF,
    HEAD_END,
    ResponseBlock,
    parse_response_block,
    parse_status_line,
    response_framing,
)
from lb.http1.memo import Memo
from lb.proxy.outbox import LARGE, Octets

MAX_HEAD = 64 << 10
MAX_INTERIM = 16
LONGEST_SEEN = 4096
"""Octets of a response head that is remembered."""
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What depends on a response head's bytes alone.

    `line` and `forward` are its status line, as HTTP/1.1, and the field lines that go on. `wire` is both in one piece,
    as nearly every client gets it: HTTP/1.1, kept alive. It is empty where that would not do. `last_wire` is the same
    with the end of the connection announced. `length` is of a body
    that needs no tracking if it is all there, else -1. `express` is that plus the octets that end the head, if the
    instance's connection may go on, too; else 0.
    """

    status: int
    line: bytes
    block: ResponseBlock
    forward: bytes
    persistent: bool
    wire: bytes
    last_wire: bytes
    length: int
    express: int


seen_heads: Memo[Head] = Memo(entries=2048, octets=1 << 20, longest=LONGEST_SEEN)


class Reply:
    """One response, from its first octet to its last.

    `keep_alive` tells whether the client's connection may go on; it may turn false when the head is read. `status` is
    set as soon as a legal head was given out; `done` tells that the last octet was seen, `surplus` holds what came
    behind it, `persistent` tells that the instance will take another request. `switched` means that a 101 was passed
    on. `delimited` tells that a client can see when the response is cut short. `head_octets` counts what of the octets
    given out was no content.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_encode",
        "_interim",
        "_method",
        "_minor",
        "_payload",
        "_upgrade",
        "delimited",
        "done",
        "head_octets",
        "keep_alive",
        "persistent",
        "status",
        "surplus",
        "switched",
    )

    def __init__(self, method: bytes, minor: int, keep_alive: bool, upgrade: bytes = b"") -> None:
        self._method = method
        self._minor = minor
        self._upgrade = upgrade
        self._buffer = b""
        self._interim = 0
        self._body: Body | None = None
        self._encode = False
        self._payload: list[bytes] | None = None
        self.keep_alive = keep_alive
        self.status = 0
        self.done = False
        self.surplus = b""
        self.persistent = False
        self.switched = False
        self.delimited = True
        self.head_octets = 0

    @property
    def left(self) -> int:
        """Octets of a body of known length that are still to come, and go on as they are."""
        return self._body.left if isinstance(self._body, LengthBody) else 0

    def skip(self, octets: int) -> None:
        """Note octets of the body, whose length is known, that went on by another way."""
        assert isinstance(self._body, LengthBody)
        self._body.skip(octets)
        self.done = self._body.done

    def resume(self, head: Head, left: int) -> None:
        """Go on in the middle of a body of known length, `left` octets before its end."""
        self.status = head.status
        self.persistent = head.persistent
        self._body = LengthBody(left)

    def feed(self, data: bytes, date: Callable[[], bytes]) -> list[Octets]:
        """Take bytes of the instance and return bytes for the client, possibly none, in as few pieces as is cheap.

        `date` gives the Date for a response without one. Raises ProtocolError (502) for what is no legal response.
        """
        if self.status:
            return [content] if (content := self._content(data, 0)) else []
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out = b""
        while (end := data.find(HEAD_END)) >= 0:
            raw = data[:end]
            head = seen_heads.get(raw) or _parse(raw)
            if head.status >= 200 or head.status == 101:
                if end + 4 + head.length == len(data) and self.keep_alive and self._minor and self._method != b"HEAD":
                    return [out + self._whole(head, data[end + 4 :], len(out))]
                out += self._begin(head, date)
                self.head_octets += len(out)
                content = self._content(data, end + 4) if end + 4 < len(data) else b""
                self.status = head.status
                return [out, content] if len(content) >= LARGE else [out + content]
            out += self._pass_interim(head)
            data = data[end + 4 :]
        self._wait_for_more(data)
        self.head_octets += len(out)
        return [out] if out else []

    def end(self) -> bool:
        """The instance closed; return whether the response is complete by that. What is left to send is `last()`."""
        return self._body is not None and self._body.end()

    def last(self) -> bytes:
        """What the client needs to see once `end` has completed a response that was closed to end it."""
        return b"0\r\n\r\n" if self._encode else b""

    def _wait_for_more(self, data: bytes) -> None:
        """Keep an unfinished head, unless it can no longer become a legal one."""
        if len(data) > MAX_HEAD:
            raise ProtocolError(502, f"a response head over {MAX_HEAD} octets")
        if not b"HTTP/1."[: len(data)].startswith(data[:7]):
            raise ProtocolError(502, "a response that is not HTTP/1")
        if BARE_LF.search(data):
            raise ProtocolError(502, "bare LF in a response head")
        self._buffer = data

    def _pass_interim(self, head: Head) -> bytes:
        """A 1xx: 100 was answered by the proxy itself, others pass to HTTP/1.1 clients (RFC 9110 section 15.2)."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise ProtocolError(502, f"more than {MAX_INTERIM} interim responses")
        return b"" if head.status == 100 or not self._minor else head.wire

    def _whole(self, head: Head, body: bytes, before: int) -> bytes:
        """The common case in one step: the response came in one piece and goes on as it is, behind `before` octets."""
        self.status = head.status
        self.persistent = head.persistent
        self.done = True
        self.head_octets += before + len(head.wire)
        return head.wire + body

    def _begin(self, head: Head, date: Callable[[], bytes]) -> bytes:
        """Take the final head: what it says of the body, and what the client gets for it."""
        self.persistent = head.persistent
        block = head.block
        framing = response_framing(self._method, head.status, block)
        if framing == "length":
            self._body = LengthBody(block.content_length or 0)
        elif framing == "none":
            self.done = True
            if head.status == 101:
                return self._switch(head)
        elif framing == "chunked" and self._minor:
            self._body = ChunkedBody(underscores=True)
        else:
            return self._reframe(head, date, chunked=framing == "chunked")
        if self.keep_alive and self._minor and head.wire:
            return head.wire
        forward = head.forward if self._minor else head.forward.removesuffix(_CHUNKED)
        return self._compose(head, forward, date)

    def _reframe(self, head: Head, date: Callable[[], bytes], *, chunked: bool) -> bytes:
        """Give the body another framing: the client does not know the instance's, or could not keep alive with it."""
        forward = head.forward.removesuffix(_CHUNKED)
        if chunked:
            self._payload = []
            self._body = ChunkedBody(self._payload, underscores=True)
        else:
            self._body = CloseBody()
            self.persistent = False
            self._encode = bool(self._minor)
        if self._encode:
            forward += _CHUNKED
        else:
            self.keep_alive = self.delimited = False
        return self._compose(head, forward, date)

    def _compose(self, head: Head, forward: bytes, date: Callable[[], bytes]) -> bytes:
        if not head.block.has_date:
            forward += b"Date: %b\r\n" % date()
        if not self.keep_alive:
            forward += b"Connection: close\r\n"
        elif not self._minor:
            forward += b"Connection: keep-alive\r\n"
        return head.line + CRLF + forward + CRLF

    def _switch(self, head: Head) -> bytes:
        upgrade = head.block.upgrade
        if not self._upgrade or not upgrade:
            raise ProtocolError(502, "a switch of protocols that nobody asked for")
        self.switched = True
        return head.line + CRLF + head.forward + b"Connection: upgrade\r\nUpgrade: " + upgrade + HEAD_END

    def _content(self, data: bytes, start: int) -> Octets:
        body = self._body
        if body is None:
            # Behind a response without a body; after a switch it is the new protocol's.
            self.surplus += data[start:]
            return b""
        try:
            end = body.take(data, start)
        except ProtocolError as error:
            raise ProtocolError(502, error.reason) from None
        self.done = body.done
        if end < len(data):
            self.surplus += data[end:]
        content: Octets = data
        if self._payload is not None:
            content = b"".join(self._payload)
            self._payload.clear()
            return content
        if start or end < len(data):
            content = memoryview(data)[start:end] if end - start >= LARGE else data[start:end]
        if self._encode and content:
            return b"".join((b"%x\r\n" % len(content), content, CRLF))
        return content


def _parse(raw: bytes) -> Head:
    """Parse a response head, without its last CRLF CRLF, and remember it; raises ProtocolError (502)."""
    line, _, rest = raw.partition(CRLF)
    minor, status = parse_status_line(line)
    block = parse_response_block(rest)
    if block.chunked and not minor:
        raise ProtocolError(502, "Transfer-Encoding in an HTTP/1.0 response")
    if minor != 1:
        line = b"HTTP/1.1" + line[8:]
    forward = _unframed(block) if status < 200 or status == 204 else block.forward
    persistent = block.persistent is not False if minor else block.persistent is True
    wire = line + CRLF + forward + CRLF if block.has_date or status < 200 else b""
    length = _simple_length(status, block) if wire else -1
    express = length + len(HEAD_END) if persistent and length >= 0 else 0
    last_wire = wire[: -len(CRLF)] + b"Connection: close\r\n\r\n"
    head = Head(status, line, block, forward, persistent, wire, last_wire, length, express)
    seen_heads.put(raw, head)
    return head


def _simple_length(status: int, block: ResponseBlock) -> int:
    """How long the body of a final response to anything but HEAD is, if its head tells that; else -1."""
    framing = response_framing(b"GET", status, block)
    if framing == "none" and status >= 200:
        return 0
    return block.content_length or 0 if framing == "length" else -1


def _unframed(block: ResponseBlock) -> bytes:
    """The lines of a response that must not announce a body: 1xx and 204 (RFC 9110 section 8.6, 9112 section 6.1)."""
    if block.chunked:
        return block.forward.removesuffix(_CHUNKED)
    if block.content_length is not None:
        return block.forward.removesuffix(b"Content-Length: %d\r\n" % block.content_length)
    return block.forward
