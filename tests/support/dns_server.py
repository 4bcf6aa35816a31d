"""A `DnsServer` on a loop in a thread of its own, for tests that ask it over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

from dnsserver.agent import Ask
from dnsserver.server import DnsServer
from dnsserver.stats import DnsStats
from lb.catalog.model import Snapshot
from lb.settings import Address, DnsSettings
from lb.sockets import Inherited, open_pair

T = TypeVar("T")

LOOPBACK = (Address("127.0.0.1", 0),)


class RunningDns:
    """A server that runs; calls go to its loop and come back."""

    def __init__(self, server: DnsServer, stats: DnsStats, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.addresses: tuple[Address, ...] = ()
        self.stats = stats
        self._loop = loop

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0].port

    def start(self, listen: tuple[Address, ...], inherited: Inherited | None = None) -> None:
        """Open sockets, or take over those that are inherited, and serve."""
        pairs = [open_pair(address, 1, inherited or Inherited()) for address in listen]
        self.addresses = tuple(udp.place.address for udp, _ in pairs)
        self.run(self.server.start([udp.socks[0] for udp, _ in pairs], [tcp.socks[0] for _, tcp in pairs]))

    def apply(self, snapshot: Snapshot) -> None:
        """Publish a catalog; it is in force on return."""
        self.call(lambda: self.server.apply(snapshot))

    def call(self, function: Callable[[], T]) -> T:
        """Call something on the loop and return what it returns."""

        async def run() -> T:
            return function()

        return self.run(run())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await something on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)


@contextlib.contextmanager
def running_dns(
    settings: DnsSettings,
    snapshot: Snapshot | None = None,
    *,
    inherited: Inherited | None = None,
    ask: Ask | None = None,
) -> Iterator[RunningDns]:
    """Run a server until the end of the `with` block; exceptions that reach its loop fail the test."""
    loop = uvloop.new_event_loop()
    escaped: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    thread = threading.Thread(target=loop.run_forever, name="dns under test")
    thread.start()
    stats = DnsStats()
    running = RunningDns(DnsServer(settings, stats, ask), stats, loop)
    try:
        running.start(settings.listen, inherited)
        try:
            if snapshot is not None:
                running.apply(snapshot)
            yield running
        finally:
            running.run(running.server.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
    assert not escaped, f"exceptions reached the loop: {escaped}"
    assert not stats.faults, f"bugs were counted: {stats.faults}"
