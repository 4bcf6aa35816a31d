"""How a node has its data plane done: by workers, or in its own process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dnsserver.stats import DnsStats
from lb.catalog.model import Snapshot
from lb.dataplane import DataPlane
from lb.observe.shapes import LogCounts
from lb.observe.stats import Stats
from lb.observe.views import WorkersView
from lb.proxy.balancer import Balancer
from lb.settings import Settings
from lb.sockets import Place, SharedSockets


class Planes(Protocol):
    """What a node knows of its data plane."""

    @property
    def size(self) -> int:
        """How many processes share each listener."""

    @property
    def stats(self) -> Stats:
        """What is counted."""

    @property
    def dns_stats(self) -> DnsStats:
        """What is counted of DNS."""

    @property
    def balancer(self) -> Balancer:
        """Routes, and endpoints with their state."""

    @property
    def serving(self) -> bool:
        """Whether what was told last time is served."""

    @property
    def log_counts(self) -> LogCounts | None:
        """How many lines went to the access log; None where it is off."""

    async def start(self, places: Iterable[SharedSockets]) -> None:
        """Serve on these sockets from now on."""

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog."""

    def confirm(self, age: float | None) -> None:
        """Note that an agent confirms the catalog from now on (None), or none does since `age` seconds ago."""

    def opened(self, shared: SharedSockets) -> None:
        """Serve a TCP port, too."""

    def closed(self, place: Place) -> None:
        """Serve a TCP port no more."""

    async def applied(self) -> None:
        """Wait until all that was told is done."""

    async def refresh(self) -> None:
        """Bring the counters up to now."""

    def reopen_log(self) -> None:
        """Open the access log anew."""

    async def drain(self, grace: float) -> None:
        """Accept no more, end within `grace` seconds; called again, it sets another time."""

    def workers(self) -> WorkersView | None:
        """The processes that serve, None where it is the node's own."""


class OwnPlanes:
    """The data plane in the node's own process: for the demo, and for tests."""

    size = 1

    def __init__(self, settings: Settings) -> None:
        self.stats = Stats()
        self.dns_stats = DnsStats()
        self._plane = DataPlane(settings, self.stats, self.dns_stats)

    @property
    def balancer(self) -> Balancer:
        """See Planes."""
        return self._plane.balancer

    @property
    def serving(self) -> bool:
        """See Planes."""
        return True

    @property
    def log_counts(self) -> LogCounts | None:
        """See Planes."""
        return self._plane.access_log

    async def start(self, places: Iterable[SharedSockets]) -> None:
        """See Planes."""
        # The plane's sockets are closed with it, and these are not the plane's.
        await self._plane.start({shared.place: [sock.dup() for sock in shared.socks] for shared in places})

    def apply(self, snapshot: Snapshot) -> None:
        """See Planes."""
        self._plane.apply(snapshot)

    def confirm(self, age: float | None) -> None:
        """See Planes."""
        self._plane.confirm(age)

    def opened(self, shared: SharedSockets) -> None:
        """See Planes."""
        self._plane.listen(shared.place, [sock.dup() for sock in shared.socks])

    def closed(self, place: Place) -> None:
        """See Planes."""
        self._plane.close(place)

    async def applied(self) -> None:
        """See Planes: it is done at once."""

    async def refresh(self) -> None:
        """See Planes: the node's counters are the plane's."""

    def reopen_log(self) -> None:
        """See Planes."""
        self._plane.reopen_log()

    async def drain(self, grace: float) -> None:
        """See Planes."""
        await self._plane.drain(grace)

    def workers(self) -> WorkersView | None:
        """See Planes."""
        return None
