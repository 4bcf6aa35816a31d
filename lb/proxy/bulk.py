"""Long bodies of a known length: from one transport straight to another, through one buffer that is used again.

Octets that a loop hands over as `bytes` are copied into fresh memory first, and what is read in larger pieces wakes
everybody less often: together that is half of what a long body costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

LONG = 128 << 10
"""Octets still to come from which on a body is worth a reader of its own."""

_SIZE = 768 << 10
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


class BulkReader(asyncio.BufferedProtocol):
    """Stands in for the protocol of `source` while `left` octets pass to `target`; everything else is told to that.

    Nobody else may write to `target` meanwhile. `passed` is called with the number of octets each time some went on;
    before the last time, `source` has its protocol back.
    """

    __slots__ = ("_basin", "_fd", "_held", "_left", "_passed", "_protocol", "_source", "_target")

    def __init__(
        self,
        basin: Basin,
        source: asyncio.Transport,
        target: asyncio.Transport,
        left: int,
        passed: Callable[[int], None],
    ) -> None:
        self._basin = basin
        self._source = source
        self._target = target
        self._fd: int = target.get_extra_info("socket").fileno()
        self._left = left
        self._passed = passed
        self._held = 0
        protocol = source.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        source.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol: never room for more than what belongs to the body."""
        basin = self._basin
        size = _SLOW_SIZE if self._held or basin.held > _MAX_HELD else _SIZE
        return basin.view[: min(self._left, size)]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        rest = self._write(self._basin.view[:nbytes])
        self._hold(rest)
        self._left -= nbytes
        if not self._left:
            self.stop()
        self._passed(nbytes)

    def _write(self, view: memoryview) -> int:
        """Write it, and return how much of it is still on its way: the transport gets a copy of that."""
        target = self._target
        taken = 0
        if not target.is_closing() and not target.get_write_buffer_size():
            # Nothing was taken, or there is an error that the transport will meet, too, and knows how to tell.
            with contextlib.suppress(OSError):
                taken = os.write(self._fd, view)
        if taken < len(view):
            target.write(bytes(view[taken:]))
        return len(view) - taken

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
