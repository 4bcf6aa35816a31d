"""What is to be read again, from two successive answers: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from lb.catalog.decode import CheckKey, FailingCheck, InstanceKey
from lb.catalog.model import Service

K = TypeVar("K")
V = TypeVar("V")


def differing(old: Mapping[K, V], new: Mapping[K, V]) -> set[K]:
    """Return the keys that came, went or have another value."""
    gone = old.keys() - new.keys()
    return gone | {key for key, value in new.items() if old.get(key) != value}


def services_by_checks(
    old: Mapping[CheckKey, FailingCheck], new: Mapping[CheckKey, FailingCheck]
) -> tuple[set[str], set[str]]:
    """Return the services whose own checks changed, and the nodes of which a check of the whole node changed."""
    services: set[str] = set()
    nodes: set[str] = set()
    for key in differing(old, new):
        for check in (old.get(key), new.get(key)):
            if check is not None and check.service:
                services.add(check.service)
            elif check is not None:
                nodes.add(key[0])
    return services, nodes


def services_on(nodes: Iterable[str], services: Mapping[str, Service]) -> set[str]:
    """Return the services that have an instance on one of the nodes."""
    wanted = frozenset(nodes)
    if not wanted:
        return set()
    return {name for name, service in services.items() if any(i.node in wanted for i in service.instances)}


def failing_keys(failing: Mapping[CheckKey, FailingCheck]) -> frozenset[InstanceKey]:
    """Return the instances, by node and ID, that have a failing check; an empty ID stands for the whole node."""
    return frozenset((node, check.instance) for (node, _), check in failing.items())


def disagreeing(services: Iterable[Service], failing: frozenset[InstanceKey]) -> set[str]:
    """Return the services that pass where their checks do not, or the other way round: one answer is older."""
    return {
        service.name
        for service in services
        if any(
            (instance.health == "passing") == (instance.key in failing or (instance.node, "") in failing)
            for instance in service.instances
        )
    }
