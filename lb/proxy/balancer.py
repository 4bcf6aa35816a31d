"""What the sessions ask: which target serves this host, path, port or server name, now.

A snapshot is applied in one go, without an await: build the table, reconcile the groups, swap, and only then drop
what has left. A request or session in flight holds its own group and endpoint and never notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
        self._tcp: dict[int, TcpTarget] = {}
        self._tls: dict[str, TcpTarget] = {}
        self.requests: Memo[Request] = Memo(entries=2048, octets=1 << 20, longest=LONGEST_SEEN)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What of the catalog is not used, and why."""
        return self._table.problems if self._table else ()

    @property
    def tcp_services(self) -> dict[int, str]:
        """The services that ask for a TCP port, by port."""
        return {port: target.route.service for port, target in self._tcp.items()}

    def http(self, host: bytes, path: bytes) -> HttpTarget | None:
        """Find the target for a host (lower case, no port) and a normalised path."""
        if self._table is None:
            return None
        route = self._table.lookup(host, path)
        return None if route is None else self._http[route.service]

    def tcp(self, port: int) -> TcpTarget | None:
        """Find the target of a listening port."""
        return self._tcp.get(port)

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
        http_before = self._http
        tcp_before = {target.route.service: target for target in self._tcp.values()}
        tls_before = self._tls
        http: dict[str, HttpTarget] = {}
        for name, route in table.http.items():
            target = http_before.pop(name, None) or HttpTarget(route, self._group("http", name), self._stats.http(name))
            self._update(target, route)
            http[name] = target
        tcp: dict[int, TcpTarget] = {}
        for port, route in table.tcp.items():
            tcp_target = tcp_before.pop(route.service, None) or TcpTarget(
                route, self._group("tcp", route.service), self._stats.tcp(route.service)
            )
            self._update(tcp_target, route)
            tcp[port] = tcp_target
        tls: dict[str, TcpTarget] = {}
        for name, route in table.tls.items():
            tls_target = tls_before.pop(name, None) or TcpTarget(route, self._group("tls", name), self._stats.tls(name))
            self._update(tls_target, route)
            tls[name] = tls_target
        self._table, self._http, self._tcp, self._tls = table, http, tcp, tls
        self.requests.clear()
        gone: list[HttpTarget | TcpTarget] = [*http_before.values(), *tcp_before.values(), *tls_before.values()]
        for left in gone:
            self._empty(left.group)
        self._stats.keep({*http, *(target.route.service for target in tcp.values()), *tls})

    def _group(self, kind: str, service: str) -> Group:
        return Group(f"{kind} {service}", places=self._places)

    def _update(self, target: HttpTarget | TcpTarget, route: Route) -> None:
        if target.route is route and target.group.endpoints:
            return
        target.route = route
        for endpoint in target.group.reconcile(route.endpoints, route.policy):
            self._retire(endpoint)
        for endpoint in target.group.endpoints:
            if endpoint.pool is None:
                self._prepare(endpoint)

    def _empty(self, group: Group) -> None:
        for endpoint in group.reconcile((), group.policy):
            self._retire(endpoint)


def _same_routes(one: RoutingTable, other: RoutingTable) -> bool:
    return one.http == other.http and one.tcp == other.tcp and one.tls == other.tls
