"""Listening sockets of the balancer: fixed ones for HTTP, for TCP those that the catalog asks for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Iterable
from typing import cast

from lb.catalog.model import Problem
from lb.deadlines import Deadlines
from lb.errors import ListenError
from lb.observe.accesslog import AccessLog
from lb.observe.log import fields
from lb.observe.stats import ListenerStats, Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import HttpContext, TcpContext, TcpSessions
from lb.proxy.http_session import HttpSession
from lb.proxy.intake import Make, admitting
from lb.proxy.targets import TcpTarget
from lb.proxy.tcp_session import TcpSession
from lb.settings import Address, HttpSettings, ProxyProtocolSettings, TcpSettings, UpstreamSettings
from lb.wire.proxyprotocol import Ends

BACKLOG = 4096
ACCEPTS = 4
"""Connections that a listener accepts in one turn of the loop at most. libuv accepts one for each handle, so there are
so many handles for one socket: a turn of the loop for each connection would be dear."""
MANY_PORTS = 64
"""So many TCP ports have one handle each: descriptors are worth more then."""
RETRY_FIRST = 1.0
RETRY_LONGEST = 30.0

log = logging.getLogger(__name__)


def listen(address: Address) -> socket.socket:
    """Open a listening socket; connections queue from here on. Raises ListenError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"{address}: {error.strerror or error}") from error
    return sock


def listen_on_all(kind: str, addresses: Iterable[Address]) -> list[socket.socket]:
    """Listen on every address, or on none. Raises ListenError naming the kind, the address and the reason."""
    socks: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for address in addresses:
            try:
                sock = listen(address)
            except ListenError as error:
                raise ListenError(f"{kind} listener {error}") from error
            undo.callback(sock.close)
            socks.append(sock)
        undo.pop_all()
    return socks


async def accept(make: Callable[[], asyncio.Protocol], sock: socket.socket, accepts: int) -> list[asyncio.Server]:
    """Accept connections on a listening socket, so many in a turn of the loop; the socket is the servers' from here."""
    loop = asyncio.get_running_loop()
    handles = (sock, *(sock.dup() for _ in range(accepts - 1)))
    servers: list[asyncio.Server] = []
    try:
        for handle in handles:
            servers.append(await loop.create_server(make, sock=handle, backlog=BACKLOG))  # noqa: PERF401
    except BaseException:  # cancelled, as the port is not wanted any more
        for server in servers:
            server.close()
        for handle in handles:
            handle.close()
        raise
    return servers


