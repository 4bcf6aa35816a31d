"""What is shown of a node, as plain data: frozen views, and dictionaries ready for JSON (pure).

The owner of the node feeds them: `endpoint_views` and `catalog_view` look at living objects, the functions
named `..._json` turn views into the answers of the admin server.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from lb.catalog.model import Instance, Problem, Service, Snapshot
from lb.observe.shapes import EndpointLike, RouteLike, WatchLike
from lb.observe.stats import Stats
from lb.settings import Address

EndpointState = Literal["up", "suspended", "full", "off"]

_NAME_END = re.compile(r"[/@ ]|\Z")


class EndpointView(NamedTuple):
    """One endpoint of one service at one moment; `endpoint` is `host:port`."""

    service: str
    kind: str
    endpoint: str
    node: str
    id: str
    weight: int
    active: int
    fails: int
    max_fails: int
    fail_timeout: int
    max_conns: int
    state: EndpointState

    @property
    def available(self) -> bool:
        """Whether the balancer may choose it now."""
        return self.state == "up"


class WorkerView(NamedTuple):
    """One process of the data plane at one moment; `number` tells the living apart, `started` is monotonic seconds."""

    number: int
    pid: int
    started: float
    cpu_seconds: float
    resident_bytes: int
    open_fds: int


class WorkersView(NamedTuple):
    """The living workers at one moment, and how often one was started in place of another."""

    alive: tuple[WorkerView, ...] = ()
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class CatalogView:
    """The catalog and how it is followed, at one moment.

    `age` is seconds since the last good answer of an agent, None before the first one. `last_contact` is
    the agent's own word (seconds since its server last heard from the leader). `held` counts services whose
    instances vanished and are kept until that is confirmed.
    """

    agent: str = ""
    connected: bool = False
    datacenter: str = ""
    node: str = ""
    generation: int = 0
    fresh: bool = False
    age: float | None = None
    known_leader: bool = False
    last_contact: float = 0.0
    services: int = 0
    instances: Mapping[str, int] = field(default_factory=dict)
    held: int = 0
    connections: int = 0
    answers: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    refetches: int = 0
    sweeps: int = 0
    publications: int = 0
    agent_changes: int = 0
    last_error: str = ""


def endpoint_views(service: str, kind: str, endpoints: Collection[EndpointLike], now: int) -> Iterator[EndpointView]:
    """Look at the endpoints of one group; `now` is the balancer's clock, in whole seconds."""
    alone = sum(endpoint.weight > 0 for endpoint in endpoints) == 1
    for endpoint in endpoints:
        node, service_id, _, _ = endpoint.key
        yield EndpointView(
            service=service,
            kind=kind,
            endpoint=endpoint.name,
            node=node,
            id=service_id,
            weight=endpoint.weight,
            active=endpoint.active,
            fails=endpoint.fails,
            max_fails=endpoint.max_fails,
            fail_timeout=endpoint.fail_timeout,
            max_conns=endpoint.max_conns,
            state=_state(endpoint, now, alone=alone),
        )


def _state(endpoint: EndpointLike, now: int, *, alone: bool) -> EndpointState:
    """Tell whether an endpoint may be chosen. One alone is, whatever its failures, as in nginx."""
    if endpoint.weight <= 0:
        return "off"
    if endpoint.suspended(now) and not alone:
        return "suspended"
    return "full" if endpoint.full() else "up"


def catalog_view(snapshot: Snapshot, watch: WatchLike, now: float) -> CatalogView:
    """Look at the catalog and the watch on it; `now` is the monotonic clock, in seconds."""
    return CatalogView(
        agent=without_credentials(watch.agent),
        connected=watch.connected,
        datacenter=snapshot.datacenter or watch.datacenter,
        node=watch.node,
        generation=snapshot.generation,
        fresh=snapshot.fresh,
        age=None if watch.answered_at is None else max(0.0, now - watch.answered_at),
        known_leader=watch.known_leader,
        last_contact=watch.last_contact,
        services=len(snapshot.services),
        instances=count_health(snapshot),
        held=watch.held,
        connections=watch.connections,
        answers=watch.answers,
        errors={str(kind): count for kind, count in watch.errors.items()},
        refetches=watch.refetches,
        sweeps=watch.sweeps,
        publications=watch.publications,
        agent_changes=watch.agent_changes,
        last_error=watch.last_error,
    )


def count_health(snapshot: Snapshot) -> dict[str, int]:
    """Count the instances of a snapshot by health; every health is named, even at 0."""
    counts = Counter(instance.health for instance in snapshot.instances())
    return {health: counts[health] for health in ("passing", "warning", "critical")}


def route_json(route: RouteLike, endpoints: Iterable[EndpointView]) -> dict[str, Any]:
    """Describe one route: virtual hosts, a TCP port or server names; its policy, the endpoints with their state."""
    place: dict[str, Any]
    if route.kind == "http":
        place = {"hosts": list(route.hosts), "path": route.path}
    elif route.kind == "tls":
        place = {"hosts": list(route.hosts)}
    else:
        place = {"port": route.port}
    return {
        "service": route.service,
        "kind": route.kind,
        **place,
        "policy": route.policy,
        "endpoints": [_endpoint_json(view) for view in endpoints],
    }


def _endpoint_json(view: EndpointView) -> dict[str, Any]:
    shown = view._asdict()
    del shown["service"], shown["kind"]
    return shown


