"""Counters that the data plane writes: plain integers, no locks, no metric objects on the hot path.

One thread writes (the loop's). `lb.observe.metrics` turns them into samples when a scrape asks.
Label values are bounded: service and listener names, status codes of three digits, kinds of results.
Where several workers count, each reports to one `Stats` that holds the totals (`lb.observe.counters`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from lb.errors import ReportError
from lb.observe.counters import Counters, Family, State
from lb.observe.reports import (
    Json,
    Reader,
    counts_of,
    read_count,
    read_flag,
    read_label,
    read_object,
    read_seconds,
    read_status,
    read_text,
    tally_of,
)

BUCKETS: tuple[float, ...] = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds (seconds, inclusive) of the request duration histogram; one more bucket holds the rest."""

_QUICK = BUCKETS[0]


class HttpStats(Counters):
    """Counters of one service behind the HTTP listeners.

    `retries` (attempts after the first of a request) are counted by the caller, in place, and so is a request that
    ceases to be `active`, but for `succeed`.
    """

    __slots__ = ("attempts", "buckets", "codes", "received", "retries", "seconds", "sent")

    counts: ClassVar[Mapping[str, Reader]] = {
        "retries": read_count,
        "received": read_count,
        "sent": read_count,
        "seconds": read_seconds,
        "codes": tally_of(read_status),
        "attempts": tally_of(read_label),
        "buckets": counts_of(len(BUCKETS) + 1),
    }

    def __init__(self, name: str, touched: dict[str, Any] | None) -> None:
        super().__init__(name, touched)
        self.retries = 0
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.codes: dict[int, int] = {}
        self.attempts: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)

    def begin(self) -> None:
        """Count a request that is active from now on."""
        self.active += 1
        if self.calm:
            self.touch()

    def record(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one finished request: its status, its duration, and the bytes from and to the client."""
        if self.calm:
            self.touch()
        codes = self.codes
        codes[status] = codes.get(status, 0) + 1
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
        self.received += received
        self.sent += sent

    def succeed(self, status: int, seconds: float, sent: int) -> None:
        """Count one finished request without a body that its first instance answered, and which was active."""
        self.active -= 1
        self.seconds += seconds
        self.sent += sent
        # A counter that is there already is found without a call.
        self.buckets[0 if seconds <= _QUICK else bisect_left(BUCKETS, seconds)] += 1
        try:
            self.codes[status] += 1
            self.attempts["ok"] += 1
        except KeyError:
            self.codes.setdefault(status, 1)
            self.attempt("ok")

    def attempt(self, result: str) -> None:
        """Count one attempt on an instance: `ok`, or the kind of its `UpstreamError`."""
        if self.calm:
            self.touch()
        attempts = self.attempts
        attempts[result] = attempts.get(result, 0) + 1


class TcpStats(Counters):
    """Counters of one service behind a TCP port or a TLS listener.

    The relay adds to `received` (from clients) and `sent` (to clients) while bytes move, so that a session of
    many hours shows its traffic when it happens.
    """

    __slots__ = ("opened", "received", "results", "seconds", "sent")

    counts: ClassVar[Mapping[str, Reader]] = {
        "opened": read_count,
        "received": read_count,
        "sent": read_count,
        "seconds": read_seconds,
        "results": tally_of(read_label),
    }

    def __init__(self, name: str, touched: dict[str, Any] | None) -> None:
        super().__init__(name, touched)
        self.opened = 0
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.results: dict[str, int] = {}

    def open(self) -> None:
        """Count a session that begins."""
        self.opened += 1
        self.active += 1
        if self.calm:
            self.touch()

    def close(self, result: str, seconds: float) -> None:
        """Count a session that ends: `ok`, or a bounded kind of failure; `seconds` is how long it lasted."""
        self.active -= 1
        self.seconds += seconds
        self.results[result] = self.results.get(result, 0) + 1


class ListenerStats(Counters):
    """Counters and state of one listener; `error` says why it is not `up`.

    `rejected` counts requests by status, `turned_away` connections by kind: those that reached no service. `pauses`
    counts how often it stopped accepting because there were too many clients.
    """

    __slots__ = ("accepted", "error", "pauses", "rejected", "turned_away", "up")

    counts: ClassVar[Mapping[str, Reader]] = {
        "accepted": read_count,
        "pauses": read_count,
        "rejected": tally_of(read_status),
        "turned_away": tally_of(read_label),
    }
    states: ClassVar[Mapping[str, Reader]] = {"active": read_count, "up": read_flag, "error": read_text}

    def __init__(self, name: str, touched: dict[str, Any] | None) -> None:
        super().__init__(name, touched)
        self.accepted = 0
        self.pauses = 0
        self.up = False
        self.error = ""
        self.rejected: dict[int, int] = {}
        self.turned_away: dict[str, int] = {}

    def opened(self) -> None:
        """Note that the listener accepts connections."""
        self._turn(up=True)

    def failed(self, error: str) -> None:
        """Note that the listener does not accept connections, and why."""
        self._turn(up=False, error=error)

    def closed(self) -> None:
        """Note that the listener is not wanted any more."""
        self._turn(up=False)

    def _turn(self, *, up: bool, error: str = "") -> None:
        self.up = up
        self.error = error
        if self.calm:
            self.touch()

    def show(self, states: Collection[State]) -> None:
        """See Counters: it is up where any worker accepts connections; the first error is told."""
        super().show(states)
        self.up = any(state["up"] for state in states)
        self.error = next((state["error"] for state in states if state["error"]), "")

    def accept(self) -> None:
        """Count a connection that is active from now on."""
        self.accepted += 1
        self.active += 1
        if self.calm:
            self.touch()

    def pause(self) -> None:
        """Count that no more connections are accepted for now."""
        self.pauses += 1
        if self.calm:
            self.touch()

    def leave(self) -> None:
        """Count a connection that is not active any more."""
        self.active -= 1

    def reject(self, status: int) -> None:
        """Count a request that reached no service (400, 404, 414 ...)."""
        if self.calm:
            self.touch()
        self.rejected[status] = self.rejected.get(status, 0) + 1

    def turn_away(self, kind: str) -> None:
        """Count a connection that was closed for how it began: no usable PROXY header or TLS hello."""
        if self.calm:
            self.touch()
        self.turned_away[kind] = self.turned_away.get(kind, 0) + 1


class Stats:
    """All counters of one process; what is asked for the first time is created.

    One that is `reporting` is a worker's: what it counts is taken away by `changes`, and to be added to another that
    holds the totals. That one is told of workers by numbers that tell the living apart.
    """

    def __init__(self, *, reporting: bool = False) -> None:
        self._http = Family(HttpStats, reporting=reporting)
        self._tcp = Family(TcpStats, reporting=reporting)
        self._tls = Family(TcpStats, reporting=reporting)
        self._listeners = Family(ListenerStats, reporting=reporting)
        self._families: dict[str, Family[Any]] = {
            "http": self._http,
            "tcp": self._tcp,
            "tls": self._tls,
            "listeners": self._listeners,
        }

    def http(self, service: str) -> HttpStats:
        """The HTTP counters of a service."""
        return self._http.get(service)

    def tcp(self, service: str) -> TcpStats:
        """The TCP counters of a service."""
        return self._tcp.get(service)

    def tls(self, service: str) -> TcpStats:
        """The counters of a service behind the TLS listeners."""
        return self._tls.get(service)

    def listener(self, name: str) -> ListenerStats:
        """The counters of a listener, named as `http 0.0.0.0:80` or `tcp 0.0.0.0:9999`."""
        return self._listeners.get(name)

    def http_services(self) -> Iterator[tuple[str, HttpStats]]:
        """Every service with HTTP counters, as of now: the caller may take its time."""
        return self._http.items()

    def tcp_services(self) -> Iterator[tuple[str, TcpStats]]:
        """Every service with TCP counters, as of now."""
        return self._tcp.items()

    def tls_services(self) -> Iterator[tuple[str, TcpStats]]:
        """Every service with TLS counters, as of now."""
        return self._tls.items()

    def listeners(self) -> Iterator[tuple[str, ListenerStats]]:
        """Every listener, as of now."""
        return self._listeners.items()

    def keep(self, services: Collection[str]) -> None:
        """Drop the counters of services that are not named and have nothing active: labels stay bounded.

        From now on a report of one that is not named does not bring it back, unless something is active there.
        """
        for family in (self._http, self._tcp, self._tls):
            family.keep(services)

    def keep_listeners(self, names: Collection[str]) -> None:
        """Drop the counters of listeners that are not named and have no connection left, as `keep` does."""
        self._listeners.keep(names)

    def changes(self) -> Json | None:
        """Return, ready for JSON, what was counted since the last call and what has changed; None if nothing has."""
        changes = {kind: found for kind, family in self._families.items() if (found := family.changes())}
        return changes or None

    def add(self, changes: object, worker: int) -> None:
        """Add the `changes` of a worker. Raises ReportError, and then nothing was added."""
        try:
            found = {kind: self._family(kind).read(reports, kind) for kind, reports in read_object(changes).items()}
        except ReportError as error:
            raise ReportError(f"worker {worker}: {error}") from None
        for kind, reports in found.items():
            self._families[kind].add(reports, worker)

    def forget(self, worker: int) -> None:
        """Take away what was active in a worker that is gone; what it has counted stays."""
        for family in self._families.values():
            family.forget(worker)

    def _family(self, kind: str) -> Family[Any]:
        try:
            return self._families[kind]
        except KeyError:
            raise ReportError(f"nothing is counted as {kind[:100]!r}") from None
