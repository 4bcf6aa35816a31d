"""Kept-alive connections that wait for their next request, one pool for each endpoint.

nginx's rules: last used, first out; at most so many; closed after `keepalive_timeout` idle or
`keepalive_requests` uses. Every operation is O(1): a dict keeps its order, its first entry has been idle for longest.
"""

from __future__ import annotations

from lb.deadlines import NEVER, UNFILED, Deadlines
from lb.settings import UpstreamSettings
from lb.upstream.connection import NOBODY, UpstreamConnection


class IdlePool:
    """The idle connections of one endpoint, on one deadline.

    It is their user while they are idle: whatever they say then ends them.
    """

    __slots__ = ("_closed", "_deadlines", "_idle", "_settings", "deadline", "filed")

    def __init__(self, settings: UpstreamSettings, deadlines: Deadlines) -> None:
        self._settings = settings
        self._deadlines = deadlines
        self._idle: dict[UpstreamConnection, float] = {}  # since when, in loop time
        self._closed = False
        self.deadline = NEVER
        self.filed = UNFILED

    def __len__(self) -> int:
        return len(self._idle)

    def __repr__(self) -> str:
        return f"<IdlePool {len(self._idle)} idle{', closed' if self._closed else ''}>"

    def take(self) -> UpstreamConnection | None:
        """Return the connection used last, or None. The caller becomes its user."""
        idle = self._idle
        while idle:
            connection = idle.popitem()[0]
            if not connection.transport.is_closing():
                return connection
        return None

    def give(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose exchange ended cleanly, or close it where there is no room."""
        settings = self._settings
        if (
            self._closed
            or connection.eof
            or connection.requests >= settings.keepalive_requests
            or connection.transport.is_closing()
            or not settings.keepalive_connections
        ):
            self.dismiss(connection)
            return
        if len(self._idle) >= settings.keepalive_connections:
            self.dismiss(next(iter(self._idle)))
        connection.user = self
        self._idle[connection] = self._deadlines.time()
        if self.deadline == NEVER:
            self._deadlines.set(self, settings.keepalive_timeout)

    def on_deadline(self) -> None:
        """See `Deadlines`: close what has been idle for too long, and wait for the next."""
        timeout = self._settings.keepalive_timeout
        now = self._deadlines.time()
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            if now < since + timeout:
                self._deadlines.set(self, since + timeout - now)
                return
            self.dismiss(connection)

    def close(self) -> None:
        """Close what is idle now and whatever is given later: the endpoint has left the catalog."""
        self._closed = True
        while self._idle:
            self.dismiss(next(iter(self._idle)))
        self._deadlines.cancel(self)

    def dismiss(self, connection: UpstreamConnection) -> None:
        """Close a connection, idle or in use, that is not to be used again.

        At once: an instance that does not take what is left of a request would hold it for ever.
        """
        self._idle.pop(connection, None)
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
        self._idle.pop(connection, None)

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User: nothing is written to an idle connection."""

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User."""
