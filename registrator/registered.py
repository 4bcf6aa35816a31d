"""What the agent has, from the answers of its API: /v1/agent/services and /v1/agent/checks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lb.errors import BadAnswer
from registrator.model import Registered, Status


def registered(services: Mapping[str, Any], checks: Mapping[str, Any]) -> list[Registered]:
    """Return the agent's services with their checks, ordered by ID. Raises `BadAnswer`, naming the entry."""
    found: dict[str, dict[str, Status]] = {service_id: {} for service_id in services}
    for check_id, check in checks.items():
        _read_check(check_id, check, found)
    return [_service(service_id, services[service_id], found[service_id]) for service_id in sorted(services)]


def _read_check(check_id: str, check: Any, found: Mapping[str, dict[str, Status]]) -> None:
    if not isinstance(check, Mapping):
        raise BadAnswer(f"/v1/agent/checks: {check_id} is no object")
    service_id, status = check.get("ServiceID"), check.get("Status")
    if not isinstance(service_id, str) or service_id not in found:
        return  # the node's own, or one of a service that came after the services were read
    if status not in ("passing", "warning", "critical"):
        raise BadAnswer(f"/v1/agent/checks: {check_id} has no status")
    found[service_id][check_id] = status


def _service(service_id: str, service: Any, checks: dict[str, Status]) -> Registered:
    if not isinstance(service, Mapping):
        raise BadAnswer(f"/v1/agent/services: {service_id} is no object")
    name, address, port = service.get("Service"), service.get("Address") or "", service.get("Port") or 0
    tags, meta = service.get("Tags") or [], service.get("Meta") or {}
    if not (isinstance(name, str) and isinstance(address, str) and isinstance(port, int)):
        raise BadAnswer(f"/v1/agent/services: {service_id} has no name, address or port")
    if not (isinstance(tags, list) and isinstance(meta, Mapping)):
        raise BadAnswer(f"/v1/agent/services: {service_id} has no tags or no meta")
    return Registered(service_id, name, address, port, tuple(tags), MappingProxyType(dict(meta)), checks)
