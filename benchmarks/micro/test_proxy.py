"""What one proxied request costs in Python alone: a session and its instances on transports that only swallow bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from lb.balance.endpoint import Endpoint
from lb.catalog.model import Instance, Service, Snapshot
from lb.deadlines import Deadlines
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import HttpContext
from lb.proxy.http_session import HttpSession
from lb.settings import HttpSettings, RoutingSettings, UpstreamSettings
from lb.upstream.connection import UpstreamConnection
from lb.upstream.idle import IdlePool

SMALL = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"
BROWSER = (
    b"GET /page HTTP/1.1\r\nHost: web.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, br\r\n"
    b"Referer: http://web.test/\r\nDNT: 1\r\nConnection: keep-alive\r\nCookie: session=%d\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\r\n"
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 05:20:40 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 10\r\nConnection: keep-alive\r\n\r\nhello one\n"
)


class Transport(asyncio.Transport):
    """Takes everything, tells nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000)})
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.written = data


class Bench:
    """One client before three instances."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        deadlines, stats = Deadlines(loop), Stats()
        upstream = UpstreamSettings(keepalive_requests=1 << 40)

        def prepare(endpoint: Endpoint) -> None:
            endpoint.pool = IdlePool(upstream, deadlines)

        balancer = Balancer(RoutingSettings(domains=("test",)), stats, prepare, lambda _: None)
        instances = tuple(Instance("web", f"web-{n}", "node", "127.0.0.1", 7000 + n, tags=("http",)) for n in range(3))
        balancer.apply(Snapshot(services={"web": Service("web", instances)}, generation=1))
        settings = HttpSettings(keepalive_requests=1 << 40)
        self.context = HttpContext(loop, deadlines, balancer, settings, upstream, stats.listener("http"), None)
        self.connections = []
        for endpoint in next(iter(balancer.targets())).group.endpoints:
            connection = UpstreamConnection(lambda _: None)
            connection.connection_made(Transport())
            endpoint.pool.give(connection)
            self.connections.append(connection)
        self.client = Transport()
        self.session = HttpSession(self.context)
        self.session.connection_made(self.client)

    def exchange(self, request: bytes) -> None:
        """One request of the client, one reply of whichever instance was asked."""
        self.session.data_received(request)
        self.context.outbox.flush()
        asked = next(c for c in self.connections if not isinstance(c.user, IdlePool))
        asked.data_received(REPLY)
        self.context.outbox.flush()


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = uvloop.new_event_loop()
    yield Bench(loop)
    loop.close()


def test_the_same_small_request(bench: Bench, benchmark: Callable[..., None]) -> None:
    benchmark(bench.exchange, SMALL)
    assert bench.client.written.endswith(b"hello one\n")


def test_thirteen_headers_and_a_cookie_never_seen(bench: Bench, benchmark: Callable[..., None]) -> None:
    numbers = iter(range(1 << 40))
    benchmark(lambda: bench.exchange(BROWSER % next(numbers)))
    assert bench.client.written.endswith(b"hello one\n")
