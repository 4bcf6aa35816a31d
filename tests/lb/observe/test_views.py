"""What a node shows of itself, as plain data."""

from __future__ import annotations

import json

import pytest

from lb.catalog.model import Problem, Service, Snapshot
from lb.observe.stats import Stats
from lb.observe.views import (
    CatalogView,
    WorkerView,
    catalog_view,
    endpoint_views,
    route_json,
    services_json,
    without_credentials,
    worker_json,
)
from tests.lb.observe.samples import FakeEndpoint, FakeRoute, FakeWatch, a_snapshot, a_status


def test_the_state_of_an_endpoint_names_why_it_is_not_chosen() -> None:
    group = [
        FakeEndpoint(),
        FakeEndpoint(suspended_until=100),
        FakeEndpoint(max_conns=2, active=2),
        FakeEndpoint(weight=0),
    ]
    views = list(endpoint_views("web", "http", group, now=100))
    assert [view.state for view in views] == ["up", "suspended", "full", "off"]
    assert [view.available for view in views] == [True, False, False, False]
    assert [view.state for view in endpoint_views("web", "http", group[:2], now=101)] == ["up", "up"]


def test_an_endpoint_alone_is_chosen_whatever_its_failures() -> None:
    group = [FakeEndpoint(suspended_until=100), FakeEndpoint(weight=0)]
    assert [view.state for view in endpoint_views("web", "http", group, now=1)] == ["up", "off"]


def test_a_virtual_host_is_shown_with_its_endpoints() -> None:
    views = endpoint_views("web", "http", [FakeEndpoint(active=2, fails=1)], now=0)
    assert route_json(FakeRoute(path="/shop"), views) == {
        "service": "web",
        "kind": "http",
        "hosts": ["web.example.com"],
        "path": "/shop",
        "policy": "round_robin",
        "endpoints": [
            {
                "endpoint": "10.0.0.1:80",
                "node": "node-1",
                "id": "web-1",
                "weight": 1,
                "active": 2,
                "fails": 1,
                "max_fails": 3,
                "fail_timeout": 60,
                "max_conns": 0,
                "state": "up",
            }
        ],
    }


def test_a_tcp_route_is_shown_with_its_port() -> None:
    shown = route_json(FakeRoute("redis-6379", "tcp", "least_conn", (), "", 6379), ())
    assert shown == {
        "service": "redis-6379",
        "kind": "tcp",
        "port": 6379,
        "policy": "least_conn",
        "endpoints": [],
    }


def test_a_service_shows_instances_refusals_and_problems_apart() -> None:
    option = Problem("option", "web/web-1@n1 lb_max_fails", "not a number: 'x'")
    (web,) = services_json(a_snapshot(), [option])
    assert web["tags"] == ["blue", "http"]
    assert [(each["id"], each["health"], each["weight"]) for each in web["instances"]] == [
        ("web-1", "passing", 3),
        ("web-2", "critical", 1),
    ]
    assert web["instances"][0]["meta"] == {"lb_policy": "random"}
    assert web["refused"] == [{"kind": "instance", "subject": "web/web-3@n3", "reason": "port 0"}]
    assert [problem["subject"] for problem in web["problems"]] == ["web/web-1@n1 lb_max_fails"]


@pytest.mark.parametrize(
    ("subject", "service"),
    [
        ("web", "web"),
        ("web/web-1@n1", "web"),
        ("web lb_host", "web"),
        ("team/web/web-1@n1", "team/web"),
        ("unknown/x@n1 lb_port", "unknown"),
    ],
)
def test_a_problem_belongs_to_the_service_that_its_subject_names(subject: str, service: str) -> None:
    known = Snapshot({name: Service(name) for name in ("web", "team/web", "team")})
    found = [each["service"] for each in services_json(known, [Problem("route", subject, "x")]) if each["problems"]]
    assert found == [service]


def test_a_listener_problem_makes_no_service() -> None:
    assert list(services_json(Snapshot(), [Problem("listener", "tcp 0.0.0.0:9999", "in use")])) == []


def test_the_catalog_view_joins_snapshot_and_watch() -> None:
    view = catalog_view(a_snapshot(), FakeWatch(), now=100.0)
    assert (view.age, view.generation, view.services) == (10.0, 7, 1)
    assert view.instances == {"passing": 1, "warning": 0, "critical": 1}
    assert view.errors == {"unreachable": 2}


def test_before_the_first_answer_the_catalog_has_no_age() -> None:
    assert catalog_view(Snapshot(), FakeWatch(answered_at=None), now=100.0).age is None


def test_credentials_of_an_agent_are_not_shown() -> None:
    view = catalog_view(Snapshot(), FakeWatch(agent="https://user:secret@[::1]:8501/x"), now=1.0)
    assert view.agent == "https://[::1]:8501/x"
    assert without_credentials("http://127.0.0.1:8500") == "http://127.0.0.1:8500"


def test_status_counts_traffic_of_all_services() -> None:
    stats = Stats()
    stats.http("web").record(200, 0.1, 1, 1)
    stats.http("web").record(502, 0.1, 1, 1)
    stats.http("shop").record(200, 0.1, 1, 1)
    stats.http("shop").active = 2
    stats.http("shop").retries = 4
    stats.tcp("redis").open()
    stats.tls("web").open()
    stats.tls("web").open()
    stats.tls("web").close("ok", 1.0)
    assert a_status(stats=stats)["traffic"] == {
        "http_requests": 3,
        "http_active": 2,
        "http_errors": 1,
        "retries": 4,
        "tcp_sessions": 1,
        "tcp_active": 1,
        "tls_sessions": 2,
        "tls_active": 1,
    }


def test_status_names_the_workers_where_there_are_any() -> None:
    worker = WorkerView(number=1, pid=101, started=50.0, cpu_seconds=2.5, resident_bytes=1 << 20, open_fds=20)
    assert a_status(workers=[worker_json(worker, now=51.23456)])["workers"] == [
        {
            "number": 1,
            "pid": 101,
            "uptime": 1.235,
            "cpu_seconds": 2.5,
            "resident_bytes": 1 << 20,
            "open_fds": 20,
        }
    ]
    assert a_status()["workers"] is None


def test_status_is_ready_for_json_and_names_listeners_and_problems() -> None:
    status = json.loads(json.dumps(a_status(catalog=CatalogView(instances=a_status()["routes"]))))
    assert [(each["listener"], each["up"], each["error"]) for each in status["listeners"]] == [
        ("http 0.0.0.0:80", True, ""),
        ("tcp 0.0.0.0:9999", False, "address already in use"),
    ]
    assert [each["rejected_connections"] for each in status["listeners"]] == [{"no_proxy_header": 1}, {}]
    assert status["problems"][0]["reason"] == "not a number: 'x'"
    assert status["catalog"]["age"] is None
