"""What the agent has as far as we know, and what is being written to it (pure).

Between two readings of the agent we know by what we wrote. A reading that was under way while something was written may
show that or not: for what was written meanwhile our own word counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import MappingProxyType

from lb.catalog.model import Problem
from registrator.model import OWNER, Registered, Registration, Status
from registrator.plan import Action, Deregister, Plan, Register, plan


class Book:
    """What one agent has. `known` once it has been read; false while what was read may hold no more."""

    def __init__(self) -> None:
        self._registered: dict[str, Registered] = {}
        self._busy: dict[str, Action] = {}
        self._written: set[str] = set()  # while a reading is under way, since it began
        self._reading = False
        self._failed: set[str] = set()  # nobody knows whether they are registered
        self._failed_before: set[str] = set()  # of these, those that the reading under way will show
        self._refused: dict[str, tuple[Action, str]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._over: set[str] = set()  # was wanted, and is to be removed even without `cleanup`
        self.known = False

    @property
    def busy(self) -> Collection[str]:
        """The service IDs that something is being written of."""
        return self._busy.keys()

    def is_busy(self, action: Action) -> bool:
        """Whether this very thing is being written."""
        return self._busy.get(_id(action)) is action

    def owned(self) -> list[str]:
        """The IDs of the services that are ours, in order."""
        return sorted(one for one, service in self._registered.items() if OWNER in service.meta)

    def get(self, service_id: str) -> Registered | None:
        """What the agent has under an ID."""
        return self._registered.get(service_id)

    # Readings

    def begin_reading(self) -> None:
        """Note that the agent is asked for all that it has."""
        self._written = set(self._busy)
        self._failed_before = set(self._failed)
        self._reading = True

    def take(self, services: Iterable[Registered]) -> None:
        """Take over what the agent has."""
        read = {service.id: service for service in services}
        for service_id in self._written:
            read.pop(service_id, None)
            if (ours := self._registered.get(service_id)) is not None:
                read[service_id] = ours
        self._registered = read
        self._written.clear()
        self._reading = False
        self._failed -= self._failed_before
        self._refused.clear()
        self.known = True

    def learn(self, services: Iterable[Registered]) -> None:
        """Take over some of what the agent has."""
        self._registered.update({service.id: service for service in services})

    # Writings

    def begin(self, action: Action) -> None:
        """Note that something is being written."""
        self._busy[_id(action)] = action
        if self._reading:
            self._written.add(_id(action))

    def end(self, action: Action, refusal: str = "") -> None:
        """Note that it was written, or was refused, for a reason."""
        service_id = _id(action)
        self._busy.pop(service_id, None)
        if refusal:
            self._refused[service_id] = (action, refusal)
        elif isinstance(action, Register):
            self._registered[service_id] = _as_registered(action.registration)
        else:
            self._registered.pop(service_id, None)
            self._over.discard(service_id)

    def put_off(self, action: Action) -> None:
        """Note that it was not written."""
        self._busy.pop(_id(action), None)

    def fail(self, action: Action) -> None:
        """Note that nobody knows whether it was written: what the agent has must be read."""
        self._busy.pop(_id(action), None)
        self._failed.add(_id(action))
        self._failed_before.discard(_id(action))
        self.known = False

    # What follows from it

    def plan(self, wanted: Collection[Registration], kept: Collection[str], *, cleanup: bool, adopt: bool) -> Plan:
        """Compare what is wanted with what the agent has; without `cleanup` only what was wanted before is removed."""
        ids = frozenset(registration.id for registration in wanted)
        there = {*self._registered, *self._busy, *self._failed}  # or may be
        self._over = ((self._over | (self._wanted - ids)) - ids) & there
        self._wanted = ids
        if not cleanup:
            kept = {*kept, *(one for one in self._registered if one not in self._over)}
        made = plan(wanted, self._registered.values(), kept=kept, adopt=adopt)
        to_do = {_id(action) for action in made.actions}
        self._refused = {one: refused for one, refused in self._refused.items() if one in to_do}
        return made

    def allows(self, action: Action) -> bool:
        """Whether something can be written now: nothing else of this ID is, and it was not refused already."""
        refused = self._refused.get(_id(action))
        return _id(action) not in self._busy and (refused is None or refused[0] != action)

    def problems(self) -> list[Problem]:
        """What the agent has refused."""
        return [
            Problem("registration", service_id, f"Consul refuses to {_verb(action)} it: {reason}")
            for service_id, (action, reason) in sorted(self._refused.items())
        ]


def _id(action: Action) -> str:
    return action.registration.id if isinstance(action, Register) else action.service_id


def _verb(action: Action) -> str:
    return "deregister" if isinstance(action, Deregister) else "register"


def _as_registered(registration: Registration) -> Registered:
    """Return what the agent shows of a registration."""
    checks: dict[str, Status] = {}
    if registration.check is not None:
        checks[registration.check_id] = registration.check.definition.get("Status", "critical")
    return Registered(
        registration.id,
        registration.name,
        registration.address,
        registration.port,
        registration.tags,
        registration.meta,
        MappingProxyType(checks),
    )
