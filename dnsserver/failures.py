"""Questions that no recursor could answer, remembered for a moment (RFC 9520). No I/O; the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from dnsserver.upstream import ForeignKey

FIRST_PAUSE = 1.0
"""Seconds for which a question that failed is not asked again: the least that RFC 9520 section 3.2 allows."""

LONGEST_PAUSE = 30.0
"""The same for one that fails again and again; each pause is twice the one before.

RFC 9520 allows 5 minutes; 30 seconds are what RFC 8767 section 5 lets pass between two attempts at stale data.
"""

REMEMBERED = 30.0
"""Seconds after its pause for which a failure still counts: for the next pause, and as a bad sign."""

ENTRY_SIZE = 400
"""Octets of memory that a failure takes beside its name, about."""


@dataclass(frozen=True, slots=True)
class _Failure:
    since: float
    pause: float
    returns: int

    @property
    def until(self) -> float:
        return self.since + self.pause


class Failures:
    """Remembers failures in at most `max_bytes`; what is oldest goes first. Times are seconds of one monotonic clock.

    `returns` is how often the recursors of a question have come back from the dead: a failure from before that says
    nothing any more.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._failures: OrderedDict[ForeignKey, _Failure] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._failures)

    def note(self, key: ForeignKey, now: float, returns: int) -> None:
        """Note that no recursor could answer; `returns` is of the moment when they began to be asked."""
        former = self._find(key, now, returns)
        pause = FIRST_PAUSE if former is None else min(2 * former.pause, LONGEST_PAUSE)
        self.forget(key)
        self._failures[key] = _Failure(now, pause, returns)
        self.bytes += _size(key)
        while self.bytes > self._max_bytes:
            self.forget(next(iter(self._failures)))

    def forget(self, key: ForeignKey) -> None:
        """Note that a recursor has answered."""
        if self._failures.pop(key, None) is not None:
            self.bytes -= _size(key)

    def holds(self, key: ForeignKey, now: float, returns: int) -> bool:
        """Tell whether a question is not to be asked now."""
        found = self._find(key, now, returns)
        return found is not None and now < found.until

    def likely(self, key: ForeignKey, now: float, returns: int) -> bool:
        """Tell whether a question would probably fail again: it did so not long ago."""
        return self._find(key, now, returns) is not None

    def _find(self, key: ForeignKey, now: float, returns: int) -> _Failure | None:
        found = self._failures.get(key)
        if found is None:
            return None
        if found.returns < returns or now >= found.until + REMEMBERED:
            self.forget(key)
            return None
        return found


def _size(key: ForeignKey) -> int:
    return ENTRY_SIZE + len(key.qname)
