"""Which containers run, and what each is to be registered as (pure).

What Docker tells comes in two ways that may cross: events, and inspections that were asked for before the latest
event. Each container therefore has a turn, which every word of an event raises: a word that was asked for in an earlier
turn is not taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from lb.catalog.model import Problem
from lb.settings import RegistratorSettings
from registrator.model import Container, Registration
from registrator.services import registrations, service_ids, stays

Found = Container | str | None
"""What an inspection brought: a container, what is wrong with the answer, or None where there is no container."""

MOST_TURNS = 10_000
"""Containers of which it is kept when something happened to them last; an inspection older than that is over."""


log = logging.getLogger(__name__)


class Roster:
    """The containers of one engine. `complete` once there was a full comparison with it.

    `node` is the name of the agent's node, which registrations carry; until it is known nothing is wanted.
    """

    def __init__(self, settings: RegistratorSettings) -> None:
        self._settings = settings
        self._containers: dict[str, Container] = {}
        self._failed: dict[str, Container] = {}  # ended, and registered on all the same
        self._unreadable: dict[str, str] = {}
        self._made: dict[str, tuple[list[Registration], list[Problem]]] = {}
        self._faulty: set[str] = set()  # it could not be found out what they are to be registered as
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._node = ""
        self.complete = False

    def __len__(self) -> int:
        return len(self._containers)

    def __contains__(self, container: str) -> bool:
        return container in self._containers

    @property
    def node(self) -> str:
        """The name of the agent's node."""
        return self._node

    @node.setter
    def node(self, name: str) -> None:
        if name != self._node:
            self._node = name
            self._made.clear()

    # What Docker tells

    def turn(self) -> int:
        """Return what an inspection that is begun now is to be told with."""
        return self._turn

    def touch(self, container: str) -> None:
        """Note that something has happened to a container: what was asked before tells nothing any more."""
        self._turn += 1
        self._turns.pop(container, None)
        self._turns[container] = self._turn
        if len(self._turns) > MOST_TURNS:
            del self._turns[next(iter(self._turns))]

    def end(self, container: str, exit_code: int) -> list[Registration]:
        """Take off a container that has ended; return what it was to be registered as and is no more."""
        self.touch(container)
        return self._end(container, exit_code)

    def forget(self, container: str) -> None:
        """Forget a container that was removed."""
        self.touch(container)
        self._end(container, 0)
        self._failed.pop(container, None)

    def tell(self, container: str, found: Found, turn: int) -> list[Registration]:
        """Take over what an inspection that was begun in `turn` brought; return what is registered no more.

        Of a container that cannot be read, what was known before stays.
        """
        if self._turns.get(container, 0) > turn:
            return []
        if isinstance(found, str):
            self._unreadable[container] = found
            return []
        self._unreadable.pop(container, None)
        if found is None or not found.running:
            return self._end(container, 0 if found is None else found.exit_code)
        self._failed.pop(container, None)
        if self._containers.get(container) != found:
            self._containers[container] = found
            self._made.pop(container, None)
        return []

    def compare(self, found: Mapping[str, Found], turn: int) -> list[Registration]:
        """Take over all inspections of a full comparison that was begun in `turn`: what is not in it has ended."""
        gone: list[Registration] = []
        for container in [*found, *(known for known in self._known() if known not in found)]:
            gone += self.tell(container, found.get(container), turn)
        self.complete = True
        return gone

    def _known(self) -> list[str]:
        return [*self._containers, *(one for one in self._unreadable if one not in self._containers)]

    def tell_failed(self, containers: Iterable[Container], turn: int) -> None:
        """Take over which of the containers that have ended stay registered."""
        for one in containers:
            if self._turns.get(one.id, 0) <= turn and not one.running and stays(one.exit_code, self._settings):
                self._failed[one.id] = one

    def _end(self, container: str, exit_code: int) -> list[Registration]:
        known = self._containers.pop(container, None)
        made, _ = self._made.pop(container, ([], []))
        self._faulty.discard(container)
        self._unreadable.pop(container, None)
        if known is not None and stays(exit_code, self._settings):
            self._failed[container] = known
            return []
        return made

    # What follows from it

    def wanted(self) -> list[Registration]:
        """What is to be registered, by container; nothing while no agent is known."""
        return [registration for made, _ in self._all() for registration in made]

    def kept(self) -> set[str]:
        """The service IDs that stay registered although nothing wants them.

        Their containers have ended, or run and it cannot be found out what they are to be registered as.
        """
        faulty = (self._containers[one] for one in self._faulty if one in self._containers)
        return {one for container in (*self._failed.values(), *faulty) for one in self._ids(container)}

    def _ids(self, container: Container) -> frozenset[str]:
        try:
            return service_ids(container, self._settings)
        except Exception:
            log.debug("a container's service IDs cannot be found out", exc_info=True)
            return frozenset()

    def problems(self) -> list[Problem]:
        """What of the containers cannot be used."""
        unreadable = [Problem("container", one[:12], reason) for one, reason in sorted(self._unreadable.items())]
        return unreadable + [problem for _, problems in self._all() for problem in problems]

    def _all(self) -> list[tuple[list[Registration], list[Problem]]]:
        if not self._node:
            return []
        for identifier, container in self._containers.items():
            if identifier not in self._made:
                self._made[identifier] = self._make(container)
        return [self._made[identifier] for identifier in sorted(self._containers)]

    def _make(self, container: Container) -> tuple[list[Registration], list[Problem]]:
        """Find out what a container is to be registered as; a fault of ours there is a problem of this one alone."""
        self._faulty.discard(container.id)
        try:
            return registrations(container, self._settings, self._node)
        except Exception as error:
            log.exception("container %s cannot be registered", container.id[:12])
            self._faulty.add(container.id)
            return [], [Problem("container", container.id[:12], f"a fault: {type(error).__name__}: {error}")]
