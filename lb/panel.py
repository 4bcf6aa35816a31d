"""What the admin server shows of a node."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dnsserver.metrics import DnsCollector
from lb.catalog.model import Problem
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.keeper import SocketKeeper
from lb.observe.admin import AdminSources
from lb.observe.metrics import Families, Metrics
from lb.observe.views import (
    CatalogView,
    EndpointView,
    WorkersView,
    catalog_view,
    dns_json,
    endpoint_views,
    route_json,
    services_json,
    status_json,
    worker_json,
)
from lb.planes import Planes
from lb.version import VERSION
from registrator.loop import Registrator
from registrator.metrics import RegistratorCollector

Ready = Callable[[], tuple[bool, list[str]]]


class Panel:
    """Looks at the parts of a node, each time anew.

    `ready` tells whether the node should get traffic, and what is against it. Without workers it serves nobody.
    """

    def __init__(
        self,
        store: Store,
        watcher: Watcher,
        keeper: SocketKeeper,
        planes: Planes,
        ready: Ready,
        failed_upgrades: Sequence[str],
        registrator: Registrator | None = None,
    ) -> None:
        self._started = time.monotonic()
        self._store = store
        self._watcher = watcher
        self._keeper = keeper
        self._planes = planes
        self._ready = ready
        self._failed_upgrades = failed_upgrades
        self._registrator = registrator
        self._has_dns = bool(keeper.addresses("dns-udp"))
        self._metrics = Metrics(
            planes.stats,
            version=VERSION,
            endpoints=lambda: iter(list(self._endpoints())),
            catalog=self._catalog,
            problems=self.problems,
            access_log=planes.log_counts,
            workers=self._workers,
            extra=list(self._collectors()),
        )

    def _collectors(self) -> Iterator[Families]:
        if self._has_dns:
            yield DnsCollector(self._planes.dns_stats).collect
        if self._registrator is not None:
            yield RegistratorCollector(self._registrator).collect

    def sources(self) -> AdminSources:
        """Return what the admin server asks."""
        return AdminSources(
            refresh=self._planes.refresh,
            status=self._status,
            services=lambda: services_json(self._store.snapshot, self._planes.balancer.problems),
            routes=self._routes,
            ready=self._ready,
            metrics=self._metrics.stream,
        )

    def problems(self) -> tuple[Problem, ...]:
        """What of the catalog is not used, and what of the containers is not registered."""
        found = self._store.snapshot.problems + self._planes.balancer.problems + self._keeper.problems
        return found if self._registrator is None else found + self._registrator.problems

    def _workers(self) -> WorkersView:
        return self._planes.workers() or WorkersView()

    def _catalog(self) -> CatalogView:
        view = catalog_view(self._store.snapshot, self._watcher.status, time.monotonic())
        if self._registrator is None or self._planes.size:
            return view
        agent = self._registrator.stats.consul  # nobody else asks Consul anything
        return replace(view, connected=agent.connected, last_error=agent.error)

    def _endpoints(self) -> Iterator[EndpointView]:
        now = int(asyncio.get_running_loop().time())
        for target in self._planes.balancer.targets():
            yield from endpoint_views(target.route.service, target.route.kind, target.group.endpoints, now)

    def _routes(self) -> Iterator[dict[str, Any]]:
        now = int(asyncio.get_running_loop().time())
        for target in list(self._planes.balancer.targets()):
            route = target.route
            yield route_json(route, endpoint_views(route.service, route.kind, target.group.endpoints, now))

    def _status(self) -> dict[str, Any]:
        ready, reasons = self._ready()
        kinds = [target.route.kind for target in self._planes.balancer.targets()]
        replies = self._planes.dns_stats.replies
        workers, now = self._planes.workers(), time.monotonic()
        status = status_json(
            version=VERSION,
            uptime=now - self._started,
            ready=ready,
            reasons=reasons,
            catalog=self._catalog(),
            stats=self._planes.stats,
            routes={"http": kinds.count("http"), "tcp": kinds.count("tcp"), "tls": kinds.count("tls")},
            dns=dns_json(self._keeper.addresses("dns-udp"), replies) if self._has_dns else None,
            workers=None if workers is None else [worker_json(worker, now) for worker in workers.alive],
            problems=self.problems(),
        )
        upgrades = {"failed": len(self._failed_upgrades), "error": "".join(self._failed_upgrades[-1:])}
        registrator = None if self._registrator is None else self._registrator.status()
        return {"pid": os.getpid(), **status, "registrator": registrator, "upgrades": upgrades}
