"""The HTTP, TCP and TLS data plane of one process: started, given snapshots, drained."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Iterator, Sequence

from lb.balance.endpoint import Endpoint
from lb.balance.places import Places
from lb.catalog.model import Snapshot
from lb.deadlines import Deadlines
from lb.observe.accesslog import AccessLog
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.proxy.ceiling import Ceiling, Client, descriptor_limit
from lb.proxy.context import patience
from lb.proxy.listener import Door, HttpListener, TcpListeners
from lb.proxy.tls_listener import TlsListener
from lb.settings import Settings
from lb.sockets import Place
from lb.upstream.idle import IdlePool

_RESERVE = 64
"""Descriptors for logs, DNS, and what the program holds open for itself."""
_DRAIN_STEP = 0.05
_ABORT_TIME = 1.0  # for the loop to tell the sessions that their connections are gone


class BalancerPlane:
    """Owns the balancer, its listeners and its idle upstream connections."""

    def __init__(
        self, settings: Settings, stats: Stats, access_log: AccessLog | None, places: Places | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._upstream = settings.upstream
        self._stats = stats
        self._deadlines = Deadlines(loop)
        self.balancer = Balancer(settings.routing, stats, self._prepare, self._retire, places)
        self._pools: set[IdlePool] = set()
        self._drain_end: float | None = None
        self._ceiling = Ceiling(loop, 1, self._doors, self._clients, self._instances)
        self._http: HttpListener | None = None
        if settings.http is not None:
            self._http = HttpListener(
                self.balancer,
                self._deadlines,
                settings.http,
                settings.upstream,
                settings.proxy_protocol,
                stats,
                access_log,
                self._ceiling.admit,
            )
        self._tcp: TcpListeners | None = None
        if settings.tcp is not None and settings.tcp.host is not None:
            self._tcp = TcpListeners(
                self.balancer,
                self._deadlines,
                settings.tcp.idle_timeout,
                settings.upstream,
                settings.proxy_protocol,
                stats,
                self._ceiling.admit,
            )
        self._tls: TlsListener | None = None
        if settings.tls is not None:
            self._tls = TlsListener(
                self.balancer,
                self._deadlines,
                settings.tls,
                settings.upstream,
                settings.proxy_protocol,
                stats,
                self._ceiling.admit,
            )

    def _prepare(self, endpoint: Endpoint) -> None:
        endpoint.pool = IdlePool(self._upstream, self._deadlines, self._pools)
        self._pools.add(endpoint.pool)

    def _retire(self, endpoint: Endpoint) -> None:
        if endpoint.pool is not None:
            endpoint.pool.close()
            self._pools.discard(endpoint.pool)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it accepts."""
        return tuple(place for listeners in self._listeners() for place in listeners.places)

    def listen(self, place: Place, socks: Sequence[socket.socket]) -> None:
        """Accept on the sockets of a place, which are the plane's from here."""
        listener = {"http": self._http, "tcp": self._tcp, "tls": self._tls}[place.kind]
        assert listener is not None
        door = listener.listen(place, socks)
        self._raise_ceiling()
        if not self._ceiling.paused:
            door.resume()

    def close(self, place: Place) -> None:
        """Accept no more on a TCP port; its sessions go on."""
        assert self._tcp is not None
        self._tcp.close(place)
        self._raise_ceiling()

    def _raise_ceiling(self) -> None:
        """Allow as many connections as there are descriptors for, beside those of the doors."""
        reserve = _RESERVE + sum(door.descriptors for door in self._doors())
        self._ceiling.limit = max(1, descriptor_limit() - reserve)

    def _doors(self) -> Iterator[Door]:
        for listeners in self._listeners():
            yield from listeners.doors

    def _instances(self) -> int:
        """Connections to instances: one for each request or session that is active, and those that are kept."""
        active = sum(target.stats.active for target in self.balancer.targets())
        return active + sum(len(pool) for pool in self._pools)

    def _clients(self) -> Iterator[Collection[Client]]:
        for listeners in self._listeners():
            yield from listeners.sessions

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog at once; nothing in flight notices."""
        self.balancer.apply(snapshot)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight end within `grace` seconds, then end it.

        Called again meanwhile, it sets another time to the first call and returns at once.
        """
        draining, self._drain_end = self._drain_end is not None, time.monotonic() + grace
        if draining:
            return
        self._ceiling.close()
        for listeners in self._listeners():
            listeners.drain(patience(grace))
        # Asked for once in a life: not worth an event that every session would have to know.
        while self._in_flight() and time.monotonic() < self._drain_end:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_STEP)
        for listeners in self._listeners():
            listeners.abort()
        end = time.monotonic() + _ABORT_TIME
        while self._in_flight() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_STEP)
        for pool in self._pools:
            pool.close()
        self._deadlines.close()

    def _in_flight(self) -> bool:
        return any(sessions for sessions in self._clients())

    def _listeners(self) -> list[HttpListener | TcpListeners | TlsListener]:
        return [listeners for listeners in (self._http, self._tcp, self._tls) if listeners is not None]
