"""A balancer plane inside the test's own loop, with scripted instances behind it and raw clients before it.

Whatever a test does, at its end nothing may be left: no request or session counted as active, no lease, no
deadline but those of the pools, no error in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import uvloop

from lb.balance.endpoint import Endpoint
from lb.catalog import model
from lb.deadlines import NEVER
from lb.keeper import SocketKeeper
from lb.observe.stats import HttpStats, ListenerStats, Stats, TcpStats
from lb.proxy.plane import BalancerPlane
from lb.settings import (
    Address,
    AdminSettings,
    HttpSettings,
    ProxyProtocolSettings,
    RoutingSettings,
    Settings,
    TcpSettings,
    TlsSettings,
    UpstreamSettings,
)
from lb.sockets import Inherited, SharedSockets
from tests.support.scripted import Instance, Script, Stream, field

LOCAL = "127.0.0.1"
LIMIT = 10.0
"""Seconds that any single test may take."""

_HTTP = HttpSettings(listen=(Address(LOCAL, 0),), header_timeout=5, body_timeout=5, send_timeout=5, keepalive_timeout=5)
_UPSTREAM = UpstreamSettings(connect_timeout=5, read_timeout=5, send_timeout=5)
_TCP = TcpSettings(host=LOCAL, idle_timeout=5)
_TLS = TlsSettings(listen=(Address(LOCAL, 0),), hello_timeout=5, idle_timeout=5)
_PROXY_PROTOCOL = ProxyProtocolSettings(timeout=5)


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine function as a test, in a uvloop of its own, within `LIMIT`."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(limited())

    # pytest asks for fixtures by signature, and must not take this for a coroutine.
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


async def eventually(probe: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Wait until `probe` returns something true."""
    end = asyncio.get_running_loop().time() + seconds
    while not probe():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)


class Reply(NamedTuple):
    """A response as it came over the wire."""

    status: int
    head: bytes
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        """The value of a field, by its lower-case name."""
        return field(self.head, name)


