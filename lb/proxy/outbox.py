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
    """What is to be written and closed, in order for each transport: to instances, then to clients.

    For one loop. Who writes to a transport, half-closes or resets it by other means calls `flush` first. Where a call
    is too much, one may `schedule` unless that is done already (`scheduled`), and append a transport and octets to
    `requests` or `replies`.
    """

    __slots__ = ("_loop", "replies", "requests", "scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.scheduled = False
        self.requests: list[tuple[asyncio.Transport, Octets]] = []
        self.replies: list[tuple[asyncio.Transport, Octets | None]] = []

    def schedule(self) -> None:
        """See to it that there is a flush at the end of this turn."""
        self.scheduled = True
        self._loop.call_soon(self.flush)

    def ask(self, transport: asyncio.Transport, data: Octets) -> None:
        """Write `data` to an instance at the end of this turn; before any reply, as it has work to do."""
        if not self.scheduled:
            self.schedule()
        self.requests.append((transport, data))
        if len(data) >= LARGE:
            self.flush()

    def write(self, transport: asyncio.Transport, data: Octets) -> None:
        """Write `data` to a client at the end of this turn."""
        if not self.scheduled:
            self.schedule()
        self.replies.append((transport, data))
        if len(data) >= LARGE:
            self.flush()

    def close(self, transport: asyncio.Transport) -> None:
        """Close a client's transport in order at the end of this turn, behind what is to be written."""
        if not self.scheduled:
            self.schedule()
        self.replies.append((transport, None))

    def flush(self) -> None:
        """Do it all now: before something is done to a transport by other means."""
        self.scheduled = False
        requests, self.requests = self.requests, []
        replies, self.replies = self.replies, []
        for transport, request in requests:
            if not transport.is_closing():
                transport.write(request)
        for transport, data in replies:
            if transport.is_closing():
                continue
            if data is None:
                transport.close()
            else:
                transport.write(data)
