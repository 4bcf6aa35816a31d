"""Consul's JSON -> the model: pure functions on decoded answers.

Unknown fields are ignored, and `null` stands for an empty list or map, as Go writes them. An answer of the
wrong shape raises `BadAnswer`; one entry that cannot be used becomes a `Problem`, and the others stand.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lb.catalog.model import Health, Instance, Node, Problem, Service
from lb.errors import BadAnswer, InstanceError

Json = Any
InstanceKey = tuple[str, str]
"""Node name and service ID."""

CheckKey = tuple[str, str]
"""Node name and check ID: what identifies a check in the catalog."""

# Host names as resolvers take them (RFC 1123 section 2.1), underscores too: containers are named with them.
# A last label of digits alone would be a mistyped IPv4 address.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"(?![0-9]+\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?\Z"
)
_MAX_WEIGHT = 65535
_SEVERITY: Mapping[str, int] = {"passing": 0, "warning": 1, "critical": 2}
_HEALTH: tuple[Health, ...] = ("passing", "warning", "critical")


@dataclass(frozen=True, slots=True)
class FailingCheck:
    """A check that is not passing; for one of a node as a whole `service` and `instance` (its ID) are empty."""

    service: str
    instance: str
    status: str


@dataclass(frozen=True, slots=True)
class DecodedService:
    """One answer about one service.

    `registered` holds the ModifyIndex of every instance that Consul has, those that cannot be used too: it
    tells a service that is gone from one with bad instances only.
    """

    service: Service
    registered: Mapping[InstanceKey, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def service(name: str, body: Json) -> DecodedService:
    """Decode `/v1/health/service/<name>`.

    Consul's index of names ignores case, so entries of `Web` come with those of `web`: they are left out.
    """
    instances: list[Instance] = []
    problems: list[Problem] = []
    registered: dict[InstanceKey, int] = {}
    for entry in _list(body, f"instances of {name}"):
        described = _map(_map(entry, "instance").get("Service"), "Service")
        if described.get("Service") != name:
            continue
        node = _map(entry.get("Node"), "Node")
        key = (str(node.get("Node", "")), str(described.get("ID", "")))
        registered[key] = _index(described.get("ModifyIndex"))
        try:
            instances.append(instance(entry))
        except (InstanceError, BadAnswer) as error:
            problems.append(Problem("instance", f"{name}/{key[1]}@{key[0]}", str(error)))
    instances.sort(key=lambda i: i.key)
    return DecodedService(Service(name, tuple(instances)), registered, tuple(problems))


def instance(entry: Json) -> Instance:
    """Decode one entry of `/v1/health/service/<name>`; raise `InstanceError` for one that cannot be used.

    A service may be registered without a port, which is 0 then: DNS answers for it, routing leaves it out.
    """
    node = _map(entry.get("Node"), "Node")
    described = _map(entry.get("Service"), "Service")
    service_address = _text(described.get("Address"), "Service.Address")
    node_address = _text(node.get("Address"), "Node.Address")
    address = service_address or node_address
    check_address(address)
    port = described.get("Port", 0)
    if type(port) is not int or not 0 <= port <= 65535:
        raise InstanceError(f"port {port!r} is not between 0 and 65535")
    weights = _map(described.get("Weights"), "Weights")
    return Instance(
        service=_name(described.get("Service"), "Service.Service"),
        id=_name(described.get("ID"), "Service.ID"),
        node=_name(node.get("Node"), "Node.Node"),
        address=address,
        port=port,
        health=health(entry.get("Checks")),
        service_address=service_address,
        node_address=node_address,
        datacenter=_text(node.get("Datacenter"), "Node.Datacenter"),
        tags=_tags(described.get("Tags")),
        meta=_strings(described.get("Meta"), "Meta"),
        node_meta=_strings(node.get("Meta"), "Node.Meta"),
        tagged_addresses=_tagged_addresses(described.get("TaggedAddresses")),
        weight=_weight(weights.get("Passing"), least=1),
        weight_warning=_weight(weights.get("Warning"), least=0),
        modify_index=_index(described.get("ModifyIndex")),
    )


def health(checks: Json) -> Health:
    """Return the worst status of a list of checks; no check at all is passing, an unknown status is critical."""
    worst = 0
    for check in _list(checks, "Checks"):
        worst = max(worst, _SEVERITY.get(str(_map(check, "check").get("Status")), 2))
    return _HEALTH[worst]


def check_address(address: str) -> None:
    """Raise `InstanceError` unless the address is an IP literal or a host name."""
    if not address:
        raise InstanceError("neither the service nor its node has an address")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        if not _HOST_NAME.match(address):
            raise InstanceError(f"address {address!r} is neither an IP address nor a host name") from None


def service_tags(body: Json) -> dict[str, frozenset[str]]:
    """Decode `/v1/catalog/services`: every name and the tags of all its instances together."""
    answer = _map(body, "services")
    return {str(name): frozenset(_tags(tags)) for name, tags in answer.items()}


def failing_checks(body: Json) -> dict[CheckKey, FailingCheck]:
    """Decode `/v1/health/state/any`, leaving out what passes (an agent may not know the filter)."""
    failing = {}
    for entry in _list(body, "checks"):
        check = _map(entry, "check")
        status = str(check.get("Status"))
        if status != "passing":
            key = (str(check.get("Node", "")), str(check.get("CheckID", "")))
            name = _text(check.get("ServiceName"), "ServiceName")
            failing[key] = FailingCheck(name, str(check.get("ServiceID", "")), status)
    return failing


def nodes(body: Json) -> dict[str, Node]:
    """Decode `/v1/catalog/nodes`, by name."""
    found = {}
    for entry in _list(body, "nodes"):
        described = _map(entry, "node")
        node = Node(
            name=_name(described.get("Node"), "Node"),
            address=_text(described.get("Address"), "Address"),
            id=_text(described.get("ID"), "ID"),
            datacenter=_text(described.get("Datacenter"), "Datacenter"),
            meta=_strings(described.get("Meta"), "Meta"),
            tagged_addresses=_strings(described.get("TaggedAddresses"), "TaggedAddresses"),
        )
        found[node.name] = node
    return found


def services_of_node(node: str, body: Json) -> dict[str, dict[InstanceKey, int]]:
    """Decode `/v1/catalog/node/<node>`: the ModifyIndex of each instance on it, by service name.

    Consul answers `null` for a node that is gone.
    """
    found: dict[str, dict[InstanceKey, int]] = {}
    for entry in _map(_map(body, "node").get("Services"), "Services").values():
        described = _map(entry, "service")
        name = _name(described.get("Service"), "Service")
        key = (node, str(described.get("ID", "")))
        found.setdefault(name, {})[key] = _index(described.get("ModifyIndex"))
    return found


def agent_identity(body: Json) -> tuple[str, str]:
    """Decode `/v1/agent/self`: the agent's datacenter and node name."""
    config = _map(_map(body, "agent").get("Config"), "Config")
    return _text(config.get("Datacenter"), "Datacenter"), _text(config.get("NodeName"), "NodeName")


