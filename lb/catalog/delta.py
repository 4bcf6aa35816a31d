"""What changed from one snapshot to the next, in a form to send to another process (pure).

Services and nodes that did not change are the same objects in both snapshots, on either side: so comparing costs a
look at each, and routing tables need not be read anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from lb.catalog.codec import node_from_json, node_to_json, service_from_json, service_to_json
from lb.catalog.model import Problem, Snapshot
from lb.errors import BadAnswer

T = TypeVar("T")

Json = Any


def changes(old: Snapshot, new: Snapshot) -> dict[str, Json]:
    """Describe how `old` becomes `new`; an empty snapshot as `old` describes all of `new`."""
    return {
        "datacenter": new.datacenter,
        "generation": new.generation,
        "fresh": new.fresh,
        "problems": [[problem.kind, problem.subject, problem.reason] for problem in new.problems],
        "services": [service_to_json(service) for service in _other(old.services, new.services)],
        "services_gone": sorted(old.services.keys() - new.services.keys()),
        "nodes": [node_to_json(node) for node in _other(old.nodes, new.nodes)],
        "nodes_gone": sorted(old.nodes.keys() - new.nodes.keys()),
    }


def changed(old: Snapshot, delta: Mapping[str, Json]) -> Snapshot:
    """Make the new snapshot of the old one and what `changes` told. Raises BadAnswer for anything else."""
    try:
        services, nodes = _copy(old.services), _copy(old.nodes)
        for name in delta["services_gone"]:
            services.pop(name, None)
        for name in delta["nodes_gone"]:
            nodes.pop(name, None)
        services.update((service.name, service) for service in map(service_from_json, delta["services"]))
        nodes.update((node.name, node) for node in map(node_from_json, delta["nodes"]))
        return Snapshot(
            services=MappingProxyType(services),
            nodes=MappingProxyType(nodes),
            datacenter=str(delta["datacenter"]),
            generation=int(delta["generation"]),
            fresh=bool(delta["fresh"]),
            problems=tuple(Problem(*problem) for problem in delta["problems"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadAnswer(f"not a change of a catalog: {error!r}") from None


def _other(old: Mapping[str, T], new: Mapping[str, T]) -> list[T]:
    return [value for name, value in new.items() if old.get(name) is not value]


def _copy(values: Mapping[str, T]) -> dict[str, T]:
    # A dictionary behind a proxy is copied in one go; `dict` would ask for each key.
    return values.copy() if isinstance(values, MappingProxyType) else dict(values)
