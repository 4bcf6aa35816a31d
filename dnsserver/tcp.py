"""DNS over TCP (RFC 7766): length-framed queries, pipelined, under limits that Consul's server has too."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import cast

from dnsserver.clients import Clients, client_network
from dnsserver.responder import Responder
from dnsserver.stats import DnsStats

FIRST_QUERY = 2.0
"""Seconds for the first whole query to arrive."""

IDLE = 8.0
"""Seconds between whole queries, and for a client to read what it is sent."""

MAX_QUERIES = 128
"""Queries on one connection, which is closed after them."""

MAX_QUERY = 4096
"""Octets of a query, as over UDP; a client that announces more is read no further."""

MAX_CONNECTIONS = 2048
"""Connections of all clients; more are closed at once."""

MAX_CLIENT_CONNECTIONS = MAX_CONNECTIONS // 2
"""Connections of one client network, so that no client keeps all others out."""

WRITE_BUFFER = 64 << 10
"""Octets of replies that may wait for a slow client; no query of it is served while there are more."""

MAX_HELD = 32 << 20
"""Octets that all clients together may hold: replies that they have not read, queries that wait for that."""

RELIEF = 4
"""When they hold more, so much of it, a quarter, is taken back at once: to look at all of them takes a while."""

NEVER = math.inf


class TcpConnections:
    """All TCP clients of the server; makes a `TcpSession` for each connection that is accepted."""

    def __init__(self, responder: Responder, clients: Clients, stats: DnsStats, clock: Callable[[], float]) -> None:
        self.responder = responder
        self.clients = clients
        self.stats = stats
        self.clock = clock
        self._open: set[TcpSession] = set()
        self._clients: Counter[str | int] = Counter()
        self._held: dict[TcpSession, int] = {}
        self._sum = 0

    def __call__(self) -> TcpSession:
        """Make the protocol of one connection."""
        return TcpSession(self)

    def opened(self, session: TcpSession) -> bool:
        """Count a new session; False when it is one too many, of all or of its client."""
        reason = ""
        if len(self._open) >= MAX_CONNECTIONS:
            reason = "tcp_connections"
        elif self._clients[session.client] >= MAX_CLIENT_CONNECTIONS:
            reason = "tcp_client_connections"
        if reason:
            self.stats.dropped[reason] += 1
            return False
        self._open.add(session)
        self._clients[session.client] += 1
        self.stats.tcp_accepted += 1
        self.stats.tcp_open = len(self._open)
        return True

    def closed(self, session: TcpSession) -> None:
        """Forget a session."""
        if session not in self._open:
            return
        self._open.remove(session)
        self._clients[session.client] -= 1
        if not self._clients[session.client]:
            del self._clients[session.client]
        self.stats.tcp_open = len(self._open)
        self._hold(session, 0)

    def note(self, session: TcpSession) -> None:
        """Note how much a session holds now; when all together hold too much, end the slowest."""
        self._hold(session, session.held)
        if self._sum > MAX_HELD:
            self._weigh()
            if self._sum > MAX_HELD:
                self._shed()

    def sweep(self) -> None:
        """End sessions whose time is over; to be called about each second."""
        now = self.clock()
        for session in list(self._open):
            session.expire(now)
        self._weigh()

    def drain(self) -> None:
        """Take no more queries; sessions without one under way end."""
        for session in list(self._open):
            session.stop()

    def abort(self) -> None:
        """End all sessions at once."""
        for session in list(self._open):
            session.abort()

    def _weigh(self) -> None:
        """Look again at all that held something: nobody tells when a client has read some of it."""
        for session in list(self._held):
            self._hold(session, session.held)

    def _hold(self, session: TcpSession, size: int) -> None:
        self._sum += size - self._held.pop(session, 0)
        if size:
            self._held[session] = size

    def _shed(self) -> None:
        """End those that have not read for longest, and then those that hold most, until there is room again."""
        for session in sorted(self._held, key=lambda session: (session.stalled, -self._held[session])):
            if self._sum <= MAX_HELD - MAX_HELD // RELIEF:
                return
            self.stats.dropped["tcp_memory"] += 1
            session.abort()
            self._hold(session, 0)


class TcpSession(asyncio.Protocol):
    """One client. Replies may leave in another order than queries came: an ID tells which is which.

    `client` is the network that the client counts for, `stalled` since when more waits for it than it may.
    """

    def __init__(self, connections: TcpConnections) -> None:
        self._connections = connections
        self._responder = connections.responder
        self._respond = connections.responder.refuse
        self._buffer = bytearray()
        self._queries = 0
        self._pending = 0
        self._paused = False
        self._serving = False
        self._ended = False
        self._deaf = False
        self._deadline = 0.0
        self._transport: asyncio.Transport
        self.client: str | int = ""
        self.stalled = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        # A client that is gone already has no address.
        peer = transport.get_extra_info("peername")
        if peer:
            self.client = client_network(peer[0])
        if not self._connections.opened(self):
            self._transport.abort()
            return
        if peer and self._connections.clients.admit(peer[0]):
            self._respond = self._responder.respond
        self._transport.set_write_buffer_limits(WRITE_BUFFER)
        self._deadline = self._connections.clock() + FIRST_QUERY

    def data_received(self, data: bytes) -> None:
        """Serve all queries that are whole."""
        if self._deaf:
            return
        self._buffer += data
        self._serve()
        if self._buffer:
            self._connections.note(self)

    def eof_received(self) -> bool:
        """The client sends no more; it still gets what is under way."""
        if self._buffer and not self._paused:
            self._drop("tcp_half")
        self._ended = True
        return self._pending > 0 or self._paused

    def pause_writing(self) -> None:
        """Leave a client that does not read alone."""
        self._paused = True
        self.stalled = self._connections.clock()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with queries that came before the pause."""
        self._paused = False
        self.stalled = NEVER
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._serve()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._connections.closed(self)
        self._buffer.clear()

    def expire(self, now: float) -> None:
        """End the session if its time is over; a query that waits for a recursor has its own time."""
        if now < self._deadline or (self._pending and not self._paused):
            return
        slow = self._paused or bool(self._buffer)
        self._drop("tcp_slow" if slow else "tcp_idle")
        # Closing waits until the client has read everything, which a slow one may never do.
        self._transport.abort() if slow else self._transport.close()

    def stop(self) -> None:
        """Take no more queries, and end once those under way are answered."""
        self._deaf = True
        self._buffer.clear()
        self._close_when_done()

    def abort(self) -> None:
        """End the session at once."""
        self._transport.abort()

    @property
    def held(self) -> int:
        """Octets of memory: of replies that the client has not read, and of queries that wait for that."""
        return len(self._buffer) + self._transport.get_write_buffer_size()

    def _serve(self) -> None:
        buffer = self._buffer
        start = 0
        self._serving = True
        while self._may_serve() and len(buffer) >= start + 2:
            size = int.from_bytes(buffer[start : start + 2], "big")
            if size > MAX_QUERY:
                self._drop("tcp_oversized")
                self._deaf = True
                break
            end = start + 2 + size
            if len(buffer) < end:
                break
            packet = bytes(buffer[start + 2 : end])
            start = end
            self._queries += 1
            self._deadline = self._connections.clock() + IDLE
            self._pending += 1
            if not self._respond(packet, self._responder.tcp, self._reply):
                self._pending -= 1
        del buffer[:start]
        if self._queries >= MAX_QUERIES and buffer:
            self._drop("tcp_queries")
            self._deaf = True
        if self._deaf:
            # The connection may stay open for replies of recursors; what else comes is not collected.
            buffer.clear()
        self._serving = False
        self._close_when_done()

    def _may_serve(self) -> bool:
        return not self._paused and self._queries < MAX_QUERIES and not self._transport.is_closing()

    def _reply(self, reply: bytes) -> None:
        self._pending -= 1
        if self._transport.is_closing():
            self._drop("tcp_gone")
        else:
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
            self._connections.note(self)
            self._close_when_done()

    def _close_when_done(self) -> None:
        """Close after the last query, once all its replies are written; what is buffered is still sent."""
        if self._serving or self._pending or self._paused or self._transport.is_closing():
            return
        if self._ended or self._deaf or self._queries >= MAX_QUERIES:
            self._transport.close()

    def _drop(self, reason: str) -> None:
        self._connections.stats.dropped[reason] += 1
