"""What is wanted x what the agent has -> what is to be done.

Ours is every service of the agent that names an owner in its meta (`OWNER`), whoever that is and whatever its ID: there
is one registrator for an agent, and a host that was renamed has new IDs and a new owner. All others are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from lb.catalog.model import Problem
from registrator.model import OWNER, Registered, Registration


@dataclass(frozen=True, slots=True)
class Register:
    """Register a service, anew or in place of what has its ID."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class Deregister:
    """Remove a service."""

    service_id: str


Action = Register | Deregister


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order, and what cannot be.

    `accepted` are the registrations that hold once it is done, with those that the agent has already.
    """

    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]
    accepted: tuple[Registration, ...]


def plan(
    wanted: Iterable[Registration],
    registered: Iterable[Registered],
    *,
    kept: Collection[str] = (),
    cleanup: bool = True,
    adopt: bool = False,
) -> Plan:
    """Compare what containers are to be registered as with what the agent has.

    What the agent has already, word for word, is not written again. What is ours and not wanted is removed, except for
    the service IDs in `kept`, and if `cleanup` is off. A service of somebody else keeps its ID; with `adopt` it is
    taken over if its name is the wanted one, too. Of two registrations with one ID the one of the first container, by
    its ID, holds.

    What does not run goes first, so that it gets no more traffic. An ID that gives way to another one for the same
    address (a container or a host was renamed) goes last, so that the service is never without an instance.
    """
    had = {service.id: service for service in registered}
    problems: list[Problem] = []
    accepted = _accepted(wanted, had, adopt, problems)
    held = {_where(registration) for registration in accepted.values()}
    unwanted = [
        service
        for service_id, service in sorted(had.items())
        if cleanup and OWNER in service.meta and service_id not in accepted and service_id not in kept
    ]
    gone = [Deregister(service.id) for service in unwanted if _where(service) not in held]
    moved = [Deregister(service.id) for service in unwanted if _where(service) in held]
    changed = [
        Register(registration)
        for service_id, registration in accepted.items()
        if not is_unchanged(registration, had.get(service_id))
    ]
    return Plan((*gone, *changed, *moved), tuple(problems), tuple(accepted.values()))


def is_unchanged(wanted: Registration, had: Registered | None) -> bool:
    """Whether the agent shows a service just as it is wanted.

    Of the definition of its check the agent shows nothing: its digest is in the meta. The status of a check is not
    compared; what it is to be is told, not registered.
    """
    return (
        had is not None
        and (had.name, had.address, had.port) == (wanted.name, wanted.address, wanted.port)
        and had.tags == wanted.tags
        and had.meta == wanted.meta
        and (wanted.check is None or wanted.check_id in had.checks)
    )


def _accepted(
    wanted: Iterable[Registration], had: Mapping[str, Registered], adopt: bool, problems: list[Problem]
) -> dict[str, Registration]:
    """The registrations that can be, in the order of their IDs; of the others it is said why not."""
    first: dict[str, Registration] = {}
    for registration in sorted(wanted, key=lambda registration: (registration.id, registration.container)):
        holder = first.setdefault(registration.id, registration)
        if holder != registration:
            problems.append(_refusal(registration, f"container {holder.container[:12]} has the same service ID"))
    accepted = {}
    for service_id, registration in first.items():
        other = had.get(service_id)
        if other is None or OWNER in other.meta or (adopt and other.name == registration.name):
            accepted[service_id] = registration
        else:
            reason = f"somebody else has registered service {other.name} with this ID"
            problems.append(_refusal(registration, reason))
    return accepted


def _where(service: Registration | Registered) -> tuple[str, str, int]:
    return service.name, service.address, service.port


def _refusal(registration: Registration, reason: str) -> Problem:
    return Problem("registration", f"container {registration.container[:12]} {registration.id}", reason)
