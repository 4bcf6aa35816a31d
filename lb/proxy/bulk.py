"""Long bodies of a known length: from one transport straight to another, through one buffer that is used again.

Octets that a loop hands over as `bytes` are copied into fresh memory first, and what is read in larger pieces wakes
everybody less often: together that is half of what a long body costs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lb.proxy.context import HttpContext

LONG = 128 << 10
"""Octets still to come from which on a body is worth a reader of its own."""

_SIZE = 400 << 10
_SLOW_SIZE = 64 << 10
"""What is read at a time for somebody who does not take it all: it has to be kept for them."""
_MAX_HELD = 16 << 20


class Basin:
    """The buffer that all `BulkReader`s of a loop read into, one after the other.

    `held` counts the octets that were read into it and then kept for somebody who did not take them at once. While
    that is too much, everybody gets less at a time.
    """

    __slots__ = ("held", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_SIZE))
        self.held = 0


class Passage(NamedTuple):
    """Where a body goes: `left` octets of it are still to come for `target`, and nobody else may write to that.

    `passed` is called with the number of octets each time some went on.
    """

    target: asyncio.Transport
    left: int
    passed: Callable[[int], None]


class Beginning(NamedTuple):
    """What the first octets of a message were found to be: a head of `size` octets, before a body that goes through
    `passage`, behind `head`."""

    size: int
    head: bytes
    passage: Passage


class BulkReader(asyncio.BufferedProtocol):
    """Stands in for the protocol of `source` while a body passes from there; everything else is told to that.

    `source` has its protocol back before `passed` is called for the last time. Where the message has yet to begin,
    `judge` is shown its first octets; it returns None once it has dealt with them in another way, and this reader is
    not wanted any more.
    """

    __slots__ = ("_basin", "_fd", "_held", "_judge", "_left", "_protocol", "_source", "_target", "passed")

    _target: asyncio.Transport
    _fd: int
    passed: Callable[[int], None]

    def __init__(
        self, basin: Basin, source: asyncio.Transport, way: Passage | Callable[[memoryview], Beginning | None]
    ) -> None:
        self._basin = basin
        self._source = source
        self._held = 0
        self._judge: Callable[[memoryview], Beginning | None] | None = None
        self._left = 0
        if isinstance(way, Passage):
            self._go(way)
        else:
            self._judge = way
        protocol = source.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        source.set_protocol(self)

    def _go(self, way: Passage) -> None:
        self._target, self._left, self.passed = way
        self._fd = way.target.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol: never room for more than what belongs to the body."""
        basin = self._basin
        size = _SLOW_SIZE if self._held or basin.held > _MAX_HELD else _SIZE
        return basin.view[: size if self._judge is not None else min(self._left, size)]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        view = self._basin.view[:nbytes]
        if self._judge is not None:
            self._begin(view)
        else:
            self.send(view)

    def _begin(self, view: memoryview) -> None:
        judge, self._judge = self._judge, None
        beginning = None if judge is None else judge(view)
        if beginning is not None:
            self._go(beginning.passage)
            self.send(view[beginning.size :], beginning.head)

    def send(self, view: memoryview, head: bytes = b"") -> None:
        """Send octets of the body, and a head before them."""
        self._hold(self._write(view, head))
        self._left -= len(view)
        if not self._left:
            self.stop()
        self.passed(len(view))

    def _write(self, view: memoryview, head: bytes) -> int:
        """Write both, and return how much of it is still on its way: the transport gets a copy of that."""
        target = self._target
        taken = 0
        if not target.is_closing() and not target.get_write_buffer_size():
            try:
                taken = os.writev(self._fd, (head, view)) if head else os.write(self._fd, view)
            except OSError:
                taken = 0  # or there is an error that the transport will meet, too, and knows how to tell
        rest = len(head) + len(view) - taken
        if rest:
            target.write((head + view)[taken:] if head else bytes(view[taken:]))
        return rest

    def _hold(self, octets: int) -> None:
        self._basin.held += octets - self._held
        self._held = octets

    def stop(self) -> None:
        """Give `source` its protocol back."""
        self._hold(0)
        self._source.set_protocol(self._protocol)

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._hold(0)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.resume_writing()


def pass_on(context: HttpContext, source: asyncio.Transport, passage: Passage) -> None:
    """Let the rest of a body go straight from `source`, if that is long enough to be worth it."""
    if passage.left >= LONG:
        context.outbox.flush()
        if not passage.target.is_closing():
            BulkReader(context.basin, source, passage)
