"""The state of the embedded catalog: nodes, services, checks, and the indexes that queries wait for.

Every write takes the next index, as an entry of Consul's log does. An index of a table is that of the last
write that changed it; each service has one of its own, so that a watch on one service sleeps through the
changes of others. Which write raises which index follows Consul 1.8.7, and the contract suite holds both to
it. Names and IDs are compared without regard to case, and what is read comes in the order of nodes and IDs.

No I/O and no clock: whoever waits for a change subscribes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from lb.demo.records import ApiError, CheckRecord, NodeRecord, ServiceRecord

NODES, SERVICES, CHECKS = "nodes", "services", "checks"


@dataclass(frozen=True, slots=True)
class Instance:
    """A service instance with its node and the checks that count for it: the node's, then its own."""

    node: NodeRecord
    service: ServiceRecord
    checks: tuple[CheckRecord, ...]


class Catalog:
    """A catalog of one datacenter, changed by `register` and `deregister`."""

    def __init__(self, datacenter: str = "dc1") -> None:
        self.datacenter = datacenter
        self._nodes: dict[str, NodeRecord] = {}
        self._services: dict[str, dict[str, ServiceRecord]] = {}
        self._checks: dict[str, dict[str, CheckRecord]] = {}
        self._nodes_of: dict[str, set[str]] = {}
        """Service name to the nodes that have an instance of it."""
        self._index = 0
        self._tables = {NODES: 0, SERVICES: 0, CHECKS: 0}
        self._service_indexes: dict[str, int] = {}
        self._last_extinction = 0
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after each write; return the function that ends this."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def register(
        self,
        node: NodeRecord,
        service: ServiceRecord | None = None,
        checks: Collection[CheckRecord] = (),
        *,
        skip_node_update: bool = False,
    ) -> None:
        """Write a node and, on it, a service and checks, as one change; what is there already stays as it is.

        `skip_node_update` leaves a node that exists untouched. Raises `ApiError` for a check of a service
        that the node does not have; nothing is written then.
        """
        key = node.name.lower()
        known = set(self._services.get(key, ())) | ({service.id.lower()} if service else set())
        for check in checks:
            if check.service_id and check.service_id.lower() not in known:
                raise ApiError(500, f'failed inserting check: Missing service registration on node "{node.name}"')
        self._index += 1
        if not (skip_node_update and key in self._nodes):
            self._put_node(key, node)
        if service is not None:
            self._put_service(key, service)
        for check in checks:
            self._put_check(key, check)
        self._announce()

    def deregister(self, node: str, *, service_id: str = "", check_id: str = "") -> None:
        """Remove a service instance with its checks, or a check, or a node with everything on it.

        Neither a service nor a check named means the node. What is not there is no error.
        """
        key = node.lower()
        self._index += 1
        if service_id:
            self._drop_service(key, service_id.lower())
        elif check_id:
            self._drop_check(key, check_id)
        elif key in self._nodes:
            for service in list(self._services.get(key, ())):
                self._drop_service(key, service)
            for check in list(self._checks.get(key, ())):
                self._drop_check(key, check)
            del self._nodes[key]
            self._tables = dict.fromkeys(self._tables, self._index)
        self._announce()

    def _announce(self) -> None:
        for callback in tuple(self._subscribers):
            callback()

    def _put_node(self, key: str, node: NodeRecord) -> None:
        old = self._nodes.get(key)
        if old == node:
            return
        created = old.create_index if old else self._index
        self._nodes[key] = replace(node, create_index=created, modify_index=self._index)
        self._tables[NODES] = self._index
        self._touch_services_of(key)

    def _put_service(self, key: str, service: ServiceRecord) -> None:
        services = self._services.setdefault(key, {})
        old = services.get(service.id.lower())
        if old == service:
            return
        created = old.create_index if old else self._index
        services[service.id.lower()] = replace(service, create_index=created, modify_index=self._index)
        self._tables[SERVICES] = self._index
        self._nodes_of.setdefault(service.name.lower(), set()).add(key)
        self._service_indexes[service.name.lower()] = self._index
        if old is not None and old.name.lower() != service.name.lower():
            self._left(key, old.name.lower())

    def _put_check(self, key: str, check: CheckRecord) -> None:
        if check.service_id:
            service = self._services[key][check.service_id.lower()]
            check = replace(check, service_name=service.name, service_tags=service.tags)
        checks = self._checks.setdefault(key, {})
        old = checks.get(check.id)
        if old == check:
            return
        created = old.create_index if old else self._index
        checks[check.id] = replace(check, create_index=created, modify_index=self._index)
        self._check_changed(key, check)

    def _drop_service(self, key: str, service_id: str) -> None:
        service = self._services.get(key, {}).pop(service_id, None)
        if service is None:
            return
        for check in list(self._checks.get(key, {}).values()):
            if check.service_id.lower() == service_id:
                self._drop_check(key, check.id)
        # The table of checks counts as changed too, even when the service had none: so Consul does it.
        self._tables[SERVICES] = self._tables[CHECKS] = self._index
        self._left(key, service.name.lower())

    def _drop_check(self, key: str, check_id: str) -> None:
        check = self._checks.get(key, {}).pop(check_id, None)
        if check is not None:
            self._check_changed(key, check)

    def _check_changed(self, key: str, check: CheckRecord) -> None:
        self._tables[CHECKS] = self._index
        name = check.service_name.lower()
        if not check.service_id:
            self._touch_services_of(key)
        elif name in self._service_indexes:
            self._service_indexes[name] = self._index

    def _touch_services_of(self, key: str) -> None:
        """Raise the index of every service with an instance on the node: its instances look different now."""
        for service in self._services.get(key, {}).values():
            self._service_indexes[service.name.lower()] = self._index

    def _left(self, key: str, name: str) -> None:
        """Note that an instance of service `name` left the node; perhaps it was the last one of all."""
        if not any(service.name.lower() == name for service in self._services[key].values()):
            self._nodes_of[name].discard(key)
        if self._nodes_of[name]:
            self._service_indexes[name] = self._index
        else:
            del self._nodes_of[name]
            self._service_indexes.pop(name, None)
            self._last_extinction = self._index

    def table_index(self, *tables: str) -> int:
        """Return the index of the last write that changed any of the tables."""
        return max(self._tables[table] for table in tables)

    def service_index(self, name: str, *tables: str) -> int:
        """Return the index of the last write that changed what is said of one service.

        A service that does not exist has the index of the last time that any service ceased to exist; before
        that ever happened it has the index of `tables`.
        """
        index = self._service_indexes.get(name.lower())
        return index or self._last_extinction or self.table_index(*tables)

    def node(self, name: str) -> NodeRecord | None:
        """Return a node by name."""
        return self._nodes.get(name.lower())

    def nodes(self) -> list[NodeRecord]:
        """Return all nodes."""
        return [self._nodes[key] for key in sorted(self._nodes)]

    def service_tags(self) -> dict[str, set[str]]:
        """Return every service's name with the tags of all its instances."""
        tags: dict[str, set[str]] = {}
        for services in self._services.values():
            for service in services.values():
                tags.setdefault(service.name, set()).update(service.tags)
        return tags

    def services_on(self, node: str) -> list[ServiceRecord]:
        """Return the service instances on a node."""
        services = self._services.get(node.lower(), {})
        return [services[key] for key in sorted(services)]

    def instances(self, name: str) -> Iterator[Instance]:
        """Yield the instances of a service."""
        for key in sorted(self._nodes_of.get(name.lower(), ())):
            checks = self.checks_on(key)
            for service in self.services_on(key):
                if service.name.lower() == name.lower():
                    own = [check for check in checks if check.service_id == service.id]
                    whole_node = [check for check in checks if not check.service_id]
                    yield Instance(self._nodes[key], service, (*whole_node, *own))

    def checks(self) -> Iterator[CheckRecord]:
        """Yield every check."""
        for key in sorted(self._checks):
            yield from self.checks_on(key)

    def checks_on(self, node: str) -> list[CheckRecord]:
        """Return the checks of a node and of the services on it."""
        checks = self._checks.get(node.lower(), {})
        return [checks[check_id] for check_id in sorted(checks)]
