"""A service as the sessions meet it: its route, the group that picks its endpoints, its counters."""

from __future__ import annotations

from dataclasses import dataclass

from lb.balance.group import Group
from lb.errors import UpstreamError
from lb.observe.stats import HttpStats, TcpStats
from lb.routing.options import Route


@dataclass(slots=True)
class HttpTarget:
    """A service behind the HTTP listeners: its route, the group that picks, its counters.

    Until `quiet_until` (loop time) no further failure of it is logged.
    """

    route: Route
    group: Group
    stats: HttpStats
    quiet_until: float = 0.0


@dataclass(slots=True)
class TcpTarget:
    """A service behind a TCP port or the TLS listeners."""

    route: Route
    group: Group
    stats: TcpStats
    quiet_until: float = 0.0


def no_live_upstream(target: HttpTarget | TcpTarget) -> UpstreamError:
    """Why no endpoint could be picked: none registered as passing (503), or all of them failing (502)."""
    service = target.route.service
    if not target.group.endpoints:
        return UpstreamError("no_instance", f"service {service} has no passing instance", 503)
    return UpstreamError("no_live_upstream", f"no instance of service {service} is usable at the moment", 502)
