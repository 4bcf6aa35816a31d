"""Writes that are gathered during one turn of the event loop and made together at its end.

A write wakes the process at the other end. Made one by one, between the parsing of one request and the next, each
finds its reader asleep again; made back to back, most find it awake. That is a third of the time in the kernel.
"""

from __future__ import annotations

import asyncio

Octets = bytes | memoryview
"""What a transport takes."""

LARGE = 1 << 16
"""Octets that are written at once: what waits is no longer in the cache, and nobody pushes back against it."""


class Outbox:
    """What is to be written and closed, in order.

    For one loop. Who writes to a transport, half-closes or resets it by other means calls `flush` first.
    """

    __slots__ = ("_loop", "_queue")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: list[tuple[asyncio.Transport, Octets | None]] = []

    def write(self, transport: asyncio.Transport, data: Octets) -> None:
        """Write `data` at the end of this turn."""
        if not self._queue:
            self._loop.call_soon(self.flush)
        self._queue.append((transport, data))
        if len(data) >= LARGE:
            self.flush()

    def close(self, transport: asyncio.Transport) -> None:
        """Close in order at the end of this turn, behind what is to be written."""
        if not self._queue:
            self._loop.call_soon(self.flush)
        self._queue.append((transport, None))

    def flush(self) -> None:
        """Do it all now: before something is done to a transport by other means."""
        queue, self._queue = self._queue, []
        for transport, data in queue:
            if transport.is_closing():
                continue
            if data is None:
                transport.close()
            else:
                transport.write(data)