def services_json(snapshot: Snapshot, problems: Iterable[Problem] = ()) -> Iterator[dict[str, Any]]:
    """Describe each service, one at a time: its instances, what was refused of it, other problems of it.

    `problems` are those found after the snapshot was made (options, routes). A service of which nothing
    could be used is named too.
    """
    by_service = _problems_by_service(snapshot, (*snapshot.problems, *problems))
    for name in sorted({*snapshot.services, *by_service}):
        service = snapshot.services.get(name, Service(name))
        found = by_service.get(name, [])
        yield {
            "service": name,
            "tags": sorted(service.tags),
            "instances": [_instance_json(instance) for instance in service.instances],
            "refused": [_problem_json(problem) for problem in found if problem.kind == "instance"],
            "problems": [_problem_json(problem) for problem in found if problem.kind != "instance"],
        }


def _problems_by_service(snapshot: Snapshot, problems: Collection[Problem]) -> dict[str, list[Problem]]:
    by_service: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.kind != "listener":
            by_service.setdefault(_service_of(problem.subject, snapshot), []).append(problem)
    return by_service


def _service_of(subject: str, snapshot: Snapshot) -> str:
    """Find the service that a subject (`web/web-1@node lb_port`) begins with.

    A service's name may hold a slash or a space itself: the longest name of the catalog wins.
    """
    ends = [match.start() for match in _NAME_END.finditer(subject)]
    names = (subject[:end] for end in reversed(ends))
    return next((name for name in names if name in snapshot.services), subject[: ends[0]])


def _instance_json(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "node": instance.node,
        "address": instance.address,
        "port": instance.port,
        "health": instance.health,
        "weight": instance.weight,
        "tags": list(instance.tags),
        "meta": dict(instance.meta),
    }


def _problem_json(problem: Problem) -> dict[str, str]:
    return {"kind": problem.kind, "subject": problem.subject, "reason": problem.reason}


def status_json(
    *,
    version: str,
    uptime: float,
    ready: bool,
    reasons: Iterable[str],
    catalog: CatalogView,
    stats: Stats,
    routes: Mapping[str, int],
    dns: Mapping[str, Any] | None = None,
    workers: Iterable[Mapping[str, Any]] | None = None,
    problems: Iterable[Problem],
) -> dict[str, Any]:
    """Describe the node: version, uptime (seconds), readiness, catalog, listeners, traffic, DNS, workers, problems.

    `routes` counts routes by kind (`http`, `tcp`, `tls`), `dns` is None where it does not run, `workers` where one
    process does everything.
    """
    return {
        "version": version,
        "uptime": round(uptime, 3),
        "ready": ready,
        "reasons": list(reasons),
        "catalog": _catalog_json(catalog),
        "routes": dict(routes),
        "listeners": _listeners_json(stats),
        "traffic": _traffic_json(stats),
        "dns": None if dns is None else dict(dns),
        "workers": None if workers is None else [dict(worker) for worker in workers],
        "problems": [_problem_json(problem) for problem in problems],
    }


def dns_json(addresses: Iterable[Address], replies: int) -> dict[str, Any]:
    """Describe the DNS server: where it listens, and how many replies it gave."""
    return {"listen": [str(address) for address in addresses], "replies": replies}


def worker_json(worker: WorkerView, now: float) -> dict[str, Any]:
    """Describe one worker; `now` is the monotonic clock, in seconds."""
    return {
        "number": worker.number,
        "pid": worker.pid,
        "uptime": round(now - worker.started, 3),
        "cpu_seconds": worker.cpu_seconds,
        "resident_bytes": worker.resident_bytes,
        "open_fds": worker.open_fds,
    }


def _catalog_json(catalog: CatalogView) -> dict[str, Any]:
    shown = {name: getattr(catalog, name) for name in CatalogView.__dataclass_fields__}
    shown["age"] = None if catalog.age is None else round(catalog.age, 3)
    shown["instances"] = dict(catalog.instances)
    shown["errors"] = dict(catalog.errors)
    return shown


def _listeners_json(stats: Stats) -> list[dict[str, Any]]:
    return [
        {
            "listener": name,
            "up": listener.up,
            "error": listener.error,
            "accepted": listener.accepted,
            "active": listener.active,
            "rejected": {str(status): count for status, count in sorted(listener.rejected.items())},
            "rejected_connections": dict(sorted(listener.turned_away.items())),
        }
        for name, listener in sorted(stats.listeners())
    ]


def _traffic_json(stats: Stats) -> dict[str, int]:
    http = [counters for _, counters in stats.http_services()]
    tcp = [counters for _, counters in stats.tcp_services()]
    tls = [counters for _, counters in stats.tls_services()]
    return {
        "http_requests": sum(sum(service.codes.values()) for service in http),
        "http_active": sum(service.active for service in http),
        "http_errors": sum(count for service in http for status, count in service.codes.items() if status >= 500),
        "retries": sum(service.retries for service in http),
        "tcp_sessions": sum(service.opened for service in tcp),
        "tcp_active": sum(service.active for service in tcp),
        "tls_sessions": sum(service.opened for service in tls),
        "tls_active": sum(service.active for service in tls),
    }


def without_credentials(url: str) -> str:
    """Take user name and password out of a URL."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
