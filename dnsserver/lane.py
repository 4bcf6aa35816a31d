"""What one transport keeps of replies: those from the zone, those from recursors, and what came only once. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from dnsserver.cache import Entry, WireCache

CACHE_ENTRIES = 1 << 15
CACHE_BYTES = 48 << 20
"""Octets of replies kept for UDP from the zone: 2,000 services of 10 instances, A and SRV, fit."""

SMALL_CACHE_BYTES = 8 << 20
"""The same for each of the other caches."""

COLLECTED = 500
"""Forgotten replies whose memory is given back in a sweep: half a millisecond of work."""

MAX_NEW = 1 << 16
"""Queries that came once and are remembered by their hashes."""


class Lane:
    """One transport: its name, and its caches of replies from the zone and from recursors.

    The second is emptied each second, so that TTLs count down.
    """

    def __init__(self, udp: bool, on_drop: Callable[[Entry], None]) -> None:
        self.udp = udp
        self.transport = "udp" if udp else "tcp"
        self.local = WireCache(CACHE_ENTRIES, CACHE_BYTES if udp else SMALL_CACHE_BYTES, on_drop)
        self.foreign = WireCache(CACHE_ENTRIES, SMALL_CACHE_BYTES, on_drop)
        self._came: set[int] = set()

    def find(self, key: bytes) -> bytes | None:
        """Return the next reply for the octets of a query after its ID, None if there is none ready."""
        for cache in (self.local, self.foreign):
            entry = cache.find(key) or cache.revive(key)
            if entry is not None:
                reply = next(entry.replies, None)
                if reply is not None:
                    entry.hits += 1
                    return reply
        return None

    def is_new(self, key: bytes) -> bool:
        """Tell whether the octets of a query after its ID come for the first time, as far as is remembered."""
        hashed = hash(key)
        if hashed in self._came:
            return False
        if len(self._came) >= MAX_NEW:
            self._came.clear()
        self._came.add(hashed)
        return True

    def entries(self) -> Iterator[Entry]:
        """All entries, for statistics."""
        yield from self.local.entries()
        yield from self.foreign.entries()

    def __len__(self) -> int:
        return len(self.local) + len(self.foreign)

    def clear(self) -> None:
        """Forget all replies."""
        self.local.clear()
        self.foreign.clear()

    def forget(self, services: Container[bytes]) -> None:
        """Forget what does not hang on one service alone, and what hangs on one of these."""
        self.local.forget(services)
        self.foreign.clear()

    def sweep(self) -> None:
        """To be called each second: forget what recursors said, and give back memory, a little at a time."""
        self.foreign.clear()
        self.local.collect(COLLECTED)
        self.foreign.collect(COLLECTED)
