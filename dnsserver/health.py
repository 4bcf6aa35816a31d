"""Which recursors are worth asking first: those that did not fail lately. No I/O; the clock is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lb.settings import Address

FIRST_PAUSE = 1.0
"""Seconds until a recursor that failed is tried for the first time."""

LONGEST_PAUSE = 8.0
"""Seconds between two trials at most; the pause doubles with each that fails."""


@dataclass(slots=True)
class _Trial:
    at: float
    pause: float
    lost: bool = False


class RecursorHealth:
    """Remembers who failed: no reply in time, or none that could be read. Any reply ends it, whatever its rcode.

    One failure is enough, as it only changes the order in which recursors are asked; and to make up for that, one
    that is down is tried by itself (`due`), so that no client waits to learn that it is back.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, recursors: Iterable[Address]) -> None:
        self._recursors = tuple(dict.fromkeys(recursors))
        self._down: dict[Address, _Trial] = {}
        self._returns: Counter[Address] = Counter()

    def is_up(self, recursor: Address) -> bool:
        """Tell whether a recursor has not failed since its last reply."""
        return recursor not in self._down

    def order(self, recursors: Iterable[Address]) -> list[Address]:
        """Return recursors with those that are down at the end, else in the order given."""
        return sorted(recursors, key=self._down.__contains__)

    def all_dead(self, recursors: Iterable[Address]) -> bool:
        """Tell whether each of these is down and failed a trial, too: to be slow on one question is not enough."""
        return all(recursor in self._down and self._down[recursor].lost for recursor in recursors)

    def failed(self, recursor: Address, now: float) -> bool:
        """Note a failure; return whether the recursor was up until now."""
        if recursor in self._down:
            return False
        self._down[recursor] = _Trial(now + FIRST_PAUSE, FIRST_PAUSE)
        return True

    def trial_failed(self, recursor: Address) -> None:
        """Note that a recursor that is down did not reply when it was tried."""
        if recursor in self._down:
            self._down[recursor].lost = True

    def replied(self, recursor: Address) -> bool:
        """Note a reply; return whether the recursor was down until now."""
        trial = self._down.pop(recursor, None)
        if trial is not None and trial.lost:
            self._returns[recursor] += 1
        return trial is not None

    def returns(self, recursors: Iterable[Address]) -> int:
        """Return how often any of these was dead, as `all_dead` means it, and replied again."""
        return sum(self._returns[recursor] for recursor in recursors)

    def due(self, now: float) -> list[Address]:
        """Return those that are to be tried now; each is due again after a longer pause."""
        found = []
        for recursor, trial in self._down.items():
            if trial.at <= now:
                trial.pause = min(2 * trial.pause, LONGEST_PAUSE)
                trial.at = now + trial.pause
                found.append(recursor)
        return found

    def states(self) -> dict[str, int]:
        """All recursors as metrics name them: 1 up, 0 down."""
        return {str(recursor): int(self.is_up(recursor)) for recursor in self._recursors}
