"""Snapshot <-> lines of JSON: the form in which a catalog is kept on disk (pure).

The first line is a head that names the format, its version and how many nodes and services follow, one a
line. So a file that was cut short is noticed, and no single line is long to write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from lb.catalog.model import Instance, Node, Service, Snapshot
from lb.errors import BadAnswer

FORMAT = "consul-edge catalog"
VERSION = 1

Json = Any

_PLAIN = (
    "service", "id", "node", "address", "port", "health", "service_address", "node_address",
    "datacenter", "weight", "weight_warning", "modify_index",
)  # fmt: skip


def encode(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of a snapshot, each with its line feed."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "datacenter": snapshot.datacenter,
        "nodes": len(snapshot.nodes),
        "services": len(snapshot.services),
    }
    yield _line(head)
    for node in snapshot.nodes.values():
        yield _line(node_to_json(node))
    for service in snapshot.services.values():
        yield _line(service_to_json(service))


def decode(lines: Iterable[str]) -> Snapshot:
    """Read back what `encode` wrote, as a snapshot that is not fresh; raise `BadAnswer` for anything else."""
    source = iter(lines)
    try:
        head = json.loads(next(source, "null"))
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise BadAnswer("not a catalog of consul-edge")
        if head.get("version") != VERSION:
            raise BadAnswer(f"version {head.get('version')!r} of the format is not known")
        nodes = [node_from_json(json.loads(next(source))) for _ in range(head["nodes"])]
        services = [service_from_json(json.loads(next(source))) for _ in range(head["services"])]
        datacenter = str(head["datacenter"])
    except StopIteration:
        raise BadAnswer("cut short") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise BadAnswer(f"damaged: {error!r}") from None
    return Snapshot(
        services=MappingProxyType({service.name: service for service in services}),
        nodes=MappingProxyType({node.name: node for node in nodes}),
        datacenter=datacenter,
        fresh=False,
    )


def _line(value: Json) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def node_to_json(node: Node) -> Json:
    """Give a node as JSON can hold it."""
    return {
        "name": node.name,
        "address": node.address,
        "id": node.id,
        "datacenter": node.datacenter,
        "meta": dict(node.meta),
        "tagged_addresses": dict(node.tagged_addresses),
    }


def node_from_json(value: Json) -> Node:
    """Read a node back; raises ValueError, TypeError or KeyError for anything else."""
    return Node(
        name=value["name"],
        address=value["address"],
        id=value["id"],
        datacenter=value["datacenter"],
        meta=_frozen(value["meta"]),
        tagged_addresses=_frozen(value["tagged_addresses"]),
    )


def _instance_to_json(instance: Instance) -> Json:
    value = {name: getattr(instance, name) for name in _PLAIN}
    value["tags"] = list(instance.tags)
    value["meta"] = dict(instance.meta)
    value["node_meta"] = dict(instance.node_meta)
    value["tagged_addresses"] = {tag: list(address) for tag, address in instance.tagged_addresses.items()}
    return value


def _instance_from_json(value: Json) -> Instance:
    tagged = {tag: (str(host), int(port)) for tag, (host, port) in value["tagged_addresses"].items()}
    return Instance(
        **{name: value[name] for name in _PLAIN},
        tags=tuple(value["tags"]),
        meta=_frozen(value["meta"]),
        node_meta=_frozen(value["node_meta"]),
        tagged_addresses=MappingProxyType(tagged),
    )


def service_to_json(service: Service) -> Json:
    """Give a service as JSON can hold it."""
    return [service.name, [_instance_to_json(instance) for instance in service.instances]]


def service_from_json(value: Json) -> Service:
    """Read a service back; raises ValueError, TypeError or KeyError for anything else."""
    name, instances = value
    return Service(name, tuple(_instance_from_json(instance) for instance in instances))


def _frozen(value: Json) -> Mapping[str, str]:
    return MappingProxyType(dict(value))
