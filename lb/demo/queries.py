"""What the embedded catalog can be asked: for each question its index and its answer.

The index is cheap and is asked at each change; the answer is made once, when it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lb.demo.records import PASSING, ApiError, Json
from lb.demo.state import CHECKS, NODES, SERVICES, Catalog, Instance

_NOT_PASSING = re.compile(r'\s*Status\s*!=\s*"?passing"?\s*')


@dataclass(frozen=True, slots=True)
class Query:
    """A question to the catalog that can be asked again and again."""

    index: Callable[[], int]
    answer: Callable[[], Json]


def services(catalog: Catalog) -> Query:
    """All service names, each with the tags of all its instances."""

    def answer() -> Json:
        return {name: [*sorted(tags)] for name, tags in sorted(catalog.service_tags().items())}

    return Query(lambda: catalog.table_index(SERVICES), answer)


def nodes(catalog: Catalog) -> Query:
    """All nodes."""
    return Query(
        lambda: catalog.table_index(NODES),
        lambda: [node.json(catalog.datacenter) for node in catalog.nodes()],
    )


def node(catalog: Catalog, name: str) -> Query:
    """One node with the services on it; null when there is no such node."""

    def index() -> int:
        return catalog.table_index(NODES, SERVICES) if catalog.node(name) else 0

    def answer() -> Json:
        found = catalog.node(name)
        if found is None:
            return None
        on_it = {service.id: service.json() for service in catalog.services_on(name)}
        return {"Node": found.json(catalog.datacenter), "Services": dict(on_it)}

    return Query(index, answer)


def service(catalog: Catalog, name: str, tags: Collection[str]) -> Query:
    """The instances of a service that have all of `tags`, of any health."""
    return Query(
        lambda: catalog.service_index(name, NODES, SERVICES),
        lambda: [
            instance.service.flat_json(instance.node, catalog.datacenter)
            for instance in catalog.instances(name)
            if _has_tags(instance, tags)
        ],
    )


def service_health(catalog: Catalog, name: str, tags: Collection[str], only_passing: bool) -> Query:
    """The instances of a service that have all of `tags`, with their checks."""

    def answer() -> Json:
        return [
            {
                "Node": instance.node.json(catalog.datacenter),
                "Service": instance.service.json(),
                "Checks": [check.json() for check in instance.checks],
            }
            for instance in catalog.instances(name)
            if _has_tags(instance, tags) and not (only_passing and not _passes(instance))
        ]

    return Query(lambda: catalog.service_index(name, NODES, SERVICES, CHECKS), answer)


def checks_in_state(catalog: Catalog, state: str, expression: str) -> Query:
    """All checks in a state (`any` is every state).

    The one filter expression that is understood is `Status != "passing"`; raises `ApiError` for others.
    """
    if expression and not _NOT_PASSING.fullmatch(expression):
        raise ApiError(400, f'filter: only Status != "passing" is understood here, not {expression}')

    def answer() -> Json:
        return [
            check.json()
            for check in catalog.checks()
            if state in ("any", check.status) and not (expression and check.status == PASSING)
        ]

    return Query(lambda: catalog.table_index(CHECKS), answer)


def node_checks(catalog: Catalog, name: str) -> Query:
    """The checks of a node and of the services on it."""
    return Query(
        lambda: catalog.table_index(CHECKS),
        lambda: [check.json() for check in catalog.checks_on(name)],
    )


def service_checks(catalog: Catalog, name: str) -> Query:
    """The checks of a service's instances, without those of their nodes."""
    return Query(
        lambda: catalog.table_index(CHECKS),
        lambda: [check.json() for instance in catalog.instances(name) for check in instance.checks if check.service_id],
    )


def _has_tags(instance: Instance, tags: Collection[str]) -> bool:
    return {tag.lower() for tag in tags} <= {tag.lower() for tag in instance.service.tags}


def _passes(instance: Instance) -> bool:
    return all(check.status == PASSING for check in instance.checks)
