"""A cache of replies in wire form, keyed by the octets of a query after its ID.

A client asks the same question with the same octets each time, so a hit costs one look-up: nothing is parsed. A client
whose octets are ever new fills the younger of two generations; what is asked often is carried over from the elder.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from dnsserver.stats import Kind

COLLECTED = 16
"""Forgotten entries that are given back for each new one."""


class Entry:
    """Replies to one query, without their ID, in the order in which they are sent; `hits` counts them.

    `kind` is what the statistics count replies by, `size` about how many octets of memory it takes, key included.
    `service` is the one service (its name in lower case) that the replies hang on; empty: they hang on more.
    """

    __slots__ = ("hits", "kind", "replies", "service", "size")

    def __init__(self, replies: Iterator[bytes], kind: Kind, size: int, service: bytes = b"") -> None:
        self.replies = replies
        self.kind = kind
        self.size = size
        self.service = service
        self.hits = 0


class WireCache:
    """Maps query octets to entries; holds at most `max_entries` and about `max_bytes`.

    `find` is the look-up to be used on the fast path. `on_drop` is given each entry that leaves, with its hits. What
    `clear` and `forget` leave is given back by `collect`, a little at a time: thousands of entries at once would take
    milliseconds.
    """

    def __init__(self, max_entries: int, max_bytes: int, on_drop: Callable[[Entry], None]) -> None:
        self._half_entries = max(1, max_entries // 2)
        self._half_bytes = max(1, max_bytes // 2)
        self._on_drop = on_drop
        self._young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self._left: list[Entry] = []
        self._bytes = 0
        self.find = self._young.get

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def entries(self) -> Iterator[Entry]:
        """All entries, for statistics: also those that are not given back yet."""
        yield from self._young.values()
        yield from self._old.values()
        yield from self._left

    def revive(self, key: bytes) -> Entry | None:
        """Look among the elder entries, after `find` failed, and make the found one young again."""
        entry = self._old.pop(key, None)
        if entry is not None:
            self._insert(key, entry)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Keep an entry, instead of one that the key may have."""
        for generation in (self._young, self._old):
            former = generation.pop(key, None)
            if former is not None:
                self._on_drop(former)
        self._insert(key, entry)
        if self._left:
            self.collect(COLLECTED)

    def clear(self) -> None:
        """Forget everything."""
        self.collect(len(self._left) - self._half_entries)
        self._left += self._young.values()
        self._left += self._old.values()
        self._young.clear()
        self._old.clear()
        self._bytes = 0

    def forget(self, services: Container[bytes]) -> None:
        """Forget what hangs on one of these services, or on more than one."""
        for generation in (self._young, self._old):
            gone = [key for key, entry in generation.items() if not entry.service or entry.service in services]
            for key in gone:
                entry = generation.pop(key)
                self._left.append(entry)
                if generation is self._young:
                    self._bytes -= entry.size

    def collect(self, most: int) -> None:
        """Give back up to so many of the entries that `clear` has left."""
        for _ in range(min(most, len(self._left))):
            self._on_drop(self._left.pop())

    def _insert(self, key: bytes, entry: Entry) -> None:
        if len(self._young) >= self._half_entries or self._bytes + entry.size > self._half_bytes:
            self._age()
        self._young[key] = entry
        self._bytes += entry.size

    def _age(self) -> None:
        """Drop the elder generation; the younger one takes its place."""
        for entry in self._old.values():
            self._on_drop(entry)
        self._old.clear()
        # The younger dictionary stays the same object: fast paths hold its bound method.
        self._old.update(self._young)
        self._young.clear()
        self._bytes = 0
