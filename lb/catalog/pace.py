"""How often something may be asked again: pure, the clock is an argument.

Consul's advice for blocking queries: loops without a limit turn into busy loops when a value changes all
the time, so let two through at once and slow down after that; after errors, back off exponentially with
jitter.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Pace:
    """A token bucket: `burst` tokens, and another every `interval` seconds.

    Kept as one moment in time, as in the generic cell rate algorithm (ITU-T I.371): the time at which the
    bucket would be full again. A use may cost more than one interval, which slows down what turns out to be
    expensive.
    """

    def __init__(self, interval: float, burst: int = 2) -> None:
        self._interval = interval
        self._slack = interval * (burst - 1)
        self._full_at = float("-inf")

    def delay(self, now: float) -> float:
        """Return how many seconds are to pass before the next use; 0 when a token is there."""
        return max(0.0, self._full_at - self._slack - now)

    def take(self, now: float, cost: float = 0.0) -> None:
        """Use one token, or as many as `cost` seconds are worth if that is more."""
        self._full_at = max(self._full_at, now) + max(self._interval, cost)


class Backoff:
    """Delays that double from `first` to `cap` seconds, each shortened by up to a half at random."""

    def __init__(self, first: float, cap: float, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self._cap = cap
        self._chance = chance
        self._step = first

    def next(self) -> float:
        """Return the delay before the next attempt, and double."""
        step = self._step
        self._step = min(step * 2, self._cap)
        return step * (1 - self._chance() / 2)

    def reset(self) -> None:
        """Start from the first delay again: an attempt succeeded."""
        self._step = self._first
