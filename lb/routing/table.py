"""All routes of a snapshot, and the one that a request or connection takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from lb.catalog.model import Problem, Service, Snapshot
from lb.routing.options import Route, ServiceRoutes, read_service
from lb.routing.values import MAX_HOST
from lb.settings import RoutingSettings

Segments = tuple[bytes, ...]
"""A path prefix without its slashes: `/` is (), `/api/v1` is (b"api", b"v1")."""

Hosts = dict[bytes, dict[Segments, Route]]
"""Host name or wildcard -> path prefix -> route. Server names of TLS have the empty prefix alone."""


class RoutingTable:
    """The routes of all services (immutable); made by `build`.

    `http` has the routes to virtual hosts by service, `tcp` those to ports by port, `tls` those to server names by
    service. Where two services claim the same host and path, the same port or the same server name, the first by
    name has it and `problems` names the other.
    """

    __slots__ = (
        "_depth",
        "_hosts",
        "_server_names",
        "_services",
        "_settings",
        "_wildcards",
        "claims",
        "http",
        "problems",
        "tcp",
        "tls",
    )

    def __init__(self, services: Mapping[str, ServiceRoutes], settings: RoutingSettings, claims: Claims) -> None:
        """Take over the settled claims of `services`, which are in order of name."""
        self._services = services
        self._settings = settings
        self.claims = claims
        self._hosts = claims.hosts
        self._server_names = claims.server_names
        self._depth = claims.depth
        self._wildcards = claims.wildcards
        self.http: Mapping[str, Route] = MappingProxyType(claims.http)
        self.tcp: Mapping[int, Route] = MappingProxyType(claims.tcp)
        self.tls: Mapping[str, Route] = MappingProxyType(claims.tls)
        self.problems: tuple[Problem, ...] = tuple(
            problem
            for name, service in services.items()
            if service.problems or name in claims.refusals
            for problem in (*service.problems, *claims.refusals.get(name, ()))
        )

    def lookup(self, host: bytes, path: bytes) -> Route | None:
        """Return the route for a request, or None.

        `host` is in lower case, without port and trailing dot; `path` is normalised, without a query. A
        host's own name goes before the longest wildcard; what has been chosen decides alone, as with
        nginx's `server_name`: if it has no route for the path, there is none. Of its paths the longest that
        ends on a segment's border wins.
        """
        paths: Mapping[Segments, Route] | None = self._hosts.get(host)
        if paths is None:
            paths = _wildcard(self._hosts, host) if self._wildcards else None
            if paths is None:
                return None
        root = paths.get(())
        if root is not None and len(paths) == 1:
            return root
        segments = tuple(path.split(b"/", self._depth + 1)[1 : self._depth + 1])
        for length in range(len(segments), -1, -1):
            route = paths.get(segments[:length])
            if route is not None:
                return route
        return None

    def lookup_tls(self, server_name: bytes) -> Route | None:
        """Return the route for a server name (lower case, no trailing dot), or None; wildcards as with `lookup`."""
        paths = self._server_names.get(server_name) or _wildcard(self._server_names, server_name)
        return None if paths is None else paths[()]

    def known(self, settings: RoutingSettings) -> Mapping[str, ServiceRoutes]:
        """Return what was read for this table, by service, as far as it holds with these settings."""
        return self._services if settings == self._settings else {}


def _wildcard(hosts: Hosts, host: bytes) -> Mapping[Segments, Route] | None:
    if len(host) > MAX_HOST:
        return None
    while host:
        host = host.partition(b".")[2]
        paths = hosts.get(b"*." + host)
        if paths is not None:
            return paths
    return None


def build(snapshot: Snapshot, settings: RoutingSettings, previous: RoutingTable | None = None) -> RoutingTable:
    """Make the table of a snapshot.

    Of `previous` is kept what holds. A service that is the same object is not read again, routes that are equal are
    the same objects, and who has what is settled anew only if a change may touch what two services claim.
    """
    known = {} if previous is None else previous.known(settings)
    changed = [
        name for name, service in snapshot.services.items() if name not in known or known[name].service is not service
    ]
    gone = known.keys() - snapshot.services.keys()
    services = dict(known)
    for name in gone:
        del services[name]
    for name in changed:
        services[name] = _read(snapshot.services[name], settings, known.get(name))
    if not known.keys() >= services.keys():
        services = dict(sorted(services.items()))
    claims: Claims | None = None
    if previous is not None and known:
        left = [route for name in (*changed, *gone) if name in known for route in known[name].routes]
        came = [route for name in changed for route in services[name].routes]
        claims = previous.claims.successor(left, came)
    return RoutingTable(services, settings, claims or Claims(services.values()))


def _read(service: Service, settings: RoutingSettings, before: ServiceRoutes | None) -> ServiceRoutes:
    read = read_service(service, settings.domains)
    return replace(read, routes=before.routes) if before is not None and before.routes == read.routes else read


class Claims:
    """Who has which host, path, port and server name; not to be changed once a table has it.

    `refusals` tells, by service, what it does not get because another has it; `rivals` are both of them.
    """

    def __init__(self, services: Iterable[ServiceRoutes] = ()) -> None:
        """Give each service, in order, what is still free of what it asks for."""
        self.hosts: Hosts = {}
        self.server_names: Hosts = {}
        self.depth = 0
        self.wildcards = False
        self.http: dict[str, Route] = {}
        self.tcp: dict[int, Route] = {}
        self.tls: dict[str, Route] = {}
        self.refusals: dict[str, list[Problem]] = {}
        self.rivals: set[str] = set()
        for service in services:
            for route in service.routes:
                self._add(route)

    def successor(self, left: Sequence[Route], came: Sequence[Route]) -> Claims | None:
        """Return the claims after these routes left and those came, None if other services might gain or lose by it."""
        if left == came:  # as they are the same objects
            return self
        changes = (*left, *came)
        if any(route.service in self.rivals for route in changes):
            return None
        claims = Claims()
        claims.hosts, claims.server_names = self.hosts.copy(), self.server_names.copy()
        for host in {host.encode() for route in changes for host in route.hosts}:
            for names in (claims.hosts, claims.server_names):
                if host in names:
                    names[host] = names[host].copy()
        claims.depth, claims.wildcards = self.depth, self.wildcards
        claims.http, claims.tcp, claims.tls = self.http.copy(), self.tcp.copy(), self.tls.copy()
        claims.refusals, claims.rivals = self.refusals.copy(), self.rivals.copy()
        for route in left:
            claims._remove(route)
        for route in came:
            claims._add(route)
        return claims if claims.rivals == self.rivals else None

    def _remove(self, route: Route) -> None:
        """Take away what a service has that is nobody's rival."""
        if route.kind == "tcp":
            del self.tcp[route.port]
            return
        routes, hosts = (self.http, self.hosts) if route.kind == "http" else (self.tls, self.server_names)
        del routes[route.service]
        for host in map(str.encode, route.hosts):
            del hosts[host][_segments(route)]
            if not hosts[host]:
                del hosts[host]

    def _add(self, route: Route) -> None:
        """Give a service what is still free of what it asks for."""
        if route.kind == "tcp":
            holder = self.tcp.setdefault(route.port, route)
            if holder is not route:
                self._refuse(route, f"port {route.port}", holder)
            return
        routes, hosts = (self.http, self.hosts) if route.kind == "http" else (self.tls, self.server_names)
        segments = _segments(route)
        given = self._add_hosts(hosts, route, segments)
        if given.hosts:
            routes[given.service] = given
            self.depth = max(self.depth, len(segments))

    def _add_hosts(self, hosts: Hosts, route: Route, segments: Segments) -> Route:
        """Return the route with those of its hosts that it got, and let these lead to it."""
        lost: list[str] = []
        for host in route.hosts:
            holder = hosts.setdefault(host.encode(), {}).setdefault(segments, route)
            if holder is not route:
                self._refuse(route, f"{host}{route.path}" if route.kind == "http" else f"TLS name {host}", holder)
                lost.append(host)
            elif host.startswith("*"):
                self.wildcards = True
        if not lost:
            return route
        route = replace(route, hosts=tuple(host for host in route.hosts if host not in lost))
        for host in route.hosts:
            hosts[host.encode()][segments] = route
        return route

    def _refuse(self, route: Route, what: str, holder: Route) -> None:
        problem = Problem("route", route.service, f"{what} is taken by service {holder.service}")
        self.refusals.setdefault(route.service, []).append(problem)
        self.rivals |= {route.service, holder.service}


def _segments(route: Route) -> Segments:
    """The path prefix of a route; server names have the empty one."""
    return tuple(route.path.encode().split(b"/")[1:]) if route.path != "/" else ()
