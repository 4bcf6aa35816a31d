"""The DNS server as a node runs it: sockets, responder, forwarder, and a clock tick each second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from random import Random
from socket import socket

from dnsserver.agent import KEPT, AgentAnswers, Ask
from dnsserver.clients import Clients
from dnsserver.forwarder import Forwarder
from dnsserver.hostsfile import HostsFile
from dnsserver.localhosts import local_hosts
from dnsserver.resolvconf import without_own
from dnsserver.responder import Responder, Trust
from dnsserver.rules import ForwardRules
from dnsserver.stats import DnsStats
from dnsserver.tcp import TcpConnections
from dnsserver.udp import UdpPort
from dnsserver.zone import Zone
from lb.catalog.model import Snapshot
from lb.settings import Address, DnsSettings
from lb.sockets import BACKLOG, address_of

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between sweeps over caches and connections."""


class DnsServer:
    """Answers names of the catalog under `settings.domain` and of a hosts file, and asks recursors for all others.

    Only clients on local networks and those of `settings.allow` are answered, others are refused.
    Names of the domain are SERVFAIL until the first `apply`, and while the catalog is older than `settings.max_stale`.
    What only a Consul agent knows is asked through `ask`; without it, it is SERVFAIL. To be used from the event loop
    alone.
    """

    def __init__(self, settings: DnsSettings, stats: DnsStats, ask: Ask | None = None) -> None:
        keep = KEPT if settings.max_stale is None else min(KEPT, settings.max_stale)
        self._agent = AgentAnswers(ask, stats, keep) if ask is not None else None
        self._doubted_at: float | None = None  # when an agent has last confirmed the catalog, if none does now
        self._settings = settings
        self._stats = stats
        self._zone = Zone(Snapshot(), settings, 0)
        self._clients = Clients(settings.allow, settings.rate)
        self._forwarder: Forwarder | None = None
        self._responder: Responder | None = None
        self._connections: TcpConnections | None = None
        self._ports: list[UdpPort] = []
        self._servers: list[asyncio.Server] = []
        self._tick: asyncio.TimerHandle | None = None
        self._hosts_file = HostsFile(settings.hosts) if settings.hosts is not None else None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, udp: Sequence[socket], tcp: Sequence[socket]) -> None:
        """Serve on bound sockets, which are the server's from here."""
        addresses = tuple(dict.fromkeys(map(address_of, udp)))
        loop = asyncio.get_running_loop()
        settings, stats = self._settings, self._stats
        rules = self._rules(addresses)
        self._forwarder = Forwarder(rules, settings, stats, Random()) if rules.recursors else None
        self._responder = Responder(settings, stats, self._forwarder, self._zone, Random(), self._agent)
        if self._hosts_file is not None:
            await self._read_hosts(self._hosts_file, self._responder)
        self._weigh()
        self._connections = TcpConnections(self._responder, self._clients, stats, loop.time)
        for sock in udp:
            port = UdpPort(sock, self._responder, self._clients, stats)
            port.start(loop)
            self._ports.append(port)
        for sock in tcp:
            self._servers.append(await loop.create_server(self._connections, sock=sock, backlog=BACKLOG))
        self._tick = loop.call_later(TICK, self._on_tick)
        log.info(
            "DNS for %s. on %s, recursors: %s, clients beside local ones: %s",
            settings.domain,
            ", ".join(map(str, addresses)),
            str(rules) or "none",
            ", ".join(map(str, settings.allow)) or "none",
        )

    def _rules(self, addresses: Sequence[Address]) -> ForwardRules:
        """Return who is asked for foreign names, without this server itself: that would go round in circles."""
        settings = self._settings
        given = (*settings.recursors, *(rule.recursor for rule in settings.forward))
        others = without_own(given, addresses, local_hosts(each.host for each in given))
        ourselves = dict.fromkeys(recursor for recursor in given if recursor not in others)
        for recursor in ourselves:
            log.warning("DNS: the recursor %s is this server itself and is not asked", recursor)
        return ForwardRules(settings.forward, settings.recursors, ourselves)

    async def _read_hosts(self, file: HostsFile, responder: Responder) -> None:
        """Answer from the hosts file as it is now; a slow disk keeps nobody waiting."""
        try:
            hosts = await asyncio.to_thread(file.read_if_changed)
        except Exception as error:
            self._stats.fault(log, error)
            return
        if hosts is not None:
            responder.apply_hosts(hosts)

    def apply(self, snapshot: Snapshot) -> None:
        """Answer from this catalog from now on."""
        self._zone = Zone(snapshot, self._settings, int(time.time()), self._zone)
        if self._responder is not None:
            self._responder.apply(self._zone)

    def confirm(self, age: float | None) -> None:
        """Note that an agent confirms the catalog from now on (None), or none does since `age` seconds ago."""
        self._doubted_at = None if age is None else asyncio.get_running_loop().time() - age
        self._weigh()

    def _weigh(self) -> None:
        """Let the responder know how the catalog stands."""
        trust = Trust.CONFIRMED
        if self._doubted_at is not None:
            limit, age = self._settings.max_stale, asyncio.get_running_loop().time() - self._doubted_at
            trust = Trust.EXPIRED if limit is not None and age >= limit else Trust.STALE
        if self._responder is not None:
            self._responder.trust(trust)

    async def stop(self, grace: float = 0.0) -> None:
        """Take no more questions, give recursors `grace` seconds for those under way, then close everything.

        What recursors have not answered by then is SERVFAIL, so that a client asks its next server at once.
        """
        loop = asyncio.get_running_loop()
        if self._tick is not None:
            self._tick.cancel()
        if self._reading is not None:
            self._reading.cancel()
        for port in self._ports:
            port.stop(loop)
        for server in self._servers:
            server.close()
        if self._connections is not None:
            self._connections.drain()
        if self._forwarder is not None:
            await self._forwarder.drain(grace)
            await self._forwarder.close()
        if self._agent is not None:
            await self._agent.drain(grace)
            await self._agent.close()
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
        self._weigh()
        self._responder.sweep()
        self._connections.sweep()
        self._clients.sweep()
        loop = asyncio.get_running_loop()
        if self._forwarder is not None:
            self._forwarder.probe()
        if self._hosts_file is not None and (self._reading is None or self._reading.done()):
            reading = self._read_hosts(self._hosts_file, self._responder)
            self._reading = loop.create_task(reading, name="dns-hosts")
        self._tick = loop.call_later(TICK, self._on_tick)
