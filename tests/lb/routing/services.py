"""Short ways to write services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lb.catalog.model import Health, Instance, Service, Snapshot
from lb.routing.table import RoutingTable, build
from lb.settings import RoutingSettings

SETTINGS = RoutingSettings(domains=("example.com",))


def instance(
    id: str = "web-1",
    *,
    tags: Iterable[str] = ("http",),
    meta: Mapping[str, str] | None = None,
    health: Health = "passing",
    port: int = 8080,
    weight: int = 1,
    index: int = 1,
    service: str = "web",
) -> Instance:
    """Return an instance on node `n`, at 10.0.0.1."""
    return Instance(
        service,
        id,
        "n",
        "10.0.0.1",
        port,
        health,
        tags=tuple(tags),
        meta=meta or {},
        weight=weight,
        modify_index=index,
    )


def service(name: str, *tags: str, **meta: str) -> Service:
    """Return a service of one passing instance."""
    return Service(name, (instance(f"{name}-1", tags=tags, meta=meta, service=name),))


def table_of(*services: Service, settings: RoutingSettings = SETTINGS) -> RoutingTable:
    """Return the table of a snapshot of these services."""
    return build(Snapshot({s.name: s for s in services}), settings)
