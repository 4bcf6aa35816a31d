"""The cache of recursors' replies: least recently used goes first. No I/O; the clock is an argument.

A reply whose time is over is kept for another day, to be served while no recursor answers (RFC 8767). So is one that
says there is nothing: without it, a client that asks for A and AAAA would get one of them and an error.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from dnsserver.failures import Failures
from dnsserver.upstream import ForeignKey, ForeignReply

MAX_STALE = 86400.0
"""Seconds for which a reply is kept when its time is over (RFC 8767 section 5 suggests one to three days)."""

FAILURES_SHARE = 8
"""Failures take at most an eighth of the memory: names that nobody can resolve must not drive out all others."""


class Found(NamedTuple):
    """A reply, and its age in whole seconds; `stale` says that its time is over."""

    reply: ForeignReply
    age: int = 0
    stale: bool = False

    @property
    def lasting(self) -> bool:
        """Whether the next asker may be given the same."""
        return self.stale or self.reply.lifetime > self.age


@dataclass(slots=True)
class _Kept:
    reply: ForeignReply
    since: float


class ForeignCache:
    """Keeps at most `max_bytes` of replies and failures. Times are seconds of one monotonic clock.

    `failures` are questions that no recursor could answer.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[ForeignKey, _Kept] = OrderedDict()
        self.failures = Failures(max_bytes // FAILURES_SHARE)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how many octets of memory everything takes."""
        return self._bytes + self.failures.bytes

    def get(self, key: ForeignKey, now: float) -> Found | None:
        """Return a reply, stale or not; None if there is none, or it is stale for longer than a day."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = int(now - kept.since)
        if age >= kept.reply.lifetime + MAX_STALE:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return Found(kept.reply, age, age >= kept.reply.lifetime)

    def put(self, key: ForeignKey, reply: ForeignReply, now: float) -> None:
        """Keep a reply, unless it has no lifetime or is larger than the cache; a former one goes in any case."""
        self.failures.forget(key)
        if key in self._kept:
            self._drop(key)
        if reply.lifetime <= 0 or reply.size > self._max_bytes:
            return
        self._kept[key] = _Kept(reply, now)
        self._bytes += reply.size
        self._make_room()

    def note_failure(self, key: ForeignKey, now: float, returns: int) -> None:
        """Remember that no recursor could answer a question; see `Failures.note`."""
        self.failures.note(key, now, returns)
        self._make_room()

    def _make_room(self) -> None:
        while self._kept and self.bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: ForeignKey) -> None:
        kept = self._kept.pop(key)
        self._bytes -= kept.reply.size
