"""Deadlines for many connections at the price of one timer.

A timer per request costs more than the request. Here a connection stands in one bucket of time; a deadline that
moves away is one assignment, and the sweep files the connection anew when it comes to the old bucket.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

NEVER = math.inf


class Timed(Protocol):
    """Something with a deadline; the three attributes are owned by `Deadlines`."""

    deadline: float
    """Loop time at which `on_deadline` is due; starts as NEVER."""
    filed: float
    """Loop time at which the bucket begins that the sweep will find it in; starts as NEVER.

    Who moves deadlines for every request may assign one that is not before this without asking `Deadlines`.
    """
    bucket: set[Timed] | None
    """That bucket; starts as None."""

    def on_deadline(self) -> None:
        """Called once when the deadline has passed."""


class Deadlines:
    """Calls `on_deadline` of everything whose deadline has passed: never early, at most two ticks (seconds) late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float = 0.1) -> None:
        self._loop = loop
        self.time = loop.time
        self._tick = tick
        self._buckets: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._swept = int(loop.time() / tick)

    def set(self, timed: Timed, seconds: float) -> float:
        """Give `timed` a deadline `seconds` from now; returns the loop time that is now."""
        now = self.time()
        timed.deadline = when = now + seconds
        if when < timed.filed:
            self.file(timed)
        return now

    def cancel(self, timed: Timed) -> None:
        """Forget `timed`: it has no deadline any more."""
        timed.deadline = timed.filed = NEVER
        if timed.bucket is not None:
            timed.bucket.discard(timed)
            timed.bucket = None

    def file(self, timed: Timed) -> None:
        """Put `timed` into the bucket of its deadline, which was assigned and comes before the one that it is in."""
        if timed.bucket is not None:
            timed.bucket.discard(timed)
        if self._timer is None:
            # No bucket is waiting: the sweep may start from now.
            self._swept = int(self._loop.time() / self._tick)
            self._timer = self._loop.call_later(self._tick, self._sweep)
        number = max(int(timed.deadline / self._tick) + 1, self._swept + 1)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
        bucket.add(timed)
        timed.bucket = bucket
        timed.filed = (number - 1) * self._tick

    def _sweep(self) -> None:
        now = self._loop.time()
        while self._swept < int(now / self._tick):
            self._swept += 1
            # One by one: what a deadline does may cancel others of its bucket.
            while bucket := self._buckets.get(self._swept):
                timed = bucket.pop()
                timed.bucket = None
                timed.filed = NEVER
                if timed.deadline <= now:
                    self._call(timed)
                elif timed.deadline != NEVER:
                    self.file(timed)
            self._buckets.pop(self._swept, None)
        self._timer = self._loop.call_later(self._tick, self._sweep) if self._buckets else None

    def _call(self, timed: Timed) -> None:
        timed.deadline = NEVER
        try:
            timed.on_deadline()
        except Exception as error:  # one connection's fault must not stop the clock of all others
            self._loop.call_exception_handler({"message": f"deadline of {timed!r}", "exception": error})

    def close(self) -> None:
        """Forget everything."""
        for bucket in self._buckets.values():
            for timed in bucket:
                timed.bucket = None
                timed.filed = NEVER
        self._buckets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