def _list(value: Json, what: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadAnswer(f"{what}: a list was expected, not {type(value).__name__}")
    return value


def _map(value: Json, what: str) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadAnswer(f"{what}: a map was expected, not {type(value).__name__}")
    return value


def _text(value: Json, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadAnswer(f"{what}: text was expected, not {type(value).__name__}")
    return value


def _name(value: Json, what: str) -> str:
    name = _text(value, what)
    if not name:
        raise BadAnswer(f"{what} is empty")
    return name


def _tags(value: Json) -> tuple[str, ...]:
    return tuple(_text(tag, "a tag") for tag in _list(value, "Tags"))


def _strings(value: Json, what: str) -> Mapping[str, str]:
    texts = {key: _text(text, f"{what} {key!r}") for key, text in _map(value, what).items()}
    return MappingProxyType(texts)


def _tagged_addresses(value: Json) -> Mapping[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for tag, entry in _map(value, "TaggedAddresses").items():
        tagged = _map(entry, f"TaggedAddresses {tag!r}")
        port = tagged.get("Port")
        address = _text(tagged.get("Address"), f"TaggedAddresses {tag!r}")
        found[tag] = (address, port if type(port) is int else 0)
    return MappingProxyType(found)


def _weight(value: Json, *, least: int) -> int:
    if value is None:
        return 1
    if type(value) is not int:
        raise InstanceError(f"weight {value!r} is not a number")
    return min(max(value, least), _MAX_WEIGHT)


def _index(value: Json) -> int:
    return value if type(value) is int else 0
