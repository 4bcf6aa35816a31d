"""What one service asks of the balancer by its tags and meta keys: `Service` -> routes.

The tags `http`, `tcp` and `tls` of any instance, healthy or not, expose the service; its traffic goes to all
passing instances. Keys that begin with `lb_` are options. An entry that cannot be used is skipped, its
default is taken, and a `Problem` names it: nothing else is lost.

- `lb_max_fails`, `lb_fail_timeout` and `lb_max_conns` are the instance's own.
- `lb_policy`, `lb_host`, `lb_path`, `lb_port` and `lb_proxy_protocol` are the service's: the newest registration
  (highest ModifyIndex) decides, also by not having the key, and a `Problem` names an instance that disagrees.
- The weight is Consul's `Weights.Passing`. Weight 0, which nginx does not have, keeps an instance in the list
  and traffic away from it: a drain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from lb.catalog.model import Instance, Problem, Service
from lb.errors import OptionError
from lb.routing.values import (
    parse_count,
    parse_duration,
    parse_host,
    parse_path,
    parse_policy,
    parse_port,
    parse_port_suffix,
    parse_proxy_protocol,
    shown,
)

Kind = Literal["http", "tcp", "tls"]
T = TypeVar("T")

KINDS: tuple[Kind, ...] = ("http", "tcp", "tls")
PREFIX = "lb_"

_INSTANCE_KEYS = frozenset({"lb_max_fails", "lb_fail_timeout", "lb_max_conns"})
_KEYS: dict[Kind, frozenset[str]] = {
    "http": _INSTANCE_KEYS | {"lb_policy", "lb_host", "lb_path"},
    "tcp": _INSTANCE_KEYS | {"lb_policy", "lb_port", "lb_proxy_protocol"},
    "tls": _INSTANCE_KEYS | {"lb_policy", "lb_host", "lb_proxy_protocol"},
}

# What the nginx templates set; TLS is passed through as TCP is.
_POLICY: dict[Kind, str] = {"http": "round_robin", "tcp": "least_conn", "tls": "least_conn"}
_FAIL_TIMEOUT: dict[Kind, int] = {"http": 60, "tcp": 30, "tls": 30}
_MAX_FAILS = 3


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """One passing instance, as the balancer is told of it (`lb.balance.endpoint.EndpointSpec`)."""

    key: tuple[str, str, str, int]
    host: str
    port: int
    weight: int = 1
    max_fails: int = _MAX_FAILS
    fail_timeout: int = 60
    max_conns: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """What leads to a service: virtual hosts and a path prefix (`http`), a port (`tcp`), or server names (`tls`).

    `hosts` has virtual hosts or server names. `proxy_protocol` is the version of the PROXY header that instances
    get, `v1` or `v2`; empty: none. `endpoints` are the passing instances in catalog order; there may be none.
    """

    service: str
    kind: Kind
    policy: str
    hosts: tuple[str, ...] = ()
    path: str = "/"
    port: int = 0
    proxy_protocol: str = ""
    endpoints: tuple[EndpointOptions, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceRoutes:
    """The routes that one service asks for, and what of it cannot be used."""

    service: Service
    routes: tuple[Route, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_service(service: Service, domains: tuple[str, ...]) -> ServiceRoutes:
    """Read the tags and options of a service.

    Its virtual hosts and server names are `<service>.<domain>` for each domain, and what `lb_host` names.
    """
    kinds = tuple(kind for kind in KINDS if kind in service.tags)
    if not kinds:
        return ServiceRoutes(service)
    reader = _Reader(service)
    reader.check_keys(kinds)
    routes = [reader.tcp_route() if kind == "tcp" else reader.host_route(kind, domains) for kind in kinds]
    return ServiceRoutes(service, tuple(route for route in routes if route), tuple(reader.problems))


class _Reader:
    """One pass over a service. `problems` has each once, in the order in which they were found."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._newest = max(service.instances, key=lambda i: (i.modify_index, i.key))
        self.problems: dict[Problem, None] = {}

    def _refuse(self, kind: str, subject: str, reason: str) -> None:
        self.problems[Problem(kind, subject, reason)] = None

    def check_keys(self, kinds: tuple[Kind, ...]) -> None:
        """Name each option, once, that does not exist or that has no effect on this service."""
        useful = frozenset().union(*(_KEYS[kind] for kind in kinds))
        seen: set[str] = set()
        for instance in self._service.instances:
            for key in instance.meta:
                if not key.startswith(PREFIX) or key in useful or key in seen:
                    continue
                seen.add(key)
                owners = " or ".join(kind for kind in KINDS if key in _KEYS[kind])
                reason = f"has no effect without the tag {owners}" if owners else "there is no such option"
                self._refuse("option", f"{label(instance)} {key}", reason)

    def host_route(self, kind: Kind, domains: tuple[str, ...]) -> Route | None:
        """Read the virtual hosts or the server names; None if there is no usable one."""
        hosts = [*self._own_hosts(domains), *self._more_hosts()]
        if not hosts:
            if not domains:
                self._refuse("route", self._service.name, "no domain is set, and lb_host names no host")
            return None
        return Route(
            self._service.name,
            kind,
            self._shared("lb_policy", parse_policy, _POLICY[kind]),
            hosts=tuple(dict.fromkeys(hosts)),
            path=self._shared("lb_path", parse_path, "/") if kind == "http" else "/",
            proxy_protocol="" if kind == "http" else self._proxy_protocol(),
            endpoints=self._endpoints(kind),
        )

    def tcp_route(self) -> Route | None:
        """Read the listening port; None if there is none."""
        port = self._shared("lb_port", parse_port, 0)
        if not port:
            try:
                port = parse_port_suffix(self._service.name)
            except OptionError as error:
                self._refuse("route", self._service.name, f"no TCP port: {error}, and lb_port gives none")
                return None
        return Route(
            self._service.name,
            "tcp",
            self._shared("lb_policy", parse_policy, _POLICY["tcp"]),
            port=port,
            proxy_protocol=self._proxy_protocol(),
            endpoints=self._endpoints("tcp"),
        )

    def _proxy_protocol(self) -> str:
        return self._shared("lb_proxy_protocol", parse_proxy_protocol, "")

    def _own_hosts(self, domains: tuple[str, ...]) -> list[str]:
        hosts: list[str] = []
        for domain in domains:
            try:
                hosts.append(parse_host(f"{self._service.name}.{domain}"))
            except OptionError as error:
                self._refuse("route", self._service.name, str(error))
        return hosts

    def _more_hosts(self) -> list[str]:
        hosts: list[str] = []
        for item in self._shared("lb_host", str, "").split(","):
            if not item.strip():
                continue
            try:
                hosts.append(parse_host(item.strip(), wildcard=True))
            except OptionError as error:
                self._refuse("option", f"{label(self._newest)} lb_host", str(error))
        return hosts

    def _shared(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """Read an option of the whole service from its newest registration."""
        newest = self._newest
        text = newest.meta.get(key)
        others = [i for i in self._service.instances if i.meta.get(key) != text]
        if others:
            theirs = others[0].meta.get(key)
            reason = (
                f"{_quoted(theirs)} is not used: the newest registration, {newest.id}@{newest.node},"
                f" has {_quoted(text)}"
            )
            if len(others) > 1:
                reason += f" ({len(others)} instances disagree with it)"
            self._refuse("option", f"{label(others[0])} {key}", reason)
        return self._value(newest, key, parse, default)

    def _value(self, instance: Instance, key: str, parse: Callable[[str], T], default: T) -> T:
        text = instance.meta.get(key)
        if text is None:
            return default
        try:
            return parse(text)
        except OptionError as error:
            self._refuse("option", f"{label(instance)} {key}", str(error))
            return default

    def _endpoints(self, kind: Kind) -> tuple[EndpointOptions, ...]:
        endpoints: list[EndpointOptions] = []
        for instance in self._service.passing:
            if not 0 < instance.port < 65536:
                self._refuse("instance", label(instance), f"there is no port {instance.port} to connect to")
                continue
            endpoints.append(
                EndpointOptions(
                    (instance.node, instance.id, instance.address, instance.port),
                    instance.address,
                    instance.port,
                    weight=max(0, instance.weight),
                    max_fails=self._value(instance, "lb_max_fails", parse_count, _MAX_FAILS),
                    fail_timeout=self._value(instance, "lb_fail_timeout", parse_duration, _FAIL_TIMEOUT[kind]),
                    max_conns=self._value(instance, "lb_max_conns", parse_count, 0),
                )
            )
        return tuple(endpoints)


def label(instance: Instance) -> str:
    """Return how an instance is named to people: `web/web-1@node`."""
    return f"{instance.service}/{instance.id}@{instance.node}"


def _quoted(text: str | None) -> str:
    return "no value" if text is None else shown(text)
