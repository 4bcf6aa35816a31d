"""Counters that the data plane writes: plain integers, no locks, no metric objects on the hot path.

One thread writes (the loop's). `lb.observe.metrics` turns them into samples when a scrape asks.
Label values are bounded: service and listener names, status codes of three digits, kinds of results.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator

BUCKETS: tuple[float, ...] = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds (seconds, inclusive) of the request duration histogram; one more bucket holds the rest."""

_QUICK = BUCKETS[0]


class HttpStats:
    """Counters of one service behind the HTTP listeners.

    `active` requests and `retries` (attempts after the first of a request) are counted by the caller, in
    place.
    """

    __slots__ = ("active", "attempts", "buckets", "codes", "received", "retries", "seconds", "sent")

    def __init__(self) -> None:
        self.active = 0
        self.retries = 0
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.codes: dict[int, int] = {}
        self.attempts: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)

    def record(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one finished request: its status, its duration, and the bytes from and to the client."""
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
        attempts = self.attempts
        attempts[result] = attempts.get(result, 0) + 1


class TcpStats:
    """Counters of one service behind a TCP port or a TLS listener.

    The relay adds to `received` (from clients) and `sent` (to clients) while bytes move, so that a session of
    many hours shows its traffic when it happens.
    """

    __slots__ = ("active", "opened", "received", "results", "seconds", "sent")

    def __init__(self) -> None:
        self.opened = 0
        self.active = 0
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.results: dict[str, int] = {}

    def open(self) -> None:
        """Count a session that begins."""
        self.opened += 1
        self.active += 1

    def close(self, result: str, seconds: float) -> None:
        """Count a session that ends: `ok`, or a bounded kind of failure; `seconds` is how long it lasted."""
        self.active -= 1
        self.seconds += seconds
        self.results[result] = self.results.get(result, 0) + 1


class ListenerStats:
    """Counters and state of one listener; `error` says why it is not `up`.

    `rejected` counts requests by status, `turned_away` connections by kind: those that reached no service.
    """

    __slots__ = ("accepted", "active", "error", "rejected", "turned_away", "up")

    def __init__(self) -> None:
        self.accepted = 0
        self.active = 0
        self.up = False
        self.error = ""
        self.rejected: dict[int, int] = {}
        self.turned_away: dict[str, int] = {}

    def opened(self) -> None:
        """Note that the listener accepts connections."""
        self.up = True
        self.error = ""

    def failed(self, error: str) -> None:
        """Note that the listener does not accept connections, and why."""
        self.up = False
        self.error = error

    def closed(self) -> None:
        """Note that the listener is not wanted any more."""
        self.up = False
        self.error = ""

    def reject(self, status: int) -> None:
        """Count a request that reached no service (400, 404, 414 ...)."""
        self.rejected[status] = self.rejected.get(status, 0) + 1

    def turn_away(self, kind: str) -> None:
        """Count a connection that was closed for how it began: no usable PROXY header or TLS hello."""
        self.turned_away[kind] = self.turned_away.get(kind, 0) + 1


class Stats:
    """All counters of one process; what is asked for the first time is created."""

    def __init__(self) -> None:
        self._http: dict[str, HttpStats] = {}
        self._tcp: dict[str, TcpStats] = {}
        self._tls: dict[str, TcpStats] = {}
        self._listeners: dict[str, ListenerStats] = {}

    def http(self, service: str) -> HttpStats:
        """The HTTP counters of a service."""
        stats = self._http.get(service)
        if stats is None:
            stats = self._http[service] = HttpStats()
        return stats

    def tcp(self, service: str) -> TcpStats:
        """The TCP counters of a service."""
        stats = self._tcp.get(service)
        if stats is None:
            stats = self._tcp[service] = TcpStats()
        return stats

    def tls(self, service: str) -> TcpStats:
        """The counters of a service behind the TLS listeners."""
        stats = self._tls.get(service)
        if stats is None:
            stats = self._tls[service] = TcpStats()
        return stats

    def listener(self, name: str) -> ListenerStats:
        """The counters of a listener, named as `http 0.0.0.0:80` or `tcp 0.0.0.0:9999`."""
        stats = self._listeners.get(name)
        if stats is None:
            stats = self._listeners[name] = ListenerStats()
        return stats

    def http_services(self) -> Iterator[tuple[str, HttpStats]]:
        """Every service with HTTP counters, as of now: the caller may take its time."""
        return iter(list(self._http.items()))

    def tcp_services(self) -> Iterator[tuple[str, TcpStats]]:
        """Every service with TCP counters, as of now."""
        return iter(list(self._tcp.items()))

    def tls_services(self) -> Iterator[tuple[str, TcpStats]]:
        """Every service with TLS counters, as of now."""
        return iter(list(self._tls.items()))

    def listeners(self) -> Iterator[tuple[str, ListenerStats]]:
        """Every listener, as of now."""
        return iter(list(self._listeners.items()))

    def keep(self, services: Collection[str]) -> None:
        """Drop the counters of services that are not named and have nothing active: labels stay bounded."""
        _keep(self._http, services)
        _keep(self._tcp, services)
        _keep(self._tls, services)

    def keep_listeners(self, names: Collection[str]) -> None:
        """Drop the counters of listeners that are not named and have no connection left."""
        _keep(self._listeners, names)


def _keep(
    counters: dict[str, HttpStats] | dict[str, TcpStats] | dict[str, ListenerStats], names: Collection[str]
) -> None:
    gone = [name for name, stats in counters.items() if name not in names and stats.active == 0]
    for name in gone:
        del counters[name]
