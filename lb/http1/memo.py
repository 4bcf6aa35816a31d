"""A small bounded memory of what was parsed before.

Clients repeat their header block byte for byte, so the same bytes need to be validated once. Two generations make
an eviction cost nothing per entry: what was not asked for during a whole generation is forgotten with it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """Remembers values by their bytes, bounded in count and in key bytes.

    `entries` and `octets` bound each of the two generations; a key longer than `longest` is never kept, so that
    a stranger cannot buy memory with large heads. `recent` is the younger generation, always the same object: where
    a call is too much, look there first.
    """

    __slots__ = ("_entries", "_longest", "_octets", "_old", "_room", "recent")

    def __init__(self, *, entries: int, octets: int, longest: int) -> None:
        self._entries = entries
        self._octets = octets
        self._longest = longest
        self.recent: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._room = octets

    def __len__(self) -> int:
        return len(self.recent) + len(self._old)

    def clear(self) -> None:
        """Forget everything."""
        self.recent.clear()
        self._old.clear()
        self._room = self._octets

    def get(self, key: bytes) -> V | None:
        """Return what was kept for `key`, or None."""
        value = self.recent.get(key)
        if value is not None:
            return value
        value = self._old.pop(key, None)
        if value is not None:
            self.put(key, value)
        return value

    def put(self, key: bytes, value: V) -> None:
        """Keep `value` for `key`, if it is short enough; may forget the older generation."""
        size = len(key)
        if size > self._longest:
            return
        if len(self.recent) >= self._entries or size > self._room:
            self._old = dict(self.recent)
            self.recent.clear()
            self._room = self._octets
        self.recent[key] = value
        self._room -= size
