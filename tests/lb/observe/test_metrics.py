"""The page of metrics, read back with prometheus-client's own parsers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.registry import Collector

from lb.catalog.model import Problem
from lb.observe.metrics import Metrics
from lb.observe.stats import Stats
from lb.observe.views import CatalogView, EndpointView, WorkersView, WorkerView, catalog_view, endpoint_views
from tests.lb.observe.samples import FakeEndpoint, FakeWatch, a_snapshot

OPEN_METRICS = "application/openmetrics-text;version=1.0.0;charset=utf-8"


@dataclass
class FakeLog:
    written: int = 10
    dropped: int = 2


def a_page(
    stats: Stats | None = None,
    *,
    endpoints: Iterable[EndpointView] = (),
    catalog: CatalogView | None = None,
    problems: Iterable[Problem] = (),
    extra: Iterable[Callable[[], Iterable[Metric]]] = (),
    workers: WorkersView | None = None,
) -> Metrics:
    return Metrics(
        stats or Stats(),
        version="1.2.3",
        endpoints=lambda: endpoints,
        catalog=lambda: catalog or CatalogView(),
        problems=lambda: problems,
        access_log=FakeLog(),
        extra=tuple(extra),
        workers=None if workers is None else lambda: workers,
    )


def busy_stats() -> Stats:
    stats = Stats()
    web = stats.http("web")
    web.record(200, 0.002, 100, 1000)
    web.record(502, 70.0, 10, 100)
    web.attempt("ok")
    web.attempt("connect_refused")
    web.retries = 1
    web.active = 3
    redis = stats.tcp("redis-6379")
    redis.open()
    redis.open()
    redis.close("ok", 2.5)
    redis.received, redis.sent = 7, 8
    listener = stats.listener("http 0.0.0.0:80")
    listener.opened()
    listener.accepted, listener.active = 5, 2
    listener.reject(404)
    stats.listener("tcp 0.0.0.0:22").failed("in use")
    stats.tls("web").open()
    stats.listener("tls 0.0.0.0:443").turn_away("not_tls")
    return stats


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample of the page by name and labels, as PromQL writes them."""
    found: dict[str, float] = {}
    for family in parse_plain(metrics.render()[0].decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, f"{key} comes twice: Prometheus refuses the whole page"
            found[key] = sample.value
    return found


def test_http_tcp_and_listeners() -> None:
    found = samples(a_page(busy_stats()))
    expected = {
        'lb_http_requests_total{service="web",code="200"}': 1,
        'lb_http_requests_total{service="web",code="502"}': 1,
        'lb_http_received_bytes_total{service="web"}': 110,
        'lb_http_sent_bytes_total{service="web"}': 1100,
        'lb_http_active_requests{service="web"}': 3,
        'lb_upstream_attempts_total{service="web",result="ok"}': 1,
        'lb_upstream_attempts_total{service="web",result="connect_refused"}': 1,
        'lb_upstream_retries_total{service="web"}': 1,
        'lb_tcp_sessions_total{service="redis-6379",result="ok"}': 1,
        'lb_tcp_opened_sessions_total{service="redis-6379"}': 2,
        'lb_tcp_active_sessions{service="redis-6379"}': 1,
        'lb_tcp_received_bytes_total{service="redis-6379"}': 7,
        'lb_tcp_sent_bytes_total{service="redis-6379"}': 8,
        'lb_tcp_session_seconds_total{service="redis-6379"}': 2.5,
        'lb_tls_active_sessions{service="web"}': 1,
        'lb_rejected_connections_total{listener="tls 0.0.0.0:443",kind="not_tls"}': 1,
        'lb_listener_up{listener="http 0.0.0.0:80"}': 1,
        'lb_listener_up{listener="tcp 0.0.0.0:22"}': 0,
        'lb_connections_total{listener="http 0.0.0.0:80"}': 5,
        'lb_connections_active{listener="http 0.0.0.0:80"}': 2,
        'lb_rejected_requests_total{listener="http 0.0.0.0:80",code="404"}': 1,
        "lb_access_log_lines_total": 10,
        "lb_access_log_dropped_lines_total": 2,
        'lb_build_info{version="1.2.3"}': 1,
    }
    assert expected.items() <= sorted_labels(found).items()


def sorted_labels(found: dict[str, float]) -> dict[str, float]:
    """Bring the labels `code`, `result` and `kind` behind the name that they belong to, as the tests write them."""
    pattern = re.compile(r"\{((?:code|result|kind)=\"[^\"]*\"),((?:service|listener)=\"[^\"]*\")\}")
    return {pattern.sub(r"{\2,\1}", key): value for key, value in found.items()}


def test_the_duration_histogram_is_cumulative() -> None:
    found = samples(a_page(busy_stats()))
    name = "lb_http_request_duration_seconds"
    counts = {le: value for key, value in found.items() for le in re.findall(rf'{name}_bucket{{le="([^"]+)"', key)}
    assert (counts["0.001"], counts["0.0025"], counts["60.0"], counts["+Inf"]) == (0, 1, 1, 2)
    assert found[f'{name}_count{{service="web"}}'] == 2
    assert found[f'{name}_sum{{service="web"}}'] == pytest.approx(70.002)


def test_endpoints() -> None:
    group = [
        FakeEndpoint(weight=3, active=2),
        FakeEndpoint(name="[::1]:80", fails=3, suspended_until=99),
    ]
    found = samples(a_page(endpoints=endpoint_views("web", "http", group, now=10)))
    first = '{endpoint="10.0.0.1:80",kind="http",service="web"}'
    second = '{endpoint="[::1]:80",kind="http",service="web"}'
    names = ("active_connections", "fails", "available", "weight")
    assert [found[f"lb_endpoint_{name}{first}"] for name in names] == [2, 0, 1, 3]
    assert [found[f"lb_endpoint_{name}{second}"] for name in names] == [0, 3, 0, 1]


def test_registrations_that_share_an_address_share_a_sample() -> None:
    twice = [FakeEndpoint(active=1), FakeEndpoint(active=2, suspended_until=99)]
    views = [*endpoint_views("web", "http", twice, now=10), *endpoint_views("web", "tcp", twice[:1], now=10)]
    found = samples(a_page(endpoints=views))
    assert found['lb_endpoint_active_connections{endpoint="10.0.0.1:80",kind="http",service="web"}'] == 3
    assert found['lb_endpoint_available{endpoint="10.0.0.1:80",kind="http",service="web"}'] == 1
    assert found['lb_endpoint_active_connections{endpoint="10.0.0.1:80",kind="tcp",service="web"}'] == 1


def test_catalog_and_problems() -> None:
    problems = [Problem("option", "web", "x"), Problem("option", "shop", "y")]
    found = samples(a_page(catalog=catalog_view(a_snapshot(), FakeWatch(), now=100.0), problems=problems))
    expected = {
        "catalog_age_seconds": 10,
        "catalog_connected": 1,
        "catalog_known_leader": 1,
        "catalog_generation": 7,
        "catalog_fresh": 1,
        "catalog_services": 1,
        'catalog_instances{health="passing"}': 1,
        'catalog_instances{health="warning"}': 0,
        'catalog_instances{health="critical"}': 1,
        "catalog_answers_total": 12,
        'catalog_errors_total{kind="unreachable"}': 2,
        "catalog_refetches_total": 3,
        "catalog_sweeps_total": 1,
        "catalog_publications_total": 4,
        "catalog_agent_changes_total": 5,
        'lb_problems{kind="option"}': 2,
        'lb_problems{kind="listener"}': 0,
    }
    assert expected.items() <= found.items()


def test_workers() -> None:
    alive = (WorkerView(0, 100, 1.0, 2.5, 1 << 20, 9), WorkerView(3, 101, 2.0, 0.5, 2 << 20, 8))
    found = samples(a_page(workers=WorkersView(alive, restarts=4)))
    expected = {
        "lb_workers": 2,
        "lb_worker_restarts_total": 4,
        'lb_worker_cpu_seconds_total{worker="0"}': 2.5,
        'lb_worker_cpu_seconds_total{worker="3"}': 0.5,
        'lb_worker_resident_memory_bytes{worker="3"}': 2 << 20,
        'lb_worker_open_fds{worker="0"}': 9,
    }
    assert expected.items() <= found.items()
    assert not any(key.startswith("lb_worker") for key in samples(a_page()))


def test_the_age_is_absent_before_the_first_answer() -> None:
    assert "catalog_age_seconds" not in samples(a_page())


def test_the_process_and_further_collectors_are_on_the_page() -> None:
    def dns() -> Iterator[Metric]:
        yield CounterMetricFamily("dns_queries_total", "Queries.", value=5)

    found = samples(a_page(extra=[dns]))
    assert found["dns_queries_total"] == 5
    assert found["process_open_fds"] > 0
    assert any(key.startswith("python_info{") for key in found)


def test_a_scraper_of_open_metrics_gets_them() -> None:
    page, content_type = a_page(busy_stats()).render(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_open_metrics(page.decode())}  # type: ignore[no-untyped-call]
    assert {"lb_http_requests", "lb_http_request_duration_seconds", "catalog_answers"} <= names
    assert a_page().render("text/html")[1].startswith("text/plain")


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_a_large_family_in_pieces_is_one_family(accept: str) -> None:
    stats = Stats()
    for number in range(1001):
        stats.http(f"web-{number}\r#\n").record(200, 0.1, 1, 1)
    metrics = a_page(stats)
    pieces = list(metrics.stream(accept)[0])
    assert max(map(len, pieces)) < 64 << 10
    page = b"".join(pieces).decode()
    for name in ("lb_http_requests", "lb_http_request_duration_seconds", "lb_http_sent_bytes"):
        assert len(re.findall(rf"^# TYPE {name}(_total)? ", page, re.MULTILINE)) == 1
    families = parse_open_metrics(page) if accept else parse_plain(page)  # type: ignore[no-untyped-call]
    sent = next(family for family in families if family.name == "lb_http_sent_bytes")
    assert len(sent.samples) == 1001


def test_the_page_is_what_prometheus_client_writes() -> None:
    class Everything(Collector):
        def collect(self) -> Iterable[Metric]:
            return [family for family in metrics.collect() if not family.name.startswith(("process_", "python_"))]

    metrics = a_page(busy_stats(), endpoints=list(endpoint_views("web", "http", [FakeEndpoint()], now=0)))
    ours = metrics.render()[0].decode()
    assert ours.startswith(generate_latest(Everything()).decode().split("# HELP lb_access_log")[0])


def test_names_follow_the_rules_of_prometheus() -> None:
    """What promtool checks: prefixes, base units, `_total` for counters alone, help texts."""
    units = ("milliseconds", "minutes", "hours", "kilobytes", "megabytes", "ms", "kb", "mb", "percent")
    watched = catalog_view(a_snapshot(), FakeWatch(), now=100.0)
    metrics = a_page(busy_stats(), catalog=watched, workers=WorkersView())
    families = [family for family in metrics.collect() if not family.name.startswith(("process_", "python_"))]
    assert len(families) > 30
    for family in families:
        assert re.fullmatch(r"(lb|catalog)_[a-z_]+[a-z]", family.name)
        assert not set(family.name.split("_")) & set(units), family.name
        assert (family.type == "counter") or not family.name.endswith(("_total", "_count", "_sum")), family.name
        assert family.documentation.endswith("."), family.name
