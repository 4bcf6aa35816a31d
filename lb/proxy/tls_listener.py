"""The TLS listeners: connections are passed through, undecrypted, to the service that their client names."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import cast

from lb.deadlines import Deadlines
from lb.observe.stats import ListenerStats, Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import TcpContext, TcpSessions
from lb.proxy.intake import HelloIntake, Make, admitting
from lb.proxy.listener import ACCEPTS, accept, listen_on_all
from lb.settings import Address, ProxyProtocolSettings, TlsSettings, UpstreamSettings


class TlsListener:
    """The TLS listeners of one node."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: TlsSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
    ) -> None:
        self._balancer = balancer
        self._deadlines = deadlines
        self._settings = settings
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._servers: list[asyncio.Server] = []
        self._listeners: list[ListenerStats] = []
        self._sessions: TcpSessions = set()
        self.addresses: tuple[Address, ...] = ()

    @property
    def names(self) -> list[str]:
        """What the listeners are called in metrics and status."""
        return [f"tls {address}" for address in self.addresses]

    @property
    def in_flight(self) -> int:
        """Client connections that are still open."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen on every address, or on none. Raises ListenError naming the address and the reason."""
        socks = listen_on_all("TLS", self._settings.listen)
        self.addresses = tuple(Address(*sock.getsockname()[:2]) for sock in socks)
        for sock, name in zip(socks, self.names, strict=True):
            await self._serve(sock, self._stats.listener(name))

    async def _serve(self, sock: socket.socket, stats: ListenerStats) -> None:
        loop = asyncio.get_running_loop()
        context = TcpContext(loop, self._deadlines, self._settings.idle_timeout, self._upstream, stats, self._sessions)
        make = cast(Make, functools.partial(HelloIntake, context, self._balancer, self._settings))
        make = admitting(context, self._proxy_protocol, make)
        self._servers += await accept(make, sock, ACCEPTS)
        self._listeners.append(stats)
        stats.opened()

    def drain(self, patience: float) -> None:
        """Accept no more; sessions go on, and whoever has said nothing for `patience` seconds is closed."""
        for server in self._servers:
            server.close()
        for stats in self._listeners:
            stats.failed("draining")
        for session in list(self._sessions):
            session.drain(patience)

    def abort(self) -> None:
        """End what is still in flight."""
        for session in list(self._sessions):
            session.abort()
