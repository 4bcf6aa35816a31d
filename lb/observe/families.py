"""The metric families of the balancer and its catalog, read from counters and views when a scrape asks.

Names follow Prometheus' rules (base units, `_total`, `_seconds`, `_bytes`); labels are bounded: services,
endpoints and listeners of the catalog, status codes, kinds. Never a path, a raw host or a client's address.

A large family comes in several pieces of the same name, each about a millisecond of work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, islice
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from lb.catalog.model import Problem
from lb.observe.shapes import LogCounts
from lb.observe.stats import BUCKETS, HttpStats, Stats, TcpStats
from lb.observe.views import CatalogView, EndpointView, WorkersView, WorkerView

PROBLEM_KINDS = ("instance", "option", "route", "listener", "container", "registration")

_PIECE = 200
"""Samples in one piece of a family."""

_BOUNDS = (*(str(bound) for bound in BUCKETS), "+Inf")

T = TypeVar("T")
K = TypeVar("K", int, str)
Row = tuple[Sequence[str], float]


def _batches(items: Iterable[T], size: int = _PIECE) -> Iterator[list[T]]:
    """Cut a sequence into batches; an empty one gives one empty batch, so that HELP and TYPE are there."""
    rest = iter(items)
    yield list(islice(rest, size))
    while batch := list(islice(rest, size)):
        yield batch


def _counters(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Iterator[Metric]:
    for batch in _batches(rows):
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in batch:
            family.add_metric(values, count)
        yield family


def _gauges(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Iterator[Metric]:
    for batch in _batches(rows):
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, value in batch:
            family.add_metric(values, value)
        yield family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by_label(stats: Iterable[tuple[str, T]], counts: Callable[[T], Mapping[K, int]]) -> Iterator[Row]:
    """One row for each name and each key of its counts."""
    for name, counters in stats:
        for key, count in list(counts(counters).items()):
            yield (name, str(key)), count


def build_info(version: str) -> Iterator[Metric]:
    """Give the version."""
    yield from _gauges("lb_build_info", "The version of the running program; always 1.", ["version"], [((version,), 1)])


def http(stats: Stats) -> Iterator[Metric]:
    """Give the counters of the services behind the HTTP listeners."""

    def each(value: Callable[[HttpStats], float]) -> Iterator[Row]:
        return (((service,), value(counters)) for service, counters in stats.http_services())

    yield from _counters(
        "lb_http_requests_total",
        "Finished HTTP requests by status sent to the client (499: the client left first).",
        ["service", "code"],
        _by_label(stats.http_services(), lambda counters: counters.codes),
    )
    yield from _durations(stats)
    yield from _counters(
        "lb_http_received_bytes_total",
        "Bytes of request bodies received from clients, and of what tunnels brought from them.",
        ["service"],
        each(lambda counters: counters.received),
    )
    yield from _counters(
        "lb_http_sent_bytes_total",
        "Bytes of response bodies sent to clients, and of what tunnels took to them.",
        ["service"],
        each(lambda counters: counters.sent),
    )
    yield from _gauges(
        "lb_http_active_requests",
        "HTTP requests in flight.",
        ["service"],
        each(lambda counters: counters.active),
    )
    yield from _counters(
        "lb_upstream_attempts_total",
        "Attempts to pass a request to an instance, by result: ok or the kind of failure.",
        ["service", "result"],
        _by_label(stats.http_services(), lambda counters: counters.attempts),
    )
    yield from _counters(
        "lb_upstream_retries_total",
        "Attempts beyond the first of a request, on another instance.",
        ["service"],
        each(lambda counters: counters.retries),
    )


def _durations(stats: Stats) -> Iterator[Metric]:
    for batch in _batches(stats.http_services(), _PIECE // len(_BOUNDS)):
        family = HistogramMetricFamily(
            "lb_http_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its response.",
            labels=["service"],
        )
        for service, counters in batch:
            cumulative = list(accumulate(counters.buckets))
            family.add_metric([service], list(zip(_BOUNDS, cumulative, strict=True)), sum_value=counters.seconds)
        yield family


def tcp(stats: Stats) -> Iterator[Metric]:
    """Give the counters of the services behind TCP ports."""
    return _sessions("tcp", stats.tcp_services)


def tls(stats: Stats) -> Iterator[Metric]:
    """Give the counters of the services behind the TLS listeners."""
    return _sessions("tls", stats.tls_services)


def _sessions(kind: str, services: Callable[[], Iterator[tuple[str, TcpStats]]]) -> Iterator[Metric]:
    name = kind.upper()

    def each(value: Callable[[TcpStats], float]) -> Iterator[Row]:
        return (((service,), value(counters)) for service, counters in services())

    yield from _counters(
        f"lb_{kind}_sessions_total",
        f"Finished {name} sessions by result: ok or the kind of failure.",
        ["service", "result"],
        _by_label(services(), lambda counters: counters.results),
    )
    yield from _counters(
        f"lb_{kind}_opened_sessions_total",
        f"{name} sessions begun.",
        ["service"],
        each(lambda counters: counters.opened),
    )
    yield from _gauges(
        f"lb_{kind}_active_sessions",
        f"{name} sessions open now.",
        ["service"],
        each(lambda counters: counters.active),
    )
    yield from _counters(
        f"lb_{kind}_received_bytes_total",
        f"Bytes received from clients over {name} sessions.",
        ["service"],
        each(lambda counters: counters.received),
    )
    yield from _counters(
        f"lb_{kind}_sent_bytes_total",
        f"Bytes sent to clients over {name} sessions.",
        ["service"],
        each(lambda counters: counters.sent),
    )
    yield from _counters(
        f"lb_{kind}_session_seconds_total",
        f"Duration of all finished {name} sessions together.",
        ["service"],
        each(lambda counters: counters.seconds),
    )


def listeners(stats: Stats) -> Iterator[Metric]:
    """Give the state and the counters of the listeners."""
    listeners = list(stats.listeners())
    label = ["listener"]
    yield from _gauges(
        "lb_listener_up",
        "Whether the listener accepts connections (1) or could not be opened (0).",
        label,
        (((name,), int(listener.up)) for name, listener in listeners),
    )
    yield from _counters(
        "lb_connections_total",
        "Connections accepted from clients.",
        label,
        (((name,), listener.accepted) for name, listener in listeners),
    )
    yield from _counters(
        "lb_accept_pauses_total",
        "Times that the listener stopped accepting because there were too many clients for the file descriptors.",
        label,
        (((name,), listener.pauses) for name, listener in listeners),
    )
    yield from _gauges(
        "lb_connections_active",
        "Connections of clients open now.",
        label,
        (((name,), listener.active) for name, listener in listeners),
    )
    yield from _counters(
        "lb_rejected_requests_total",
        "Requests that reached no service, by status sent to the client.",
        ["listener", "code"],
        _by_label(listeners, lambda listener: listener.rejected),
    )
    yield from _counters(
        "lb_rejected_connections_total",
        "Connections closed for how they began, by kind: no usable PROXY header, TLS hello or server name.",
        ["listener", "kind"],
        _by_label(listeners, lambda listener: listener.turned_away),
    )


_ENDPOINT_GAUGES: tuple[tuple[str, str, Callable[[list[EndpointView]], float]], ...] = (
    (
        "lb_endpoint_active_connections",
        "Requests (HTTP) or sessions (TCP, TLS) in flight to the endpoint.",
        lambda same: sum(view.active for view in same),
    ),
    (
        "lb_endpoint_fails",
        "Failed attempts that count against max_fails at present.",
        lambda same: max(view.fails for view in same),
    ),
    (
        "lb_endpoint_available",
        "Whether the endpoint may be chosen (1), or is suspended, full or off (0).",
        lambda same: int(any(view.available for view in same)),
    ),
    (
        "lb_endpoint_weight",
        "Configured weight of the endpoint.",
        lambda same: sum(view.weight for view in same),
    ),
)


def endpoints(views: Iterable[EndpointView]) -> Iterator[Metric]:
    """Give the endpoints' gauges in one pass; the views of one service and kind come together.

    The first family's pieces are given while the views are read, the other families' wait for their turn.
    """
    waiting: list[list[Metric]] = [[] for _ in _ENDPOINT_GAUGES[1:]]
    for batch in _batches(_by_address(views)):
        first, *others = (
            GaugeMetricFamily(name, text, labels=["service", "kind", "endpoint"]) for name, text, _ in _ENDPOINT_GAUGES
        )
        for family, (_, _, value) in zip((first, *others), _ENDPOINT_GAUGES, strict=True):
            for labels, same in batch:
                family.add_metric(labels, value(same))
        yield first
        for pieces, piece in zip(waiting, others, strict=True):
            pieces.append(piece)
    for pieces in waiting:
        yield from pieces


def _by_address(views: Iterable[EndpointView]) -> Iterator[tuple[tuple[str, str, str], list[EndpointView]]]:
    """Join the registrations of a service that share an address: the labels of a sample are unique."""
    for (service, kind), group in groupby(views, key=lambda view: (view.service, view.kind)):
        same: dict[str, list[EndpointView]] = {}
        for view in group:
            same.setdefault(view.endpoint, []).append(view)
        for endpoint, registrations in same.items():
            yield (service, kind, endpoint), registrations


def catalog(catalog: CatalogView) -> Iterator[Metric]:
    """Give the state of the catalog and of the watch on it."""
    if catalog.age is not None:
        yield _gauge("catalog_age_seconds", "Time since the last good answer of a Consul agent.", catalog.age)
    yield _gauge("catalog_connected", "Whether a Consul agent answers (1) or not (0).", int(catalog.connected))
    yield _gauge(
        "catalog_known_leader",
        "Whether the agent's servers know a leader (1) or not (0).",
        int(catalog.known_leader),
    )
    yield _gauge("catalog_generation", "Number of the catalog in use; 0 before the first.", catalog.generation)
    yield _gauge("catalog_fresh", "Whether the catalog came from an agent (1) or from disk (0).", int(catalog.fresh))
    yield _gauge("catalog_services", "Services in the catalog.", catalog.services)
    yield _gauge("catalog_held_services", "Services that vanished and are kept until confirmed.", catalog.held)
    yield _gauge("catalog_connections", "Connections open to the Consul agent.", catalog.connections)
    yield _counter("catalog_answers_total", "Good answers of Consul agents.", catalog.answers)
    yield _counter("catalog_refetches_total", "Services read again because of a change.", catalog.refetches)
    yield _counter("catalog_sweeps_total", "Readings of the whole catalog for changes not attributed.", catalog.sweeps)
    yield _counter("catalog_publications_total", "Catalogs published to the data plane.", catalog.publications)
    yield _counter("catalog_agent_changes_total", "Times another Consul agent was turned to.", catalog.agent_changes)
    yield from _gauges(
        "catalog_instances",
        "Instances in the catalog by health.",
        ["health"],
        (((health,), count) for health, count in catalog.instances.items()),
    )
    yield from _counters(
        "catalog_errors_total",
        "Failed questions to Consul agents by kind.",
        ["kind"],
        (((kind,), count) for kind, count in catalog.errors.items()),
    )


def problems(problems: Iterable[Problem]) -> Iterator[Metric]:
    """Give what of the catalog is not used, by kind."""
    counts = Counter(dict.fromkeys(PROBLEM_KINDS, 0))
    counts.update(problem.kind for problem in problems)
    yield from _gauges(
        "lb_problems",
        "Things of the catalog that are not used at present, by kind; /api/status names them.",
        ["kind"],
        (((kind,), count) for kind, count in counts.items()),
    )


def workers(workers: WorkersView) -> Iterator[Metric]:
    """Give the processes of the data plane."""
    yield _gauge("lb_workers", "Worker processes alive.", len(workers.alive))
    yield _counter("lb_worker_restarts_total", "Workers started in place of one that ended.", workers.restarts)

    def each(value: Callable[[WorkerView], float]) -> Iterator[Row]:
        return (((str(worker.number),), value(worker)) for worker in workers.alive)

    yield from _counters(
        "lb_worker_cpu_seconds_total",
        "CPU time of the worker process, user and system; a new process begins at 0.",
        ["worker"],
        each(lambda worker: worker.cpu_seconds),
    )
    yield from _gauges(
        "lb_worker_resident_memory_bytes",
        "Resident memory of the worker process.",
        ["worker"],
        each(lambda worker: worker.resident_bytes),
    )
    yield from _gauges(
        "lb_worker_open_fds",
        "File descriptors open in the worker process.",
        ["worker"],
        each(lambda worker: worker.open_fds),
    )


def access_log(log: LogCounts) -> Iterator[Metric]:
    """Give the counters of the access log."""
    yield _counter("lb_access_log_lines_total", "Lines written to the access log.", log.written)
    yield _counter(
        "lb_access_log_dropped_lines_total",
        "Lines of the access log lost: written too slowly, or not at all.",
        log.dropped,
    )
