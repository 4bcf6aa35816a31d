"""Where a message ends: trackers that are fed bytes and never keep them (RFC 9112 sections 6 and 7).

A tracker's `take(data, start)` returns the offset just behind the last octet that belongs to the message; `done` tells
whether the message is complete. Octets behind that offset belong to whatever comes next.
"""

from __future__ import annotations

import re
from typing import Protocol

from lb.errors import ProtocolError
from lb.http1.fields import TOKEN, Kind, parse_line

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
# White space behind the size is not to the letter, but some servers pad it so, and it leaves no doubt.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + _EXTENSION + rb")*)[ \t]*")
_MAX_CHUNK_LINE = 1024
_MAX_EXTENSIONS = 16384  # of a whole body
_MAX_TRAILER = 8192


class Body(Protocol):
    """A message body in transit."""

    done: bool
    octets: int
    """Octets of content seen so far, without any framing."""

    def take(self, data: bytes, start: int = 0) -> int:
        """Follow the body through `data[start:]` and return where it ends there; raises ProtocolError (400)."""

    def end(self) -> bool:
        """The peer closed: return whether the body is complete by that."""


class LengthBody:
    """A body of a known length, of which `left` octets are still to come."""

    __slots__ = ("done", "left", "octets")

    def __init__(self, length: int) -> None:
        self.left = length
        self.octets = 0
        self.done = length == 0

    def take(self, data: bytes, start: int = 0) -> int:
        """See `Body.take`."""
        size = min(len(data) - start, self.left)
        self.skip(size)
        return start + size

    def skip(self, octets: int) -> None:
        """Note octets that went by another way, no more than are left."""
        self.left -= octets
        self.octets += octets
        self.done = not self.left

    def end(self) -> bool:
        """See `Body.end`: a length that was not reached is never complete."""
        return self.done


class CloseBody:
    """A response body that ends when the connection does."""

    __slots__ = ("done", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self.done = False

    def take(self, data: bytes, start: int = 0) -> int:
        """See `Body.take`: everything belongs to it."""
        self.octets += len(data) - start
        return len(data)

    def end(self) -> bool:
        """See `Body.end`: closing is how it ends."""
        self.done = True
        return True


class ChunkedBody:
    """A chunked body, checked strictly (RFC 9112 section 7.1).

    Refused are bare LF, bad sizes, malformed extensions and trailer fields, and trailer fields that a recipient
    might take for framing, routing or what the proxy says itself (RFC 9110 section 6.5.1). Extensions and
    trailers are bounded, for nobody counts them as content.

    With `payload` a list is given that receives the content without its framing. `underscores` lets trailer fields
    have `_` in their names, as a response's fields may.
    """

    __slots__ = (
        "_extensions",
        "_in_trailer",
        "_left",
        "_line",
        "_trailer",
        "_underscores",
        "done",
        "octets",
        "payload",
    )

    def __init__(self, payload: list[bytes] | None = None, *, underscores: bool = False) -> None:
        self.payload = payload
        self._underscores = underscores
        self.octets = 0
        self.done = False
        self._left = 0  # of the current chunk, its CRLF included; 0: a line is expected
        self._line = b""  # the beginning of a line that was cut by the end of the data
        self._extensions = 0
        self._in_trailer = False
        self._trailer = 0

    def take(self, data: bytes, start: int = 0) -> int:
        """See `Body.take`."""
        position = start
        size = len(data)
        while position < size and not self.done:
            if self._left:
                position = self._chunk(data, position, size)
            else:
                position = self._next_line(data, position)
        return position

    def end(self) -> bool:
        """See `Body.end`: without its last chunk it is never complete."""
        return self.done

    def _chunk(self, data: bytes, position: int, size: int) -> int:
        """Follow the content of a chunk, then the CRLF behind it."""
        content = min(self._left - 2, size - position)
        if content > 0:
            if self.payload is not None:
                self.payload.append(data[position : position + content])
            self.octets += content
            self._left -= content
            position += content
        while position < size and 0 < self._left <= 2:
            if data[position] != (0x0D if self._left == 2 else 0x0A):
                raise ProtocolError(400, "a chunk that is longer than its size")
            self._left -= 1
            position += 1
        return position

    def _next_line(self, data: bytes, position: int) -> int:
        """Follow a line, or its beginning if that is all there is."""
        found = data.find(b"\n", position)
        end = len(data) if found < 0 else found + 1
        room = (_MAX_TRAILER - self._trailer if self._in_trailer else _MAX_CHUNK_LINE) - len(self._line)
        if end - position > room:
            raise ProtocolError(400, "a trailer over its limit" if self._in_trailer else "a chunk line over its limit")
        line = self._line + data[position:end]
        if found < 0:
            self._line = line
            return end
        self._line = b""
        if line[-2:] != b"\r\n":
            raise ProtocolError(400, "bare LF in a chunked body")
        if self._in_trailer:
            self._trailer_line(line[:-2])
        else:
            self._size_line(line[:-2])
        return end

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "a malformed chunk size or extension")
        digits, extensions = match.groups()
        self._extensions += len(extensions)
        if self._extensions > _MAX_EXTENSIONS:
            raise ProtocolError(400, "chunk extensions over their limit")
        size = int(digits, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailer += len(line) + 2
        kind = parse_line(line).kind
        if kind >= Kind.HOST and not (kind is Kind.UNDERSCORED and self._underscores):
            raise ProtocolError(400, "a field that must not stand in a trailer")
