"""The data plane of one process: the balancer, DNS, the access log. It knows sockets and snapshots, no Consul."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dnsserver.server import DnsServer
from dnsserver.stats import DnsStats
from lb.balance.places import Places
from lb.catalog.asking import AgentAsker
from lb.catalog.model import Snapshot
from lb.observe.accesslog import open_log
from lb.observe.stats import Stats
from lb.proxy.plane import BalancerPlane
from lb.settings import DnsSettings, Settings
from lb.sockets import Place

Shares = Mapping[Place, Sequence[socket.socket]]
"""The sockets of each place on which one process accepts."""


class DataPlane:
    """Everything of a node that clients talk to, as far as one of `settings.workers` processes does it.

    Sockets that it is given are its own. DNS asks Consul's agents for what the catalog does not have; each token read
    from a file is told to `hide`. Raises SettingsError if the access log cannot be opened.
    """

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        dns_stats: DnsStats,
        places: Places | None = None,
        hide: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.access_log = open_log(settings.access_log)
        self._plane = BalancerPlane(settings, stats, self.access_log, places)
        self._dns: DnsServer | None = None
        self._asker: AgentAsker | None = None
        if settings.dns is not None:
            self._asker = AgentAsker(settings.consul, hide)
            self._dns = DnsServer(_share(settings.dns, settings.workers), dns_stats, self._asker.ask)
        self._draining = False
        self.balancer = self._plane.balancer

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the balancer accepts."""
        return self._plane.places

    async def start(self, shares: Shares) -> None:
        """Accept on the sockets that are there from the start: those of DNS come all at once."""
        if self._dns is not None:
            await self._dns.start(_of_kind(shares, "dns-udp"), _of_kind(shares, "dns-tcp"))
        for place, socks in shares.items():
            if place.kind in ("http", "tls", "tcp"):
                self.listen(place, socks)

    def listen(self, place: Place, socks: Sequence[socket.socket]) -> None:
        """Accept on the sockets of a TCP port that came later."""
        self._plane.listen(place, socks)

    def close(self, place: Place) -> None:
        """Accept no more on a TCP port; its sessions go on."""
        self._plane.close(place)

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog at once; nothing in flight notices."""
        self._plane.apply(snapshot)
        if self._dns is not None:
            self._dns.apply(snapshot)

    def confirm(self, age: float | None) -> None:
        """Note that an agent confirms the catalog from now on (None), or none does since `age` seconds ago."""
        if self._dns is not None:
            self._dns.confirm(age)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let what is in flight end within `grace` seconds, then end it.

        Called again meanwhile, it sets another time to the first call and returns at once.
        """
        draining, self._draining = self._draining, True
        if draining:
            await self._plane.drain(grace)
            return
        dns = self._dns.stop(grace) if self._dns is not None else asyncio.sleep(0)
        try:
            await asyncio.gather(self._plane.drain(grace), dns)
        finally:
            if self._asker is not None:
                await self._asker.close()
            if self.access_log is not None:
                self.access_log.close()

    def reopen_log(self) -> None:
        """Open the access log anew: it was rotated."""
        if self.access_log is not None:
            self.access_log.reopen()


def _share(dns: DnsSettings, workers: int) -> DnsSettings:
    """Return the settings for one of so many workers: clients have their rate at the node, not at each worker.

    The kernel spreads a client's ports over the sockets of all workers, so that each of them sees its part.
    """
    return replace(dns, rate=-(-dns.rate // workers))


def _of_kind(shares: Shares, kind: str) -> list[socket.socket]:
    return [sock for place, socks in shares.items() if place.kind == kind for sock in socks]