class HttpListener:
    """The HTTP listeners of one node."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: HttpSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        access_log: AccessLog | None,
    ) -> None:
        self._balancer = balancer
        self._deadlines = deadlines
        self._settings = settings
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._access_log = access_log
        self._servers: list[asyncio.Server] = []
        self._contexts: list[HttpContext] = []
        self.addresses: tuple[Address, ...] = ()

    @property
    def names(self) -> list[str]:
        """What the listeners are called in metrics and status."""
        return [f"http {address}" for address in self.addresses]

    async def start(self) -> None:
        """Listen on every address, or on none. Raises ListenError naming the address and the reason."""
        socks = listen_on_all("HTTP", self._settings.listen)
        self.addresses = tuple(Address(*sock.getsockname()[:2]) for sock in socks)
        for sock, address in zip(socks, self.addresses, strict=True):
            await self._serve(sock, address)

    async def _serve(self, sock: socket.socket, address: Address) -> None:
        loop = asyncio.get_running_loop()
        stats = self._stats.listener(f"http {address}")
        context = HttpContext(
            loop, self._deadlines, self._balancer, self._settings, self._upstream, stats, self._access_log
        )
        self._contexts.append(context)
        make = admitting(context, self._proxy_protocol, cast(Make, functools.partial(HttpSession, context)))
        self._servers += await accept(make, sock, ACCEPTS)
        stats.opened()

    @property
    def in_flight(self) -> int:
        """Client connections that are still open."""
        return sum(len(context.sessions) for context in self._contexts)

    def drain(self, patience: float) -> None:
        """Accept no more, let clients finish their exchange, close those that are silent for `patience` seconds."""
        for server in self._servers:
            server.close()
        for context in self._contexts:
            context.drain(patience)
            context.stats.failed("draining")
            for session in list(context.sessions):
                session.drain(patience)

    def abort(self) -> None:
        """End what is still in flight."""
        for context in self._contexts:
            for session in list(context.sessions):
                session.abort()


class _Port:
    """One TCP port that a service asks for."""

    __slots__ = ("delay", "retry", "servers", "sock", "stats", "target", "task")

    def __init__(self, target: TcpTarget, stats: ListenerStats) -> None:
        self.target = target
        self.stats = stats
        self.sock: socket.socket | None = None
        self.servers: list[asyncio.Server] = []
        self.task: asyncio.Task[None] | None = None
        self.retry: asyncio.TimerHandle | None = None
        self.delay = RETRY_FIRST

    def close(self) -> None:
        """Stop listening; sessions go on."""
        if self.retry is not None:
            self.retry.cancel()
        if self.task is not None:
            self.task.cancel()
        for server in self.servers:
            server.close()
        if not self.servers and self.sock is not None:
            self.sock.close()


class TcpListeners:
    """Listens on the ports that the TCP services of the catalog ask for, no more and no less.

    A port that cannot be bound is a problem with a name and a reason; it is tried again, and hurts no other.
    """

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: TcpSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        host: str,
    ) -> None:
        self._balancer = balancer
        self._deadlines = deadlines
        self._settings = settings
        self._upstream = upstream
        self._proxy_protocol = proxy_protocol
        self._stats = stats
        self._host = host
        self._ports: dict[int, _Port] = {}
        self._draining = False
        self._sessions: TcpSessions = set()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The ports that are asked for and not listened on."""
        return tuple(
            Problem("listener", f"{port.target.route.service} port {number}", port.stats.error)
            for number, port in sorted(self._ports.items())
            if port.stats.error
        )

    @property
    def in_flight(self) -> int:
        """Client connections that are still open."""
        return len(self._sessions)

    @property
    def names(self) -> list[str]:
        """What the wanted ports are called in metrics and status."""
        return [self._name(number) for number in self._ports]

    def _name(self, number: int) -> str:
        return f"tcp {Address(self._host, number)}"

    def apply(self) -> None:
        """Open and close ports as the balancer's table says now; while draining, all stay closed."""
        if self._draining:
            return
        wanted = self._balancer.tcp_ports
        for number in [n for n in self._ports if n not in wanted]:
            port = self._ports.pop(number)
            port.close()
            port.stats.closed()
            log.info("TCP port closed", extra=fields(port=number, service=port.target.route.service))
        for number in sorted(wanted):
            target = self._balancer.tcp(number)
            assert target is not None
            known = self._ports.get(number)
            if known is not None:
                known.target = target
                continue
            port = self._ports[number] = _Port(target, self._stats.listener(self._name(number)))
            self._open(number, port)

    def _open(self, number: int, port: _Port) -> None:
        port.retry = None
        service = port.target.route.service
        try:
            port.sock = listen(Address(self._host, number))
        except ListenError as error:
            reason = str(error)
            if port.stats.error != reason:
                log.error("TCP port cannot be opened", extra=fields(service=service, reason=reason))
            port.stats.failed(reason)
            port.retry = asyncio.get_running_loop().call_later(port.delay, self._open, number, port)
            port.delay = min(port.delay * 2, RETRY_LONGEST)
            return
        port.delay = RETRY_FIRST
        port.stats.opened()
        log.info("TCP port open", extra=fields(port=number, service=service))
        port.task = asyncio.get_running_loop().create_task(self._serve(port, port.sock), name=f"listen on {number}")

    async def _serve(self, port: _Port, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = TcpContext(
            loop, self._deadlines, self._settings.idle_timeout, self._upstream, port.stats, self._sessions
        )

        def make(ends: Ends | None = None) -> TcpSession:
            return TcpSession(context, port.target, ends)

        factory = admitting(context, self._proxy_protocol, make)
        port.servers = await accept(factory, sock, ACCEPTS if len(self._ports) < MANY_PORTS else 1)

    def drain(self, patience: float) -> None:
        """Accept no more; sessions go on, and whoever has said nothing for `patience` seconds is closed."""
        self._draining = True
        for port in self._ports.values():
            port.close()
            port.stats.failed("draining")
        self._ports.clear()
        for session in list(self._sessions):
            session.drain(patience)

    def abort(self) -> None:
        """End what is still in flight."""
        for session in list(self._sessions):
            session.abort()
