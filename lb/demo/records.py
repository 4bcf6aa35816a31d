"""What the embedded catalog stores, as immutable values, and how Consul's API writes them in JSON.

Two records are equal when everything but their indexes is: this is how an identical registration is told from
a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lb.errors import EdgeError

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

PASSING, WARNING, CRITICAL = "passing", "warning", "critical"


class ApiError(EdgeError):
    """A call that the catalog's API refuses; `status` is the reply's, the text its body."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node of the catalog."""

    name: str
    address: str
    id: str = ""
    tagged_addresses: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    create_index: int = field(default=0, compare=False)
    modify_index: int = field(default=0, compare=False)

    def json(self, datacenter: str) -> dict[str, Json]:
        """Return the node as `/v1/catalog/nodes` and `/v1/health/service` give it."""
        return {
            "ID": self.id,
            "Node": self.name,
            "Address": self.address,
            "Datacenter": datacenter,
            "TaggedAddresses": dict(self.tagged_addresses) or None,
            "Meta": dict(self.meta) or None,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        }


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """An instance of a service on a node.

    `weight` and `weight_warning` are Consul's `Weights`; `tagged_addresses` map a tag to address and port.
    """

    id: str
    name: str
    address: str = ""
    port: int = 0
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    tagged_addresses: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    weight: int = 1
    weight_warning: int = 1
    enable_tag_override: bool = False
    create_index: int = field(default=0, compare=False)
    modify_index: int = field(default=0, compare=False)

    def json(self) -> dict[str, Json]:
        """Return the instance as `/v1/health/service` and `/v1/catalog/node` give it."""
        entry: dict[str, Json] = {
            "ID": self.id,
            "Service": self.name,
            "Tags": list(self.tags),
            "Address": self.address,
            "Meta": dict(self.meta) or None,
            "Port": self.port,
            "Weights": self._weights(),
            "EnableTagOverride": self.enable_tag_override,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        }
        return entry | self._tagged("TaggedAddresses")

    def agent_json(self) -> dict[str, Json]:
        """Return the instance as `/v1/agent/services` gives it: the agent knows no indexes."""
        entry = self.json() | {"Meta": dict(self.meta)}
        del entry["CreateIndex"], entry["ModifyIndex"]
        return entry

    def flat_json(self, node: NodeRecord, datacenter: str) -> dict[str, Json]:
        """Return the instance and its node in one object, as `/v1/catalog/service` gives them."""
        entry = node.json(datacenter)
        entry["NodeMeta"] = entry.pop("Meta")
        entry |= {
            "ServiceID": self.id,
            "ServiceName": self.name,
            "ServiceTags": list(self.tags),
            "ServiceAddress": self.address,
            "ServiceWeights": self._weights(),
            "ServiceMeta": dict(self.meta),
            "ServicePort": self.port,
            "ServiceEnableTagOverride": self.enable_tag_override,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        }
        return entry | self._tagged("ServiceTaggedAddresses")

    def _weights(self) -> dict[str, Json]:
        return {"Passing": self.weight, "Warning": self.weight_warning}

    def _tagged(self, key: str) -> dict[str, Json]:
        """Return the tagged addresses under `key`; Consul leaves the key out when there are none."""
        if not self.tagged_addresses:
            return {}
        return {
            key: {tag: {"Address": address, "Port": port} for tag, (address, port) in self.tagged_addresses.items()}
        }


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A check of a node, or of one service instance when `service_id` is set.

    `kind` is how the check is run (`ttl`, `http`, ...), empty for one that the catalog was simply told.
    """

    node: str
    id: str
    name: str
    status: str = CRITICAL
    notes: str = ""
    output: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: tuple[str, ...] = ()
    kind: str = ""
    create_index: int = field(default=0, compare=False)
    modify_index: int = field(default=0, compare=False)

    def json(self) -> dict[str, Json]:
        """Return the check as every endpoint gives it."""
        return {
            "Node": self.node,
            "CheckID": self.id,
            "Name": self.name,
            "Status": self.status,
            "Notes": self.notes,
            "Output": self.output,
            "ServiceID": self.service_id,
            "ServiceName": self.service_name,
            "ServiceTags": list(self.service_tags),
            "Type": self.kind,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        }
