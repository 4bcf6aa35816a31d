"""What the sessions ask: which target serves this host, path, port or server name, now.

A snapshot is applied in one go, without an await: build the table, reconcile the groups, swap, and only then drop
what has left. A request or session in flight holds its own group and endpoint and never notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group
from lb.balance.places import LocalPlaces, Places
from lb.catalog.model import Problem, Snapshot
from lb.http1.memo import Memo
from lb.observe.stats import Stats
from lb.proxy.http_request import Request
from lb.proxy.targets import HttpTarget, TcpTarget
from lb.routing.options import Route
from lb.routing.table import RoutingTable, build
from lb.settings import RoutingSettings

Target = TypeVar("Target", HttpTarget, TcpTarget)

LONGEST_SEEN = 2048
"""Octets of a whole request that is remembered."""


class Balancer:
    """The routing table and the groups behind it.

    `prepare` is called for each endpoint that is new, `retire` for each that has left: the room for idle connections.
    `places` is where the state of groups and endpoints is kept: by default in this process. `requests` are what came
    more than once, whole: read, and routed by the present table.
    """

    def __init__(
        self,
        settings: RoutingSettings,
        stats: Stats,
        prepare: Callable[[Endpoint], None],
        retire: Callable[[Endpoint], None],
        places: Places | None = None,
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._prepare = prepare
        self._retire = retire
        self._places = places or LocalPlaces()
        self._table: RoutingTable | None = None
        self._http: dict[str, HttpTarget] = {}
        self._tcp: dict[str, TcpTarget] = {}
        self._tls: dict[str, TcpTarget] = {}
        self.requests: Memo[Request] = Memo(entries=2048, octets=1 << 20, longest=LONGEST_SEEN)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What of the catalog is not used, and why."""
        return self._table.problems if self._table else ()

    @property
    def tcp_services(self) -> dict[int, str]:
        """The services that ask for a TCP port, by port."""
        return {port: route.service for port, route in self._table.tcp.items()} if self._table else {}

    def http(self, host: bytes, path: bytes) -> HttpTarget | None:
        """Find the target for a host (lower case, no port) and a normalised path."""
        if self._table is None:
            return None
        route = self._table.lookup(host, path)
        return None if route is None else self._http[route.service]

    def tcp(self, port: int) -> TcpTarget | None:
        """Find the target of a listening port."""
        route = self._table.tcp.get(port) if self._table is not None else None
        return None if route is None else self._tcp[route.service]

    def tls(self, server_name: bytes) -> TcpTarget | None:
        """Find the target for a server name (lower case, no trailing dot)."""
        route = self._table.lookup_tls(server_name) if self._table is not None else None
        return None if route is None else self._tls[route.service]

    def targets(self) -> Iterator[HttpTarget | TcpTarget]:
        """Every target: HTTP, TCP, TLS."""
        yield from self._http.values()
        yield from self._tcp.values()
        yield from self._tls.values()

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog; endpoints that stay keep their state."""
        table = build(snapshot, self._settings, self._table)
        if self._table is not None and _same_routes(table, self._table):
            self._table = table
            return
        tcp = {route.service: route for route in table.tcp.values()}
        self._follow(self._http, table.http, self._http_target)
        self._follow(self._tcp, tcp, self._tcp_target)
        self._follow(self._tls, table.tls, self._tls_target)
        self._table = table
        self.requests.clear()
        self._drop(self._http, table.http)
        self._drop(self._tcp, tcp)
        self._drop(self._tls, table.tls)
        self._stats.keep(self._http.keys() | self._tcp.keys() | self._tls.keys())

    def _follow(
        self, targets: dict[str, Target], routes: Mapping[str, Route], target_of: Callable[[Route], Target]
    ) -> None:
        """Let each service have a target with its present route; most have it already."""
        for service, route in routes.items():
            target = targets.get(service)
            if target is None:
                target = targets[service] = target_of(route)
            elif target.route is route:
                continue
            target.route = route
            self._update(target.group, route)

    def _drop(self, targets: dict[str, Target], routes: Mapping[str, Route]) -> None:
        """Let go of the targets whose services have no route any more."""
        for service in targets.keys() - routes.keys():
            group = targets.pop(service).group
            for endpoint in group.reconcile((), group.policy):
                self._retire(endpoint)

    def _http_target(self, route: Route) -> HttpTarget:
        return HttpTarget(route, self._group(route), self._stats.http(route.service))

    def _tcp_target(self, route: Route) -> TcpTarget:
        return TcpTarget(route, self._group(route), self._stats.tcp(route.service))

    def _tls_target(self, route: Route) -> TcpTarget:
        return TcpTarget(route, self._group(route), self._stats.tls(route.service))

    def _group(self, route: Route) -> Group:
        return Group(f"{route.kind} {route.service}", places=self._places)

    def _update(self, group: Group, route: Route) -> None:
        for endpoint in group.reconcile(route.endpoints, route.policy):
            self._retire(endpoint)
        for endpoint in group.endpoints:
            if endpoint.pool is None:
                self._prepare(endpoint)


def _same_routes(one: RoutingTable, other: RoutingTable) -> bool:
    return one.http == other.http and one.tcp == other.tcp and one.tls == other.tls
