"""What workers tell the process that sums up: how it is read, and one field after the other, whether it is right.

A report is JSON: numbers that were counted since the last one, and the state of things where it has changed. It is
read whole before any of it is counted, so that a wrong one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from lb.errors import ReportError
from lb.observe.shapes import LogCounts

Json = dict[str, Any]
Reader = Callable[[Any], Any]
"""Returns a JSON value as it is counted. Raises ReportError."""

MAX_COUNT = 1 << 63
MAX_KEYS = 1000
"""Most keys of one tally: statuses of three digits, or the kinds of what goes wrong, which are far fewer."""

_LONGEST_LABEL = 100
_LONGEST_TEXT = 1000

K = TypeVar("K", bound=Hashable)


def read_count(value: Any) -> int:
    """Read a number of things that were counted."""
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        raise ReportError(f"{_shown(value)} is no count")
    return value


def read_seconds(value: Any) -> float:
    """Read a duration."""
    if type(value) not in (int, float) or not 0 <= value < MAX_COUNT:
        raise ReportError(f"{_shown(value)} is no duration")
    return float(value)


def read_flag(value: Any) -> bool:
    """Read a truth value."""
    if not isinstance(value, bool):
        raise ReportError(f"{_shown(value)} is neither true nor false")
    return value


def read_text(value: Any) -> str:
    """Read a text of bounded length."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ReportError(f"{_shown(value)} is no text of at most {_LONGEST_TEXT} characters")
    return value


def read_label(value: Any) -> str:
    """Read a kind or a result: a short text."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_LABEL:
        raise ReportError(f"{_shown(value)} is no label")
    return value


def read_status(value: Any) -> int:
    """Read an HTTP status, which is a string where it is a key."""
    if not isinstance(value, str) or len(value) != 3 or not (value.isascii() and value.isdigit()):
        raise ReportError(f"{_shown(value)} is no status")
    return int(value)


def read_object(value: Any) -> Mapping[str, Any]:
    """Read a JSON object."""
    if not isinstance(value, dict):
        raise ReportError(f"{_shown(value)} is no object")
    return value


def tally_of(key: Callable[[Any], K]) -> Reader:
    """Return a reader of counts by key."""

    def read(value: Any) -> dict[K, int]:
        counts = read_object(value)
        if len(counts) > MAX_KEYS:
            raise ReportError(f"{len(counts)} keys are too many")
        return {key(name): read_count(count) for name, count in counts.items()}

    return read


def counts_of(length: int) -> Reader:
    """Return a reader of a list of so many counts."""

    def read(value: Any) -> list[int]:
        if not isinstance(value, list) or len(value) != length:
            raise ReportError(f"{_shown(value)} is no list of {length} counts")
        return [read_count(count) for count in value]

    return read


def read_fields(value: Any, readers: Mapping[str, Reader], where: str) -> Json:
    """Read an object of known fields, any of which may be missing; errors say `where` it is."""
    if not isinstance(value, dict):
        raise ReportError(f"{where}: {_shown(value)} is no object")
    fields: Json = {}
    for name, content in value.items():
        reader = readers.get(name)
        if reader is None:
            raise ReportError(f"{where}: no field is called {_shown(name)}")
        try:
            fields[name] = reader(content)
        except ReportError as error:
            raise ReportError(f"{where} {name}: {error}") from None
    return fields


def increase(target: object, increments: Mapping[str, Any]) -> None:
    """Add to the attributes of an object: numbers, lists of them, and tallies, which take so many keys and no more."""
    for name, more in increments.items():
        mine = getattr(target, name)
        if isinstance(more, dict):
            for key, count in more.items():
                if key in mine or len(mine) < MAX_KEYS:
                    mine[key] = mine.get(key, 0) + count
        elif isinstance(more, list):
            mine[:] = [one + other for one, other in zip(mine, more, strict=True)]
        else:
            setattr(target, name, mine + more)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}..."


class LogReporter:
    """Tells how many lines a worker's access log has written and lost."""

    def __init__(self, log: LogCounts) -> None:
        self._log = log
        self._told = (0, 0)

    def changes(self) -> Json | None:
        """Return what was counted since the last call, None if nothing was."""
        written, dropped = self._told
        self._told = (self._log.written, self._log.dropped)
        changes = {"written": self._told[0] - written, "dropped": self._told[1] - dropped}
        return changes if any(changes.values()) else None


class LogTotals:
    """The lines of the access logs of all workers."""

    def __init__(self) -> None:
        self.written = 0
        self.dropped = 0

    def add(self, changes: object) -> None:
        """Add a report of a worker. Raises ReportError, and then nothing was added."""
        increase(self, read_fields(changes, {"written": read_count, "dropped": read_count}, "access log"))
