"""Plain values of the shapes that the observe room knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from lb.catalog.model import Instance, Problem, Service, Snapshot
from lb.observe.stats import Stats
from lb.observe.views import CatalogView, dns_json, status_json
from lb.settings import Address


@dataclass
class FakeEndpoint:
    """An endpoint in the shape of the balancer's."""

    key: tuple[str, str, str, int] = ("node-1", "web-1", "10.0.0.1", 80)
    name: str = "10.0.0.1:80"
    weight: int = 1
    active: int = 0
    fails: int = 0
    max_fails: int = 3
    fail_timeout: int = 60
    max_conns: int = 0
    suspended_until: int = 0

    def suspended(self, now: int) -> bool:
        return now <= self.suspended_until

    def full(self) -> bool:
        return 0 < self.max_conns <= self.active


@dataclass(frozen=True)
class FakeRoute:
    """A route in the shape of the routing table's."""

    service: str = "web"
    kind: Literal["http", "tcp", "tls"] = "http"
    policy: str = "round_robin"
    hosts: tuple[str, ...] = ("web.example.com",)
    path: str = "/"
    port: int = 0


@dataclass
class FakeWatch:
    """The watch's status in the shape of the catalog's."""

    agent: str = "http://127.0.0.1:8500"
    connected: bool = True
    datacenter: str = "dc1"
    node: str = "n1"
    answered_at: float | None = 90.0
    known_leader: bool = True
    last_contact: float = 0.0
    held: int = 0
    connections: int = 9
    answers: int = 12
    errors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"unreachable": 2}))
    refetches: int = 3
    sweeps: int = 1
    publications: int = 4
    agent_changes: int = 5
    last_error: str = ""


def a_snapshot() -> Snapshot:
    """One service of two instances, one of them critical."""
    web = Service(
        "web",
        (
            Instance("web", "web-1", "n1", "10.0.0.1", 80, tags=("http",), meta={"lb_policy": "random"}, weight=3),
            Instance("web", "web-2", "n2", "10.0.0.2", 80, health="critical", tags=("blue",)),
        ),
    )
    refused = Problem("instance", "web/web-3@n3", "port 0")
    return Snapshot({"web": web}, datacenter="dc1", generation=7, problems=(refused,))


def a_worker(number: int) -> dict[str, Any]:
    """One worker in the answer of `/api/status`."""
    return {
        "number": number,
        "pid": 100 + number,
        "uptime": 93784.0,
        "cpu_seconds": 1.5,
        "resident_bytes": 45 << 20,
        "open_fds": 60 + number,
    }


def a_status(*failed_upgrades: str, **changes: Any) -> dict[str, Any]:
    """The answer of `/api/status` of a node with little on it."""
    stats = Stats()
    stats.listener("http 0.0.0.0:80").opened()
    stats.listener("http 0.0.0.0:80").reject(404)
    stats.listener("http 0.0.0.0:80").reject(404)
    stats.listener("http 0.0.0.0:80").turn_away("no_proxy_header")
    stats.listener("tcp 0.0.0.0:9999").failed("address already in use")
    given: dict[str, Any] = {
        "version": "1.2.3",
        "uptime": 93784.0,
        "ready": True,
        "reasons": (),
        "catalog": CatalogView(
            "http://127.0.0.1:8500",
            True,
            "dc1",
            generation=7,
            fresh=True,
            age=1.25,
            services=1,
            instances={"passing": 1},
        ),
        "stats": stats,
        "routes": {"http": 1, "tcp": 0, "tls": 0},
        "dns": dns_json((Address("127.0.0.1", 53), Address("::1", 53)), 12),
        "problems": (Problem("option", "web/web-1@n1 lb_max_fails", "not a number: 'x'"),),
    }
    upgrades = {"failed": len(failed_upgrades), "error": "".join(failed_upgrades[-1:])}
    return {"pid": 4711, **status_json(**{**given, **changes}), "upgrades": upgrades}
