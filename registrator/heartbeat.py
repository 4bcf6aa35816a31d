"""When the agent is told of TTL checks: a pure rule, to which the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registrator.model import Registration, Status, Word

_NOTHING: Mapping[str, Status] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Told:
    """What the agent was told last of a check, and when (seconds, of any clock that never goes back)."""

    word: Word
    at: float


def due(
    registrations: Iterable[Registration],
    told: Mapping[str, Told],
    now: float,
    shown: Mapping[str, Status] = _NOTHING,
) -> list[Registration]:
    """Return those whose check (`check_id`, `check.word`) the agent must be told of now, in their order.

    `told` is by check ID. A word that is new is due at once, one that was told again after its `every`. A service that
    was registered again is to be dropped from `told`, since Consul keeps the status that its check had before. `shown`
    is what the agent shows of checks, where that was just read: what does not match the word is due.
    """
    return [
        registration
        for registration in registrations
        if (word := _word(registration)) is not None
        and (_next(registration, word, told) <= now or shown.get(registration.check_id, word.status) != word.status)
    ]


def next_due(registrations: Iterable[Registration], told: Mapping[str, Told]) -> float | None:
    """Return when something is due next, in the past if it is late; None if nothing ever is."""
    times = [
        _next(registration, word, told) for registration in registrations if (word := _word(registration)) is not None
    ]
    return min(times, default=None)


def _word(registration: Registration) -> Word | None:
    return registration.check.word if registration.check is not None else None


def _next(registration: Registration, word: Word, told: Mapping[str, Told]) -> float:
    last = told.get(registration.check_id)
    if last is None or (last.word.status, last.word.output) != (word.status, word.output):
        return float("-inf")
    return last.at + word.every
