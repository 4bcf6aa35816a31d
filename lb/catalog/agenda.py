"""Which services are to be read, and from when on: a deduplicated queue (pure, the clock is an argument)."""

from __future__ import annotations

import heapq
from itertools import count


class Agenda:
    """Names with the moment from which each is due; one that is being read is not handed out twice.

    Among names that are due, the first that was added comes first. A name that is added while it is being
    read is read once more: the answer under way may be older than the reason to ask.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._reading: set[str] = set()
        self._again: dict[str, float] = {}
        self._order = count()

    def __len__(self) -> int:
        """Return how many names wait or are being read."""
        return len(self._entries.keys() | self._reading)

    def add(self, name: str, due: float = 0.0) -> None:
        """Have a service read at `due` or as soon as may be after; of two moments the earlier one counts."""
        if name in self._reading:
            self._again[name] = min(due, self._again.get(name, due))
            return
        known = self._entries.get(name)
        if known is None or due < known[0]:
            entry = (due, next(self._order))
            self._entries[name] = entry
            heapq.heappush(self._heap, (*entry, name))

    def take(self, now: float) -> str | None:
        """Return the next name that is due, and mark it as being read until `done`; None if there is none."""
        self._drop_replaced()
        if not self._heap or self._heap[0][0] > now:
            return None
        name = heapq.heappop(self._heap)[2]
        del self._entries[name]
        self._reading.add(name)
        return name

    def done(self, name: str) -> None:
        """Say that the reading of a name has ended, however it ended."""
        self._reading.discard(name)
        if name in self._again:
            self.add(name, self._again.pop(name))

    def next_due(self) -> float | None:
        """Return when the next name is due, None if none waits."""
        self._drop_replaced()
        return self._heap[0][0] if self._heap else None

    def _drop_replaced(self) -> None:
        """Drop heap entries that an earlier moment has replaced."""
        while self._heap and self._entries.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
