"""The agent of the embedded catalog's own node: services and checks that are registered with it.

An agent knows its services and checks by itself and writes what changes into the catalog, at once and only then:
what is removed from the catalog behind its back stays removed. Checks are driven by calls alone: a TTL check does
not expire, and a check of another kind stays in the status it was registered with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lb.demo.records import CRITICAL, PASSING, ApiError, CheckRecord, NodeRecord, ServiceRecord
from lb.demo.state import Catalog

SERF_HEALTH = "serfHealth"
"""The check by which Consul says that a node is alive."""

_NO_REASON = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."


def alive(node: str) -> CheckRecord:
    """Return the check that the cluster keeps for a live node."""
    return CheckRecord(node, SERF_HEALTH, "Serf Health Status", PASSING, output="Agent alive and reachable")


class Agent:
    """The agent of one node of the catalog; creating it joins the node."""

    def __init__(self, catalog: Catalog, node: NodeRecord) -> None:
        self.catalog = catalog
        self.node = node
        self._services: dict[str, ServiceRecord] = {}
        self._checks: dict[str, CheckRecord] = {}
        catalog.register(node, checks=[alive(node.name)])

    @property
    def services(self) -> dict[str, ServiceRecord]:
        """The services registered with this agent, by ID."""
        return dict(self._services)

    def register_service(
        self,
        service: ServiceRecord,
        checks: Iterable[CheckRecord] = (),
        *,
        replace_existing_checks: bool = False,
    ) -> None:
        """Register a service, or update it; a check that exists already keeps its status and output.

        Checks that are not named again stay, unless `replace_existing_checks`.
        """
        new = [self._with_known_state(check) for check in checks]
        if replace_existing_checks:
            keep = {check.id for check in new}
            for check in self._checks_of(service.id):
                if check.id not in keep:
                    self.deregister_check(check.id)
        changed = any(self._checks.get(check.id) != check for check in new)
        if changed or self._services.get(service.id) != service:
            self._services[service.id] = service
            self._checks.update({check.id: check for check in new})
            self._write(service, new)

    def deregister_service(self, service_id: str) -> None:
        """Remove a service and its checks; an unknown ID is no error."""
        if self._services.pop(service_id, None) is None:
            return
        for check in self._checks_of(service_id):
            del self._checks[check.id]
        self.catalog.deregister(self.node.name, service_id=service_id)

    def set_maintenance(self, service_id: str, enable: bool, reason: str = "") -> None:
        """Put a service in maintenance mode, which is a critical check, or take it out; raises `ApiError`."""
        service = self._services.get(service_id)
        if service is None:
            raise ApiError(404, f'No service registered with ID "{service_id}"')
        check_id = f"_service_maintenance:{service_id}"
        if not enable:
            self.deregister_check(check_id)
        elif check_id not in self._checks:
            check = CheckRecord(
                node=self.node.name,
                id=check_id,
                name="Service Maintenance Mode",
                status=CRITICAL,
                notes=reason or _NO_REASON,
                service_id=service_id,
                kind="maintenance",
            )
            self._put_check(check)

    def register_check(self, check: CheckRecord) -> None:
        """Register a check of the node, or of a service of this agent; one that exists keeps its status.

        Raises `ApiError` for a check of an unknown service.
        """
        if check.service_id and check.service_id not in self._services:
            raise ApiError(500, f'ServiceID "{check.service_id}" does not exist')
        check = self._with_known_state(check)
        if self._checks.get(check.id) != check:
            self._put_check(check)

    def deregister_check(self, check_id: str) -> None:
        """Remove a check; an unknown ID is no error."""
        if self._checks.pop(check_id, None) is not None:
            self.catalog.deregister(self.node.name, check_id=check_id)

    def update_check(self, check_id: str, status: str, output: str = "") -> None:
        """Set the state of a TTL check; raises `ApiError` for any other.

        New output alone is not written to the catalog: Consul puts it off for minutes.
        """
        check = self._checks.get(check_id)
        if check is None or check.kind != "ttl":
            raise ApiError(500, f'CheckID "{check_id}" does not have associated TTL')
        if check.status != status:
            self._put_check(replace(check, status=status, output=output))

    def _with_known_state(self, check: CheckRecord) -> CheckRecord:
        """Return the check with the status and output that it has already, if it is known."""
        known = self._checks.get(check.id)
        return replace(check, status=known.status, output=known.output) if known else check

    def _checks_of(self, service_id: str) -> list[CheckRecord]:
        return [check for check in self._checks.values() if check.service_id == service_id]

    def _put_check(self, check: CheckRecord) -> None:
        self._checks[check.id] = check
        self._write(self._services.get(check.service_id), [check])

    def _write(self, service: ServiceRecord | None, checks: Iterable[CheckRecord]) -> None:
        self.catalog.register(self.node, service, list(checks))
