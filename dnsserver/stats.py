"""Counters of the DNS server: plain integers, read by `dnsserver.metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from logging import Logger
from typing import NamedTuple

from dnsserver.wire import RCODE_NAMES, TYPE_NAMES

OTHER = "other"


class Kind(NamedTuple):
    """What replies are counted by: every field has few values, whatever strangers send."""

    transport: str
    qtype: str
    rcode: str
    truncated: bool


def kind_of(transport: str, qtype: int | None, reply: bytes) -> Kind:
    """Return the kind of a reply (without ID); `qtype` is None where no type could be read."""
    name = OTHER if qtype is None else TYPE_NAMES.get(qtype, OTHER)
    return Kind(transport, name, RCODE_NAMES.get(reply[1] & 15, OTHER), bool(reply[0] & 2))


class Gauges(NamedTuple):
    """What is read at the moment of asking."""

    cached: Counter[Kind] = Counter()
    entries: int = 0
    foreign_entries: int = 0
    foreign_bytes: int = 0
    in_flight: int = 0
    generation: int = 0


class DnsStats:
    """What the server did since it started.

    `built` counts replies that were made for one query, `cached` those sent by wire cache entries that are gone;
    `gauges()` tells of the living ones. `refused` counts questions by the reason why they were, `dropped` by reason
    what got no proper answer, `forwarded` exchanges by recursor and result, `faults` exceptions that were bugs,
    by type.
    """

    def __init__(self) -> None:
        self.built: Counter[Kind] = Counter()
        self.cached: Counter[Kind] = Counter()
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.forwarded: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self.foreign_hits = 0
        self.foreign_misses = 0
        self.tcp_open = 0
        self.tcp_accepted = 0
        self.gauges: Callable[[], Gauges] = Gauges

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
