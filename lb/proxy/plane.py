"""The HTTP, TCP and TLS data plane of one process: started, given snapshots, drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from lb.balance.endpoint import Endpoint
from lb.catalog.model import Problem, Snapshot
from lb.deadlines import Deadlines
from lb.observe.accesslog import AccessLog
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import patience
from lb.proxy.listener import HttpListener, TcpListeners
from lb.proxy.targets import HttpTarget, TcpTarget
from lb.proxy.tls_listener import TlsListener
from lb.settings import Address, Settings
from lb.upstream.idle import IdlePool

_DRAIN_STEP = 0.05
_ABORT_TIME = 1.0  # for the loop to tell the sessions that their connections are gone


class BalancerPlane:
    """Owns the balancer, its listeners and its idle upstream connections."""

    def __init__(self, settings: Settings, stats: Stats, access_log: AccessLog | None) -> None:
        loop = asyncio.get_running_loop()
        self._upstream = settings.upstream
        self._stats = stats
        self._deadlines = Deadlines(loop)
        self._balancer = Balancer(settings.routing, stats, self._prepare, self._retire)
        self._pools: set[IdlePool] = set()
        self._http: HttpListener | None = None
        if settings.http is not None:
            self._http = HttpListener(
                self._balancer,
                self._deadlines,
                settings.http,
                settings.upstream,
                settings.proxy_protocol,
                stats,
                access_log,
            )
        self._tcp: TcpListeners | None = None
        if settings.tcp is not None and settings.tcp.host is not None:
            self._tcp = TcpListeners(
                self._balancer,
                self._deadlines,
                settings.tcp,
                settings.upstream,
                settings.proxy_protocol,
                stats,
                settings.tcp.host,
            )
        self._tls: TlsListener | None = None
        if settings.tls is not None:
            self._tls = TlsListener(
                self._balancer, self._deadlines, settings.tls, settings.upstream, settings.proxy_protocol, stats
            )

    def _prepare(self, endpoint: Endpoint) -> None:
        endpoint.pool = IdlePool(self._upstream, self._deadlines, self._pools)
        self._pools.add(endpoint.pool)

    def _retire(self, endpoint: Endpoint) -> None:
        if endpoint.pool is not None:
            endpoint.pool.close()
            self._pools.discard(endpoint.pool)

    @property
    def http_addresses(self) -> tuple[Address, ...]:
        """The addresses that HTTP listens on."""
        return self._http.addresses if self._http else ()

    @property
    def tls_addresses(self) -> tuple[Address, ...]:
        """The addresses that TLS listens on."""
        return self._tls.addresses if self._tls else ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What of the catalog is not used by this plane, and why."""
        return self._balancer.problems + (self._tcp.problems if self._tcp else ())

    def targets(self) -> Iterator[HttpTarget | TcpTarget]:
        """Every service that is balanced."""
        return self._balancer.targets()

    async def start(self) -> None:
        """Listen for HTTP and TLS; TCP ports follow with the catalog. Raises ListenError."""
        if self._http is not None:
            await self._http.start()
        if self._tls is not None:
            await self._tls.start()

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog at once; nothing in flight notices."""
        self._balancer.apply(snapshot)
        if self._tcp is not None:
            self._tcp.apply()
        self._stats.keep_listeners([name for listeners in self._listeners() for name in listeners.names])

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight end within `grace` seconds, then end it."""
        for listeners in self._listeners():
            listeners.drain(patience(grace))
        await self._emptied(grace)
        for listeners in self._listeners():
            listeners.abort()
        await self._emptied(_ABORT_TIME)
        for pool in self._pools:
            pool.close()
        self._deadlines.close()

    async def _emptied(self, seconds: float) -> None:
        """Return when nothing is in flight any more, or the time is over."""
        end = time.monotonic() + seconds
        # Asked for once in a life: not worth an event that every session would have to know.
        while any(listeners.in_flight for listeners in self._listeners()) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_STEP)

    def _listeners(self) -> list[HttpListener | TcpListeners | TlsListener]:
        return [listeners for listeners in (self._http, self._tcp, self._tls) if listeners is not None]
