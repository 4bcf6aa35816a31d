"""Bodies of API calls, from JSON to records.

What is refused, and with which status, follows Consul 1.8.7: the agent checks more than the catalog does, and
answers 400 where the catalog answers 500.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lb.demo.fields import Fields
from lb.demo.records import CRITICAL, PASSING, WARNING, ApiError, CheckRecord, NodeRecord, ServiceRecord

_INSTANCE_KEYS = ["ID", "Address", "Port", "Tags", "Meta", "Weights", "TaggedAddresses", "EnableTagOverride"]
_AGENT_SERVICE_KEYS = [*_INSTANCE_KEYS, "Name", "tagged_addresses", "enable_tag_override", "Check", "Checks"]
_CATALOG_SERVICE_KEYS = [*_INSTANCE_KEYS, "Service"]
_NODE_KEYS = ["ID", "Node", "Address", "Datacenter", "TaggedAddresses", "NodeMeta", "SkipNodeUpdate"]
_REGISTRATION_KEYS = [*_NODE_KEYS, "Service", "Check", "Checks"]
_DEREGISTRATION_KEYS = ["Datacenter", "Node", "Address", "ServiceID", "CheckID"]
_RUN_KEYS = ["TTL", "HTTP", "Method", "Header", "Body", "TLSSkipVerify", "TCP", "GRPC", "GRPCUseTLS"]
_PACE_KEYS = ["Interval", "Timeout", "DeregisterCriticalServiceAfter", "AliasNode", "AliasService"]
_AGENT_CHECK_KEYS = ["ID", "Name", "Notes", "Status", "ServiceID", *_RUN_KEYS, *_PACE_KEYS]
_SERVICE_CHECK_KEYS = [*_AGENT_CHECK_KEYS, "CheckID"]
_CATALOG_CHECK_KEYS = ["Node", "CheckID", "Name", "Notes", "Status", "Output", "ServiceID", "ServiceName", "Type"]

_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_META_VALUE_LIMIT = 512
_META_PAIRS_LIMIT = 64


@dataclass(frozen=True, slots=True)
class ServiceRegistration:
    """What `/v1/agent/service/register` is asked: an instance and its checks."""

    service: ServiceRecord
    checks: tuple[CheckRecord, ...]


@dataclass(frozen=True, slots=True)
class CatalogRegistration:
    """What `/v1/catalog/register` is asked: a node, and on it a service and checks."""

    datacenter: str
    node: NodeRecord
    service: ServiceRecord | None
    checks: tuple[CheckRecord, ...]
    skip_node_update: bool


@dataclass(frozen=True, slots=True)
class CatalogDeregistration:
    """What `/v1/catalog/deregister` is asked."""

    datacenter: str
    node: str
    service_id: str
    check_id: str


def agent_service(body: bytes, node: str) -> ServiceRegistration:
    """Decode a registration with the agent of `node`."""
    fields = Fields.parse(body, "the service", _AGENT_SERVICE_KEYS)
    name = fields.text("Name")
    if not name:
        raise ApiError(400, "Missing service name")
    service = _service(fields, fields.text("ID") or name, name, status=400)
    if fields.mapping("Weights") and service.weight < 1:
        raise ApiError(400, "Invalid Weights: Passing must be greater than 0")
    checks = [Fields(item, "the check", _SERVICE_CHECK_KEYS) for item in fields.items("Checks")]
    if fields.mapping("Check"):
        checks.insert(0, Fields(fields.mapping("Check"), "the check", _SERVICE_CHECK_KEYS))
    records = tuple(_service_check(check, i, len(checks), service, node) for i, check in enumerate(checks, 1))
    return ServiceRegistration(_with_address_tags(service), records)


def agent_check(body: bytes, node: str) -> CheckRecord:
    """Decode a check for the agent of `node`."""
    fields = Fields.parse(body, "the check", _AGENT_CHECK_KEYS)
    name = fields.text("Name")
    if not name:
        raise ApiError(400, "Missing check name")
    return CheckRecord(
        node=node,
        id=fields.text("ID") or name,
        name=name,
        status=_status(fields),
        notes=fields.text("Notes"),
        service_id=fields.text("ServiceID"),
        kind=_check_kind(fields),
    )


def check_update(body: bytes) -> tuple[str, str]:
    """Decode the state of a TTL check: its status and output."""
    fields = Fields.parse(body, "the update", ["Status", "Output"])
    status = fields.text("Status")
    if status not in (PASSING, WARNING, CRITICAL):
        raise ApiError(400, f"Invalid check status: '{status}'")
    return status, fields.text("Output")


def catalog_registration(body: bytes) -> CatalogRegistration:
    """Decode a registration straight into the catalog."""
    fields = Fields.parse(body, "the registration", _REGISTRATION_KEYS)
    node = NodeRecord(
        name=fields.text("Node"),
        address=fields.text("Address"),
        id=fields.text("ID"),
        tagged_addresses=fields.text_mapping("TaggedAddresses"),
        meta=fields.text_mapping("NodeMeta"),
    )
    skip = fields.flag("SkipNodeUpdate")
    if not node.name:
        raise ApiError(500, "Must provide node")
    if not node.address and not skip:
        raise ApiError(500, "Must provide address if SkipNodeUpdate is not set")
    service = None
    if "Service" in fields:
        service = _catalog_service(Fields(fields.mapping("Service"), "the service", _CATALOG_SERVICE_KEYS))
    checks = [Fields(item, "the check", _CATALOG_CHECK_KEYS) for item in fields.items("Checks")]
    if fields.mapping("Check"):
        checks.append(Fields(fields.mapping("Check"), "the check", _CATALOG_CHECK_KEYS))
    return CatalogRegistration(
        fields.text("Datacenter"), node, service, tuple(_catalog_check(c, node.name) for c in checks), skip
    )


def catalog_deregistration(body: bytes) -> CatalogDeregistration:
    """Decode a removal straight from the catalog."""
    fields = Fields.parse(body, "the deregistration", _DEREGISTRATION_KEYS)
    if not fields.text("Node"):
        raise ApiError(500, "Must provide node")
    return CatalogDeregistration(
        fields.text("Datacenter"), fields.text("Node"), fields.text("ServiceID"), fields.text("CheckID")
    )


def _catalog_service(fields: Fields) -> ServiceRecord:
    name = fields.text("Service")
    if not name:
        raise ApiError(500, "Must provide service name with ID")
    service = _service(fields, fields.text("ID") or name, name, status=500)
    if service.weight == service.weight_warning == 0:
        return replace(service, weight=1, weight_warning=1)
    return service


def _service(fields: Fields, service_id: str, name: str, *, status: int) -> ServiceRecord:
    """Return the part of a service that agent and catalog share; `status` is that of a refusal."""
    address = fields.text("Address")
    if address in ("0.0.0.0", "::", "[::]"):
        raise ApiError(status, "Invalid service address")
    _check_meta(fields.text_mapping("Meta"), status)
    weight, weight_warning = _weights(fields, status)
    return ServiceRecord(
        id=service_id,
        name=name,
        address=address,
        port=fields.integer("Port"),
        tags=fields.texts("Tags"),
        meta=fields.text_mapping("Meta"),
        tagged_addresses=_tagged_addresses(fields),
        weight=weight,
        weight_warning=weight_warning,
        enable_tag_override=fields.flag("EnableTagOverride") or fields.flag("enable_tag_override"),
    )


def _weights(fields: Fields, status: int) -> tuple[int, int]:
    if not fields.mapping("Weights"):
        return 1, 1
    weights = Fields(fields.mapping("Weights"), "Weights", ["Passing", "Warning"])
    passing, warning = weights.integer("Passing"), weights.integer("Warning")
    if passing < 0:
        raise ApiError(status, "Invalid Weights: Passing must be greater than 0")
    if warning < 0:
        raise ApiError(status, "Invalid Weights: Warning must be greater or equal than 0")
    if passing > 65535 or warning > 65535:
        raise ApiError(status, "Invalid Weights: DNS Weight must be between 0 and 65535")
    return passing, warning


def _tagged_addresses(fields: Fields) -> dict[str, tuple[str, int]]:
    key = "TaggedAddresses" if "TaggedAddresses" in fields else "tagged_addresses"
    tagged = {}
    for tag, value in fields.mapping(key).items():
        item = Fields(value, f"{key}.{tag}", ["Address", "Port"])
        tagged[tag] = (item.text("Address"), item.integer("Port"))
    return tagged


def _with_address_tags(service: ServiceRecord) -> ServiceRecord:
    """Add the tagged addresses that an agent derives from an IP address."""
    try:
        version = ipaddress.ip_address(service.address).version
    except ValueError:
        return service
    derived = {f"{scope}_ipv{version}": (service.address, service.port) for scope in ("lan", "wan")}
    return replace(service, tagged_addresses=derived | dict(service.tagged_addresses))


def _check_meta(meta: Mapping[str, str], status: int) -> None:
    if len(meta) > _META_PAIRS_LIMIT:
        raise ApiError(status, f"Invalid Service Meta: more than {_META_PAIRS_LIMIT} pairs")
    for key, value in meta.items():
        if not _META_KEY.fullmatch(key):
            reason = "Key contains invalid characters, is blank or longer than 128"
        elif len(value) > _META_VALUE_LIMIT:
            reason = f"Value is longer than {_META_VALUE_LIMIT}"
        else:
            continue
        raise ApiError(status, f"Invalid Service Meta: Couldn't load metadata pair ('{key}', '{value}'): {reason}")


def _service_check(fields: Fields, number: int, count: int, service: ServiceRecord, node: str) -> CheckRecord:
    default_id = f"service:{service.id}" + (f":{number}" if count > 1 else "")
    return CheckRecord(
        node=node,
        id=fields.text("CheckID") or default_id,
        name=fields.text("Name") or f"Service '{service.name}' check",
        status=_status(fields),
        notes=fields.text("Notes"),
        service_id=service.id,
        kind=_check_kind(fields),
    )


def _catalog_check(fields: Fields, node: str) -> CheckRecord:
    """Decode a check that the catalog is told of: any status is taken, as Consul takes it."""
    if fields.text("Node") not in ("", node):
        raise ApiError(500, f'check node "{fields.text("Node")}" does not match node "{node}"')
    check_id = fields.text("CheckID") or fields.text("Name")
    if not check_id:
        raise ApiError(500, "failed inserting check: it has neither CheckID nor Name")
    return CheckRecord(
        node=node,
        id=check_id,
        name=fields.text("Name"),
        status=fields.text("Status") or CRITICAL,
        notes=fields.text("Notes"),
        output=fields.text("Output"),
        service_id=fields.text("ServiceID"),
        kind=fields.text("Type"),
    )


def _status(fields: Fields) -> str:
    status = fields.text("Status") or CRITICAL
    if status not in (PASSING, WARNING, CRITICAL):
        raise ApiError(400, "Status for checks must 'passing', 'warning', 'critical'")
    return status


def _check_kind(fields: Fields) -> str:
    """Return how a check is run, from the keys that it has."""
    if fields.duration("TTL") > 0:
        if fields.duration("Interval") > 0:
            raise ApiError(400, "Invalid check: Interval and TTL cannot both be specified")
        return "ttl"
    if "AliasService" in fields or "AliasNode" in fields:
        return "alias"
    kind = next((key.lower() for key in ("HTTP", "TCP", "GRPC") if key in fields), "")
    if not kind:
        raise ApiError(400, "Invalid check: TTL must be > 0 for TTL checks")
    if fields.duration("Interval") <= 0:
        raise ApiError(400, "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks")
    return kind
