"""What is known of every service: the answers so far, from which snapshots are made (pure).

It outlives the agent in use: another agent's answers are compared with it, so that only true changes are
published.
"""

from __future__ import annotations

from collections.abc import Mapping

from lb.catalog.decode import DecodedService, InstanceKey
from lb.catalog.model import Instance, Node, Problem, Service, Snapshot


class Ledger:
    """The last good services and nodes; unchanged `Service` and `Instance` objects are kept as they are.

    It starts from a snapshot (the one kept on disk, or an empty one) and is `complete` once every service
    has been read in this process: before that nothing is to be published.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.services: dict[str, Service] = dict(snapshot.services)
        self.nodes: Mapping[str, Node] = snapshot.nodes
        self.datacenter = snapshot.datacenter
        self.complete = False
        self._registered: dict[str, Mapping[InstanceKey, int]] = {}
        self._indexes: dict[str, int] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What cannot be used, of all services."""
        return tuple(problem for problems in self._problems.values() for problem in problems)

    def index(self, name: str) -> int:
        """Return the index of the last answer about a service, 0 if there was none from the agent in use."""
        return self._indexes.get(name, 0)

    def registered(self, *, apart_from: frozenset[str]) -> dict[str, Mapping[InstanceKey, int]]:
        """Return the ModifyIndex of all instances by service, without some services."""
        return {name: keys for name, keys in self._registered.items() if name not in apart_from}

    def forget_indexes(self) -> None:
        """Another agent is asked from now on: its indexes need not agree with those seen."""
        self._indexes.clear()

    def note_index(self, name: str, index: int) -> None:
        """Keep the index of an answer."""
        self._indexes[name] = index

    def record(self, decoded: DecodedService) -> tuple[bool, tuple[Problem, ...]]:
        """Take over an answer; return whether anything changed, and the problems that were not known before."""
        name = decoded.service.name
        old_problems = self._problems.pop(name, ())
        if decoded.problems:
            self._problems[name] = decoded.problems
        self._registered[name] = decoded.registered
        old = self.services.get(name)
        new = _sharing(old, decoded.service)
        self.services[name] = new
        fresh = tuple(problem for problem in decoded.problems if problem not in old_problems)
        return new is not old or old_problems != decoded.problems, fresh

    def refuse(self, problem: Problem, name: str) -> bool:
        """Note that a service cannot be read at all, keep what it had; return whether that is news."""
        news = self._problems.get(name) != (problem,)
        self._problems[name] = (problem,)
        return news

    def remove(self, name: str) -> None:
        """Take a service off."""
        for kept in (self.services, self._registered, self._indexes, self._problems):
            kept.pop(name, None)


def _sharing(old: Service | None, new: Service) -> Service:
    """Return `new` made of the old objects wherever they are equal."""
    if old is None:
        return new
    if old == new:
        return old
    known: dict[InstanceKey, Instance] = {instance.key: instance for instance in old.instances}
    instances = (known[i.key] if known.get(i.key) == i else i for i in new.instances)
    return Service(new.name, tuple(instances))
