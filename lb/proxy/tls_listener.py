"""The TLS listeners: connections are passed through, undecrypted, to the service that their client names."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from lb.deadlines import Deadlines
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import TcpContext, TcpSessions
from lb.proxy.intake import HelloIntake, Make, admitting
from lb.proxy.listener import Door
from lb.settings import ProxyProtocolSettings, TlsSettings, UpstreamSettings
from lb.sockets import Place


class TlsListener:
    """The TLS listeners of one process."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: TlsSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        admit: Callable[[], None],
    ) -> None:
        self._balancer = balancer
        self._deadlines = deadlines
        self._settings = settings
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._admit = admit
        self._doors: dict[Place, Door] = {}
        self._sessions: TcpSessions = set()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it accepts."""
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
            asyncio.get_running_loop(),
            self._deadlines,
            self._settings.idle_timeout,
            self._upstream,
            stats,
            self._sessions,
        )
        make = cast(Make, functools.partial(HelloIntake, context, self._balancer, self._settings))
        factory = admitting(context, self._proxy_protocol, make)
        door = self._doors[place] = Door(factory, socks, stats, self._admit)
        return door

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
