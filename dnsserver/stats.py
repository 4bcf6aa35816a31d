"""Counters of the DNS server: plain integers, read by `dnsserver.metrics`.

Where several workers answer, each reports what it has counted to one `DnsStats` that holds the totals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from logging import Logger
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from dnsserver.wire import RCODE_NAMES, TYPE_NAMES
from lb.errors import ReportError
from lb.observe.reports import (
    MAX_KEYS,
    Json,
    Reader,
    increase,
    read_count,
    read_fields,
    read_flag,
    read_label,
    tally_of,
)

OTHER = "other"

_TRANSPORTS = frozenset({"udp", "tcp"})
_TYPES = frozenset({*TYPE_NAMES.values(), OTHER})
_RCODES = frozenset({*RCODE_NAMES.values(), OTHER})


class Kind(NamedTuple):
    """What replies are counted by: every field has few values, whatever strangers send."""

    transport: str
    qtype: str
    rcode: str
    truncated: bool


def kind_of(transport: str, qtype: int | None, reply: bytes) -> Kind:
    """Return the kind of a reply (without ID); `qtype` is None where no type could be read."""
    return _kind(transport, qtype if qtype in TYPE_NAMES else None, reply[1] & 15, reply[0] & 2)


@lru_cache(maxsize=1 << 10)
def _kind(transport: str, qtype: int | None, rcode: int, truncated: int) -> Kind:
    name = OTHER if qtype is None else TYPE_NAMES[qtype]
    return Kind(transport, name, RCODE_NAMES.get(rcode, OTHER), bool(truncated))


class Gauges(NamedTuple):
    """What is read at the moment of asking."""

    cached: Counter[Kind] = Counter()
    entries: int = 0
    foreign_entries: int = 0
    foreign_bytes: int = 0
    foreign_failing: int = 0
    in_flight: int = 0
    generation: int = 0
    stale: int = 0
    recursors: Mapping[str, int] = MappingProxyType({})
    """1 for each recursor that is up, 0 for one that is down."""


_NUMBERS = ("foreign_hits", "foreign_misses", "foreign_stale", "foreign_failures", "tcp_accepted")
_TALLIES = ("built", "refused", "dropped", "limited", "forwarded", "agent", "faults")
_ROWS = ("built", "cached", "forwarded")
"""Tallies whose keys are tuples; in JSON, each is a list of rows: the key's parts, then the count."""

_GAUGES = ("entries", "foreign_entries", "foreign_bytes", "foreign_failing", "in_flight", "generation", "stale")

K = TypeVar("K", bound=Hashable)


def _rows_of(width: int, key: Callable[[list[Any]], K]) -> Reader:
    """Return a reader of rows whose keys have `width` parts."""

    def read(value: Any) -> dict[K, int]:
        if not isinstance(value, list) or len(value) > MAX_KEYS:
            raise ReportError(f"no list of at most {MAX_KEYS} rows")
        counts: Counter[K] = Counter()
        for row in value:
            if not isinstance(row, list) or len(row) != width + 1:
                raise ReportError(f"no row of {width} labels and a count")
            counts[key(row[:-1])] += read_count(row[-1])
        return dict(counts)

    return read


def _read_kind(parts: list[Any]) -> Kind:
    transport, qtype, rcode = (read_label(part) for part in parts[:3])
    if transport not in _TRANSPORTS or qtype not in _TYPES or rcode not in _RCODES:
        raise ReportError(f"no reply is counted as {transport[:20]} {qtype[:20]} {rcode[:20]}")
    return Kind(transport, qtype, rcode, read_flag(parts[3]))


def _read_exchange(parts: list[Any]) -> tuple[str, str]:
    recursor, result = (read_label(part) for part in parts)
    return recursor, result


def _read_state(value: Any) -> dict[str, int]:
    names = ("tcp_open", *_GAUGES)
    state: dict[str, int] = read_fields(value, dict.fromkeys(names, read_count), "state")
    if len(state) < len(names):
        raise ReportError(f"half a state: {', '.join(state)}")
    return state


_READERS: dict[str, Reader] = {
    **dict.fromkeys(_NUMBERS, read_count),
    **dict.fromkeys(("built", "cached"), _rows_of(4, _read_kind)),
    "forwarded": _rows_of(2, _read_exchange),
    **dict.fromkeys(("refused", "dropped", "limited", "agent", "faults"), tally_of(read_label)),
    "recursors": tally_of(read_label),
    "state": _read_state,
}


