"""Kept-alive connections that wait for their next request, one pool for each endpoint.

nginx's rules: last used, first out; at most so many; closed after `keepalive_timeout` idle or
`keepalive_requests` uses. Every operation is O(1): a dict keeps its order, its first entry has been idle for longest.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from lb.deadlines import NEVER, Deadlines, Timed
from lb.settings import UpstreamSettings
from lb.upstream.connection import NOBODY, UpstreamConnection

_MAKE_ROOM = 16
"""Pools that give a connection away when descriptors are short."""


class IdlePool:
    """The idle connections of one endpoint, on one deadline.

    It is their user while they are idle: whatever they say then ends them. `idle` has them by the time of their last
    use, in loop time. Where a call is too much, one of fewer than `longest_use` requests may be put back there while
    there are fewer than `room` and a `deadline` is set. `pools` are all of the process: they share its descriptors.
    """

    __slots__ = ("_deadlines", "_pools", "_timeout", "bucket", "deadline", "filed", "idle", "longest_use", "room")

    def __init__(self, settings: UpstreamSettings, deadlines: Deadlines, pools: Collection[IdlePool] = ()) -> None:
        self._deadlines = deadlines
        self._pools = pools
        self._timeout = settings.keepalive_timeout
        self.idle: dict[UpstreamConnection, float] = {}
        self.longest_use = settings.keepalive_requests
        self.room = settings.keepalive_connections
        self.deadline = NEVER
        self.filed = NEVER
        self.bucket: set[Timed] | None = None

    def __len__(self) -> int:
        return len(self.idle)

    def __repr__(self) -> str:
        return f"<IdlePool {len(self.idle)} idle{'' if self.room else ', closed'}>"

    def take(self) -> UpstreamConnection | None:
        """Return the connection used last, or None. The caller becomes its user."""
        idle = self.idle
        while idle:
            connection = idle.popitem()[0]
            if not connection.transport.is_closing():
                return connection
        return None

    def give(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose exchange ended cleanly, or close it where there is no room."""
        if (
            connection.eof
            or connection.requests >= self.longest_use
            or connection.transport.is_closing()
            or not self.room
        ):
            self.dismiss(connection)
            return
        if len(self.idle) >= self.room:
            self.dismiss(next(iter(self.idle)))
        connection.user = self
        self.idle[connection] = self._deadlines.time()
        if self.deadline == NEVER:
            self._deadlines.set(self, self._timeout)

    def on_deadline(self) -> None:
        """See `Deadlines`: close what has been idle for too long, and wait for the next."""
        timeout = self._timeout
        now = self._deadlines.time()
        while self.idle:
            connection, since = next(iter(self.idle.items()))
            if now < since + timeout:
                self._deadlines.set(self, since + timeout - now)
                return
            self.dismiss(connection)

    def close(self) -> None:
        """Close what is idle now and whatever is given later: the endpoint has left the catalog."""
        self.room = 0
        while self.idle:
            self.dismiss(next(iter(self.idle)))
        self._deadlines.cancel(self)

    def make_room(self) -> bool:
        """Close a few connections of all pools, those that have been idle for longest; False when there are none.

        It is their descriptors that are wanted.
        """
        eldest = heapq.nsmallest(
            _MAKE_ROOM, (pool for pool in self._pools if pool.idle), key=lambda pool: next(iter(pool.idle.values()))
        )
        for pool in eldest:
            pool.dismiss(next(iter(pool.idle)))
        return bool(eldest)

    def dismiss(self, connection: UpstreamConnection) -> None:
        """Close a connection, idle or in use, that is not to be used again.

        At once: an instance that does not take what is left of a request would hold it for ever.
        """
        self.idle.pop(connection, None)
        connection.user = NOBODY
        connection.abort()

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User: bytes that nobody asked for must not be taken for the reply to the next request."""
        self.dismiss(connection)

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """See User."""
        self.dismiss(connection)

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """See User."""
        self.idle.pop(connection, None)

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User: nothing is written to an idle connection."""

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User."""
