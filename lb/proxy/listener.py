"""Listeners of the balancer: they accept on sockets that somebody else opened, and close them with the process."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import cast

from lb.deadlines import Deadlines
from lb.observe.accesslog import AccessLog
from lb.observe.stats import ListenerStats, Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import HttpContext, TcpContext, TcpSessions
from lb.proxy.http_session import HttpSession
from lb.proxy.intake import Intake, Make, admitting
from lb.proxy.tcp_session import TcpSession
from lb.settings import HttpSettings, ProxyProtocolSettings, UpstreamSettings
from lb.sockets import BACKLOG, Place
from lb.wire.proxyprotocol import Ends

ACCEPTS = 4
"""Connections that a listener accepts in one turn of the loop at most. libuv accepts one for each handle, so there are
so many handles for one socket: a turn of the loop for each connection would be dear."""
MANY_PORTS = 64
"""So many TCP ports have one handle each: descriptors are worth more then."""

log = logging.getLogger(__name__)


class Door:
    """Accepts connections on the sockets of one place, from `resume` on; they are the door's, and closed with it.

    What waits in a socket's queue is lost only if no other process has the socket.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        socks: Sequence[socket.socket],
        stats: ListenerStats,
        admit: Callable[[], None],
        accepts: int = ACCEPTS,
    ) -> None:
        self._make = make
        self._admit = admit
        self._socks = socks
        self._accepts = accepts
        self._servers: list[asyncio.Server] = []
        self._opening: asyncio.Task[None] | None = None
        self.stats = stats

    @property
    def descriptors(self) -> int:
        """How many files it keeps open."""
        return len(self._socks) * (1 + self._accepts)

    def resume(self) -> None:
        """Accept, for the first time or after a pause."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(), name="accept")

    async def _open(self) -> None:
        try:
            for sock in self._socks:
                for _ in range(self._accepts):
                    await self._serve(sock.dup())
        except OSError as error:
            self.stats.failed(f"cannot accept: {error.strerror or error}")
            log.error("cannot accept connections: %s", error)
        else:
            self.stats.opened()

    async def _serve(self, handle: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._servers.append(await loop.create_server(self._enter, sock=handle, backlog=BACKLOG))
        except BaseException:  # cancelled, for one: the door is closed again
            handle.close()
            raise

    def _enter(self) -> asyncio.Protocol:
        self._admit()
        return self._make()

    def pause(self) -> None:
        """Accept no more for now; connections wait in the kernel's queue."""
        if self._opening is not None:
            self.stats.pause()
        self._shut()

    def _shut(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        for server in self._servers:
            server.close()
        self._servers.clear()

    def close(self, reason: str = "") -> None:
        """Accept no more; `reason` is shown as long as connections are left."""
        self._shut()
        for sock in self._socks:
            sock.close()
        if reason:
            self.stats.failed(reason)
        else:
            self.stats.closed()


class HttpListener:
    """The HTTP listeners of one process."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: HttpSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        access_log: AccessLog | None,
        admit: Callable[[], None],
    ) -> None:
        self._balancer = balancer
        self._deadlines = deadlines
        self._settings = settings
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._admit = admit
        self._access_log = access_log
        self._doors: dict[Place, Door] = {}
        self._contexts: list[HttpContext] = []

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it accepts."""
        return tuple(self._doors)

    def listen(self, place: Place, socks: Sequence[socket.socket]) -> Door:
        """Make a door for the sockets of a place, which are the listener's from here."""
        stats = self._stats.listener(str(place))
        context = HttpContext(
            asyncio.get_running_loop(),
            self._deadlines,
            self._balancer,
            self._settings,
            self._upstream,
            stats,
            self._access_log,
        )
        self._contexts.append(context)
        make = admitting(context, self._proxy_protocol, cast(Make, functools.partial(HttpSession, context)))
        door = self._doors[place] = Door(make, socks, stats, self._admit)
        return door

    @property
    def doors(self) -> Iterable[Door]:
        """What accepts."""
        return self._doors.values()

    @property
    def sessions(self) -> Sequence[Collection[HttpSession | Intake]]:
        """Client connections that are still open."""
        return [context.sessions for context in self._contexts]

    def drain(self, patience: float) -> None:
        """Accept no more, let clients finish their exchange, close those that are silent for `patience` seconds."""
        for door in self._doors.values():
            door.close("draining")
        for context in self._contexts:
            context.drain(patience)
            for session in list(context.sessions):
                session.drain(patience)

    def abort(self) -> None:
        """End what is still in flight."""
        for context in self._contexts:
            for session in list(context.sessions):
                session.abort()


class StreamListeners:
    """Listeners whose connections are relayed; a subclass says what a connection begins with."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        idle_timeout: float,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        admit: Callable[[], None],
    ) -> None:
        self.balancer = balancer
        self._deadlines = deadlines
        self._idle_timeout = idle_timeout
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._admit = admit
        self._doors: dict[Place, Door] = {}
        self._sessions: TcpSessions = set()

    def begin(self, context: TcpContext, place: Place, ends: Ends | None = None) -> asyncio.Protocol:
        """Make the protocol of a connection to a place; `ends` are its client's, if a PROXY header told them."""
        raise NotImplementedError

    @property
    def places(self) -> tuple[Place, ...]:
        """Where they accept."""
        return tuple(self._doors)

    @property
    def doors(self) -> Iterable[Door]:
        """What accepts."""
        return self._doors.values()

    @property
    def sessions(self) -> Sequence[TcpSessions]:
        """Client connections that are still open."""
        return (self._sessions,)

    def listen(self, place: Place, socks: Sequence[socket.socket]) -> Door:
        """Make a door for the sockets of a place, which are the listener's from here."""
        stats = self._stats.listener(str(place))
        context = TcpContext(
            asyncio.get_running_loop(), self._deadlines, self._idle_timeout, self._upstream, stats, self._sessions
        )
        make = admitting(context, self._proxy_protocol, functools.partial(self.begin, context, place))
        accepts = ACCEPTS if len(self._doors) < MANY_PORTS else 1
        door = self._doors[place] = Door(make, socks, stats, self._admit, accepts)
        return door

    def close(self, place: Place) -> None:
        """Accept no more at a place; sessions go on."""
        self._doors.pop(place).close()

    def drain(self, patience: float) -> None:
        """Accept no more; sessions go on, and whoever has said nothing for `patience` seconds is closed."""
        for door in self._doors.values():
            door.close("draining")
        for session in list(self._sessions):
            session.drain(patience)

    def abort(self) -> None:
        """End what is still in flight."""
        for session in list(self._sessions):
            session.abort()


class TcpListeners(StreamListeners):
    """Listens on the ports of TCP services, as they come and go."""

    def begin(self, context: TcpContext, place: Place, ends: Ends | None = None) -> asyncio.Protocol:
        """See StreamListeners."""
        target = self.balancer.tcp(place.address.port)
        return Stranger(context.stats) if target is None else TcpSession(context, target, ends)


class Stranger(asyncio.Protocol):
    """A connection to a port whose service has just left the catalog."""

    def __init__(self, stats: ListenerStats) -> None:
        self._stats = stats

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        self._stats.accept()
        self._stats.leave()
        self._stats.turn_away("no_service")
        cast(asyncio.Transport, transport).abort()