class DnsStats:
    """What the server did since it started.

    `built` counts replies that were made for one query, `cached` those sent by wire cache entries that are gone;
    `gauges()` tells of the living ones. `refused` counts questions by the reason why they were, `dropped` by reason
    what got no proper answer, `limited` replies over a client's rate by what became of them, `forwarded` exchanges by
    recursor and result, `agent` questions that only a Consul agent can answer by result, `faults` exceptions that
    were bugs, by type.
    """

    def __init__(self) -> None:
        self.built: Counter[Kind] = Counter()
        self.cached: Counter[Kind] = Counter()
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.forwarded: Counter[tuple[str, str]] = Counter()
        self.agent: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.foreign_hits = 0
        self.foreign_misses = 0
        self.foreign_stale = 0
        self.foreign_failures = 0
        self.tcp_open = 0
        self.tcp_accepted = 0
        self.gauges: Callable[[], Gauges] = Gauges
        self._told: dict[str, Counter[Any]] = {}
        self._told_numbers: Counter[str] = Counter()
        self._told_state: dict[str, int] = {}
        self._told_recursors: dict[str, int] = {}

    @property
    def replies(self) -> int:
        """All replies since the start."""
        return self.built.total() + self.cached.total() + self.gauges().cached.total()

    def fault(self, log: Logger, error: Exception) -> None:
        """Count a bug by the type of its exception, and log the first of each type with its traceback."""
        name = type(error).__name__
        self.faults[name] += 1
        if self.faults[name] == 1:
            log.error("DNS: a bug; more of the same type are only counted", exc_info=error)

    def changes(self, *, gauges: bool = True) -> Json | None:
        """Return, ready for JSON, what was counted since the last call and what has changed; None if nothing has.

        Without `gauges`, what they know is left for the next time: they look at each entry of the wire cache, which
        takes milliseconds when it is full.
        """
        now: dict[str, Counter[Any]] = {name: getattr(self, name).copy() for name in _TALLIES}
        changes: Json = {}
        if gauges:
            seen = self.gauges()
            now["cached"] = self.cached + seen.cached
            state = {"tcp_open": self.tcp_open, **{name: getattr(seen, name) for name in _GAUGES}}
            if state != self._told_state:
                self._told_state = changes["state"] = state
            if seen.recursors != self._told_recursors:
                self._told_recursors = changes["recursors"] = dict(seen.recursors)
        for name, tally in now.items():
            if more := tally - self._told.get(name, Counter()):
                changes[name] = [[*key, count] for key, count in more.items()] if name in _ROWS else dict(more)
        numbers = Counter({name: getattr(self, name) for name in _NUMBERS})
        changes |= numbers - self._told_numbers
        self._told.update(now)
        self._told_numbers = numbers
        return changes or None


class DnsTotals(DnsStats):
    """What all workers have reported; none of them is told from the others, but by a number while it lives."""

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[int, dict[str, int]] = {}
        self._recursors: dict[int, dict[str, int]] = {}
        self.gauges = self._sum

    def add(self, changes: object, worker: int) -> None:
        """Add the `changes` of a worker. Raises ReportError, and then nothing was added."""
        found = read_fields(changes, _READERS, f"worker {worker}: DNS")
        state = found.pop("state", None)
        recursors = found.pop("recursors", None)
        increase(self, found)
        if recursors is not None:
            self._recursors[worker] = recursors
        if state is not None:
            self._states[worker] = state
            self._count_open()

    def forget(self, worker: int) -> None:
        """Take away what was open and kept in a worker that is gone; what it has counted stays."""
        self._states.pop(worker, None)
        self._recursors.pop(worker, None)
        self._count_open()

    def _count_open(self) -> None:
        self.tcp_open = sum(state["tcp_open"] for state in self._states.values())

    def _sum(self) -> Gauges:
        """The gauges of all workers together.

        The catalog is the oldest that one of them answers from; a recursor is up when each of them finds it so.
        """
        recursors: dict[str, int] = {}
        for states_of_one in self._recursors.values():
            for name, up in states_of_one.items():
                recursors[name] = min(up, recursors.get(name, 1))
        states = self._states.values()
        summed = Counter[str]()
        for state in states:
            summed.update(state)
        return Gauges(
            entries=summed["entries"],
            foreign_entries=summed["foreign_entries"],
            foreign_bytes=summed["foreign_bytes"],
            foreign_failing=summed["foreign_failing"],
            in_flight=summed["in_flight"],
            generation=min((state["generation"] for state in states), default=0),
            recursors=recursors,
            stale=max((state["stale"] for state in states), default=0),
        )
