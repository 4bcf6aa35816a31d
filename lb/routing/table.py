"""All routes of a snapshot, and the one that a request or connection takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from lb.catalog.model import Problem, Snapshot
from lb.routing.options import Route, ServiceRoutes, read_service
from lb.routing.values import MAX_HOST
from lb.settings import RoutingSettings

Segments = tuple[bytes, ...]
"""A path prefix without its slashes: `/` is (), `/api/v1` is (b"api", b"v1")."""

Hosts = dict[bytes, dict[Segments, Route]]
"""Host name or wildcard -> path prefix -> route. Server names of TLS have the empty prefix alone."""


class RoutingTable:
    """The routes of all services (immutable).

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
        "http",
        "problems",
        "tcp",
        "tls",
    )

    def __init__(self, services: Mapping[str, ServiceRoutes], settings: RoutingSettings) -> None:
        """Settle the claims of `services`, which are in order of name."""
        self._services = services
        self._settings = settings
        claims = _Claims()
        for service in services.values():
            claims.add(service)
        self._hosts = claims.hosts
        self._server_names = claims.server_names
        self._depth = claims.depth
        self._wildcards = any(host.startswith(b"*") for host in claims.hosts)
        self.http: Mapping[str, Route] = MappingProxyType(claims.http)
        self.tcp: Mapping[int, Route] = MappingProxyType(claims.tcp)
        self.tls: Mapping[str, Route] = MappingProxyType(claims.tls)
        self.problems: tuple[Problem, ...] = tuple(claims.problems)

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
    """Make the table of a snapshot; a service that is the same object as in `previous` is not read again."""
    known = {} if previous is None else previous.known(settings)
    services: dict[str, ServiceRoutes] = {}
    for name in sorted(snapshot.services):
        service = snapshot.services[name]
        read = known.get(name)
        if read is None or read.service is not service:
            read = read_service(service, settings.domains)
        services[name] = read
    return RoutingTable(services, settings)


class _Claims:
    """Who has which host, path, port and server name, while a table is made."""

    def __init__(self) -> None:
        self.hosts: Hosts = {}
        self.server_names: Hosts = {}
        self.depth = 0
        self.http: dict[str, Route] = {}
        self.tcp: dict[int, Route] = {}
        self.tls: dict[str, Route] = {}
        self.problems: list[Problem] = []

    def add(self, service: ServiceRoutes) -> None:
        """Give a service what is still free of what it asks for."""
        self.problems += service.problems
        for route in service.routes:
            if route.kind == "tcp":
                holder = self.tcp.setdefault(route.port, route)
                if holder is not route:
                    self._refuse(route, f"port {route.port}", holder)
            elif route.kind == "http":
                segments = tuple(route.path.encode().split(b"/")[1:]) if route.path != "/" else ()
                left = self._add_hosts(self.hosts, route, segments)
                if left.hosts:
                    self.depth = max(self.depth, len(segments))
                    self.http[left.service] = left
            else:
                left = self._add_hosts(self.server_names, route, ())
                if left.hosts:
                    self.tls[left.service] = left

    def _add_hosts(self, hosts: Hosts, route: Route, segments: Segments) -> Route:
        """Return the route with those of its hosts that it got, and let these lead to it."""
        lost: list[str] = []
        for host in route.hosts:
            holder = hosts.setdefault(host.encode(), {}).setdefault(segments, route)
            if holder is not route:
                self._refuse(route, f"{host}{route.path}" if route.kind == "http" else f"TLS name {host}", holder)
                lost.append(host)
        if not lost:
            return route
        route = replace(route, hosts=tuple(host for host in route.hosts if host not in lost))
        for host in route.hosts:
            hosts[host.encode()][segments] = route
        return route

    def _refuse(self, route: Route, what: str, holder: Route) -> None:
        self.problems.append(Problem("route", route.service, f"{what} is taken by service {holder.service}"))