class Client(Stream):
    """A raw client."""

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Read one response; one that announces no length is taken to have no body."""
        head = await self.until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        bodiless = bodiless or status in (204, 304) or status < 200
        return Reply(status, head, b"" if bodiless else await self.body(head))

    async def ask(self, request: bytes) -> Reply:
        """Send a request and read its reply."""
        await self.send(request)
        return await self.reply(bodiless=request.startswith(b"HEAD "))

    async def left(self) -> bytes:
        """What is still to come before the end, however the connection ends."""
        with contextlib.suppress(ConnectionError):
            return await self.rest()
        return b""


@dataclass(frozen=True)
class Service:
    """A service of the catalog; `meta` and `weight` are given to all of its instances."""

    name: str
    instances: Sequence[Instance] = ()
    tags: tuple[str, ...] = ("http",)
    meta: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    address: str = LOCAL


class Edge:
    """The plane under test; see `edge`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stats = Stats()
        self.plane = BalancerPlane(settings, self.stats, None)
        self.keeper = SocketKeeper(settings, 1, Inherited(), self.stats, self._opened, self.plane.close)
        self.addresses: dict[str, Address] = {}
        self.errors: list[dict[str, Any]] = []
        self._generation = 0
        self._endpoints: set[Endpoint] = set()
        self._clients: list[Client] = []

    @property
    def port(self) -> int:
        """The port of the HTTP listener."""
        return self.addresses["http"].port

    @property
    def tls_port(self) -> int:
        """The port of the TLS listener."""
        return self.addresses["tls"].port

    @property
    def problems(self) -> tuple[model.Problem, ...]:
        """What of the catalog is not used."""
        return self.plane.balancer.problems + self.keeper.problems

    def start(self) -> None:
        """Listen; TCP ports follow with the catalog."""
        self.keeper.open_fixed()
        for place, shared in self.keeper.places.items():
            self.addresses[place.kind] = place.address
            self._opened(shared)

    def _opened(self, shared: SharedSockets) -> None:
        self.plane.listen(shared.place, [sock.dup() for sock in shared.socks])

    async def drain(self, grace: float) -> None:
        """Do as a node does at its end."""
        self.keeper.withdraw()
        await self.plane.drain(grace)

    def apply(self, *services: Service) -> None:
        """Publish a catalog of these services, and no other."""
        self._generation += 1
        registered = {
            service.name: model.Service(
                service.name,
                tuple(
                    model.Instance(
                        service.name,
                        f"{service.name}-{instance.port}",
                        "node",
                        instance.host or service.address,
                        instance.port,
                        tags=service.tags,
                        meta=MappingProxyType(dict(service.meta)),
                        weight=service.weight,
                    )
                    for instance in service.instances
                )
                or (_failing(service),),
            )
            for service in services
        }
        self.plane.apply(model.Snapshot(MappingProxyType(registered), generation=self._generation))
        self.keeper.want(self.plane.balancer.tcp_services)
        self.stats.keep_listeners(self.keeper.names)
        for target in self.plane.balancer.targets():
            self._endpoints.update(target.group.endpoints)

    async def client(self, port: int | None = None, *, buffer: int | None = None) -> Client:
        """Connect to the HTTP listener, or to a TCP port; it takes not much more than `buffer` octets unread."""
        sock = socket.socket()
        sock.setblocking(False)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(sock, (LOCAL, port or self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer or 1 << 16)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def ask(self, request: bytes) -> Reply:
        """Send a request over a connection of its own and read its reply."""
        client = await self.client()
        try:
            return await client.ask(request)
        finally:
            await client.close()

    def http_stats(self, service: str = "web") -> HttpStats:
        """The counters of a service behind HTTP."""
        return self.stats.http(service)

    def tcp_stats(self, service: str) -> TcpStats:
        """The counters of a TCP service."""
        return self.stats.tcp(service)

    def tls_stats(self, service: str) -> TcpStats:
        """The counters of a service behind TLS."""
        return self.stats.tls(service)

    def turned_away(self, listener: str) -> dict[str, int]:
        """The connections closed for how they began, of a listener such as `tls` or `tcp`, by kind."""
        counts: dict[str, int] = {}
        for name, stats in self.stats.listeners():
            if name.startswith(f"{listener} "):
                counts.update(stats.turned_away)
        return counts

    @property
    def listener_stats(self) -> ListenerStats:
        """The counters of the HTTP listener."""
        return self.stats.listener(f"http {self.addresses['http']}")

    def send_little(self, port: int | None = None) -> None:
        """Let the kernel take next to nothing for clients that connect from now on and do not read."""
        for place, shared in self.keeper.places.items():
            if place.address.port == (port or self.port):
                shared.socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    @property
    def idle(self) -> int:
        """Connections kept alive to instances."""
        return sum(len(pool) for pool in self.plane._pools)

    @property
    def _deadlines(self) -> int:
        """Deadlines that are filed, but those of the pools."""
        filed = sum(len(bucket) for bucket in self.plane._deadlines._buckets.values())
        return filed - sum(pool.filed != NEVER for pool in self.plane._pools)

    @property
    def _held(self) -> int:
        """Octets of long bodies that are kept for who does not take them."""
        return sum(context.basin.held for context in self.plane._http._contexts) if self.plane._http else 0

    def _left_over(self) -> str:
        """Name what is still counted or held, or nothing."""
        counts = {
            "leases": sum(endpoint.active for endpoint in self._endpoints),
            "active requests": sum(stats.active for _, stats in self.stats.http_services()),
            "active sessions": sum(stats.active for _, stats in self.stats.tcp_services()),
            "active TLS sessions": sum(stats.active for _, stats in self.stats.tls_services()),
            "active connections": sum(stats.active for _, stats in self.stats.listeners()),
            "deadlines": self._deadlines,
            "octets held in bulk": self._held,
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    async def close(self) -> None:
        """End all clients, check that nothing is left, drain."""
        for client in self._clients:
            await client.close()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: not self._left_over(), "nothing is left")
        assert not self._left_over()
        await self.drain(0)
        assert not self.errors, self.errors


@contextlib.asynccontextmanager
async def edge(
    *services: Service,
    http: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    tcp: dict[str, Any] | None = None,
    tls: dict[str, Any] | None = None,
    proxy_protocol: dict[str, Any] | None = None,
) -> AsyncIterator[Edge]:
    """Run a plane with these services and settings; instances are started, and ended with it."""
    settings = Settings(
        routing=RoutingSettings(domains=("test",)),
        http=replace(_HTTP, **(http or {})),
        upstream=replace(_UPSTREAM, **(upstream or {})),
        tcp=replace(_TCP, **(tcp or {})),
        tls=replace(_TLS, **(tls or {})),
        proxy_protocol=replace(_PROXY_PROTOCOL, **(proxy_protocol or {})),
        dns=None,
        admin=AdminSettings(None),
    )
    one = Edge(settings)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: one.errors.append(context))
    instances = {instance for service in services for instance in service.instances}
    for instance in instances:
        if not instance.port:
            await instance.start()
    one.start()
    one.apply(*services)
    try:
        yield one
        await one.close()
        assert not [failure for instance in instances for failure in instance.failures]
    finally:
        for instance in instances:
            await instance.stop()


@contextlib.asynccontextmanager
async def web(
    *scripts: Script, meta: tuple[tuple[str, str], ...] = (), **settings: dict[str, Any]
) -> AsyncIterator[tuple[Edge, list[Instance]]]:
    """Run a plane with the service `web`, virtual host `web.test`, and one instance for each script."""
    instances = [Instance(script) for script in scripts] or [Instance()]
    async with edge(Service("web", instances, meta=meta), **settings) as one:
        yield one, instances


def get(path: str = "/", *fields: str, method: str = "GET", host: str = "web.test", version: str = "1.1") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode()


def put(body: bytes, *fields: str, method: str = "PUT") -> bytes:
    """A request with a body of known length."""
    return get("/", f"Content-Length: {len(body)}", *fields, method=method) + body


def reply(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """A response with a body of known length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*parts: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _failing(service: Service) -> model.Instance:
    """What keeps a service in the catalog that has no passing instance."""
    return model.Instance(service.name, "down", "node", LOCAL, 1, health="critical", tags=service.tags)
