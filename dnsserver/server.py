"""The DNS server as a node runs it: sockets, responder, forwarder, and a clock tick each second."""

from __future__ import annotations

import asyncio
import logging
import time
from random import Random

from dnsserver.clients import Clients
from dnsserver.forwarder import Forwarder
from dnsserver.resolvconf import without_own
from dnsserver.responder import Responder
from dnsserver.sockets import Pair, bind_pairs, local_hosts
from dnsserver.stats import DnsStats
from dnsserver.tcp import TcpConnections
from dnsserver.udp import UdpPort
from dnsserver.zone import Zone
from lb.catalog.model import Snapshot
from lb.settings import Address, DnsSettings

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between sweeps over caches and connections."""


class DnsServer:
    """Answers names of the catalog under `settings.domain`, and asks recursors for all others.

    Only clients on local networks and those of `settings.allow` are answered, others are refused.
    Until the first `apply`, names of the domain are SERVFAIL. `reuse_port` lets workers share the addresses.
    To be used from the event loop alone.
    """

    def __init__(self, settings: DnsSettings, stats: DnsStats, *, reuse_port: bool = False) -> None:
        self._settings = settings
        self._stats = stats
        self._reuse_port = reuse_port
        self._zone = Zone(Snapshot(), settings, 0)
        self._clients = Clients(settings.allow)
        self._forwarder: Forwarder | None = None
        self._responder: Responder | None = None
        self._connections: TcpConnections | None = None
        self._ports: list[UdpPort] = []
        self._servers: list[asyncio.Server] = []
        self._tick: asyncio.TimerHandle | None = None
        self._addresses: tuple[Address, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What is listened on, UDP and TCP, with the ports that were bound."""
        return self._addresses

    async def start(self) -> None:
        """Bind all addresses and serve; raises ListenError, and then nothing is bound."""
        pairs = bind_pairs(self._settings.listen, reuse_port=self._reuse_port)
        self._addresses = tuple(pair.address for pair in pairs)
        await self._serve(pairs)
        log.info(
            "DNS for %s. on %s, recursors: %s, clients beside local ones: %s",
            self._settings.domain,
            ", ".join(map(str, self._addresses)),
            ", ".join(map(str, self._settings.recursors)) or "none",
            ", ".join(map(str, self._settings.allow)) or "none",
        )

    async def _serve(self, pairs: list[Pair]) -> None:
        loop = asyncio.get_running_loop()
        settings, stats = self._settings, self._stats
        own_hosts = local_hosts(recursor.host for recursor in settings.recursors)
        recursors = without_own(settings.recursors, self._addresses, own_hosts)
        for recursor in settings.recursors:
            if recursor not in recursors:
                log.warning("DNS: the recursor %s is this server itself and is not asked", recursor)
        self._forwarder = Forwarder(recursors, settings, stats) if recursors else None
        self._responder = Responder(settings, stats, self._forwarder, self._zone, Random())
        self._connections = TcpConnections(self._responder, self._clients, stats, loop.time)
        for pair in pairs:
            port = UdpPort(pair.udp, self._responder, self._clients, stats)
            port.start(loop)
            self._ports.append(port)
            self._servers.append(await loop.create_server(self._connections, sock=pair.tcp))
        self._tick = loop.call_later(TICK, self._on_tick)

    def apply(self, snapshot: Snapshot) -> None:
        """Answer from this catalog from now on; all replies made from the former one are forgotten."""
        self._zone = Zone(snapshot, self._settings, int(time.time()))
        if self._responder is not None:
            self._responder.apply(self._zone)

    async def stop(self, grace: float = 0.0) -> None:
        """Take no more questions, give recursors `grace` seconds for those under way, then close everything.

        What recursors have not answered by then is SERVFAIL, so that a client asks its next server at once.
        """
        loop = asyncio.get_running_loop()
        if self._tick is not None:
            self._tick.cancel()
        for port in self._ports:
            port.stop(loop)
        for server in self._servers:
            server.close()
        if self._forwarder is not None:
            await self._forwarder.drain(grace)
            await self._forwarder.close()
        for port in self._ports:
            port.close()
        self._ports.clear()
        if self._connections is not None:
            self._connections.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _on_tick(self) -> None:
        assert self._responder is not None
        assert self._connections is not None
        self._responder.sweep()
        self._connections.sweep()
        self._clients.sweep()
        self._tick = asyncio.get_running_loop().call_later(TICK, self._on_tick)
