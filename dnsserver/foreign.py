"""The cache of recursors' replies: least recently used goes first. No I/O; the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict

from dnsserver.upstream import ForeignKey, ForeignReply


class ForeignCache:
    """Keeps replies for their lifetime, at most `max_bytes` of them. Times are seconds of one monotonic clock."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[ForeignKey, tuple[ForeignReply, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how many octets of memory all replies take."""
        return self._bytes

    def get(self, key: ForeignKey, now: float) -> tuple[ForeignReply, int] | None:
        """Return a reply and its age in whole seconds, None if there is none or its time is over."""
        found = self._kept.get(key)
        if found is None:
            return None
        reply, since = found
        age = int(now - since)
        if age >= reply.lifetime:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return reply, age

    def put(self, key: ForeignKey, reply: ForeignReply, now: float) -> None:
        """Keep a reply, unless it has no lifetime or is larger than the cache."""
        if key in self._kept:
            self._drop(key)
        if reply.lifetime <= 0 or reply.size > self._max_bytes:
            return
        self._kept[key] = (reply, now)
        self._bytes += reply.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: ForeignKey) -> None:
        reply, _ = self._kept.pop(key)
        self._bytes -= reply.size
