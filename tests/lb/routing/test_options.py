"""From a service's tags and meta keys to its routes."""

from __future__ import annotations

import pytest

from lb.catalog.model import Service
from lb.routing.options import EndpointOptions, Route, read_service
from tests.lb.routing.services import instance, service

DOMAINS = ("example.com",)


def routes(one: Service) -> tuple[Route, ...]:
    """Read a service of which everything can be used."""
    read = read_service(one, DOMAINS)
    assert read.problems == ()
    return read.routes


def problems(one: Service, domains: tuple[str, ...] = DOMAINS) -> list[tuple[str, str, str]]:
    return [(p.kind, p.subject, p.reason) for p in read_service(one, domains).problems]


def endpoint(one: Service) -> EndpointOptions:
    (route,) = read_service(one, DOMAINS).routes
    (only,) = route.endpoints
    return only


# What exposes a service, and its defaults


def test_a_service_without_the_tags_has_no_route_and_no_problem() -> None:
    assert routes(service("web", "v1", lb_policy="nonsense")) == ()


def test_the_tag_http_gives_a_virtual_host_with_the_templates_defaults() -> None:
    (route,) = routes(service("web", "http"))
    assert (route.service, route.kind, route.policy) == ("web", "http", "round_robin")
    assert (route.hosts, route.path) == (("web.example.com",), "/")
    assert route.endpoints == (
        EndpointOptions(
            ("n", "web-1", "10.0.0.1", 8080),
            "10.0.0.1",
            8080,
            weight=1,
            max_fails=3,
            fail_timeout=60,
            max_conns=0,
        ),
    )


def test_the_tag_tcp_gives_the_port_of_the_name_with_the_templates_defaults() -> None:
    (route,) = routes(service("tcpfront-9999", "tcp"))
    assert (route.service, route.kind, route.policy, route.port) == ("tcpfront-9999", "tcp", "least_conn", 9999)
    (only,) = route.endpoints
    assert (only.max_fails, only.fail_timeout, only.max_conns) == (3, 30, 0)


def test_a_service_may_have_both() -> None:
    assert [route.kind for route in routes(service("web-80", "http", "tcp"))] == ["http", "tcp"]


def test_each_domain_gives_a_virtual_host() -> None:
    (route,) = read_service(service("Web", "http"), ("a.com", "b.org")).routes
    assert route.hosts == ("web.a.com", "web.b.org")


def test_the_tag_of_any_instance_exposes_all_passing_ones() -> None:
    one = Service(
        "web",
        (
            instance("1", tags=["http"], health="critical"),
            instance("2", tags=[]),
            instance("3", tags=[], health="warning"),
            instance("4", tags=["v2"]),
        ),
    )
    (route,) = routes(one)
    assert [e.key[1] for e in route.endpoints] == ["2", "4"]


def test_a_service_without_a_passing_instance_keeps_its_route() -> None:
    (route,) = routes(Service("web", (instance(health="critical"),)))
    assert route.endpoints == ()


def test_the_weight_is_consuls_and_may_be_0() -> None:
    one = Service("web", (instance("1", weight=7), instance("2", weight=0)))
    (route,) = routes(one)
    assert [e.weight for e in route.endpoints] == [7, 0]


# Options


def test_options_of_an_instance() -> None:
    only = endpoint(service("web", "http", lb_max_fails="5", lb_fail_timeout="1m", lb_max_conns="100"))
    assert (only.max_fails, only.fail_timeout, only.max_conns) == (5, 60, 100)


def test_options_of_the_service() -> None:
    (route,) = routes(
        service("web", "http", lb_policy="ip_hash", lb_host="a.com, *.B.org ,,web.example.com", lb_path="/api/")
    )
    assert route.policy == "ip_hash"
    assert route.hosts == ("web.example.com", "a.com", "*.b.org")
    assert route.path == "/api"


def test_lb_port_goes_before_the_name() -> None:
    assert [r.port for r in routes(service("db", "tcp", lb_port="5432"))] == [5432]
    assert [r.port for r in routes(service("db-1", "tcp", lb_port="5432"))] == [5432]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("lb_max_fails", "three", "'three' is not a whole number from 0 to 2147483647"),
        ("lb_fail_timeout", "500ms", "'500ms' is not a time in whole seconds, such as 30s, 1m or 90"),
        ("lb_max_conns", "-1", "'-1' is not a whole number from 0 to 2147483647"),
        ("lb_policy", "x", "'x' is no policy; there are round_robin, least_conn, random, ip_hash"),
        ("lb_path", "api", "'api' is not a path: it does not begin with /"),
        ("lb_host", "a b", "'a b' is not a host name"),
    ],
)
def test_a_bad_value_is_named_and_the_default_is_used(key: str, value: str, reason: str) -> None:
    bad = service("web", "http", **{key: value})
    assert problems(bad) == [("option", f"web/web-1@n {key}", reason)]
    assert read_service(bad, DOMAINS).routes == read_service(service("web", "http"), DOMAINS).routes


def test_a_bad_host_costs_no_other() -> None:
    bad = service("web", "http", lb_host="a.com,b..com,c.com")
    assert problems(bad) == [("option", "web/web-1@n lb_host", "'b..com' is not a host name")]
    (route,) = read_service(bad, DOMAINS).routes
    assert route.hosts == ("web.example.com", "a.com", "c.com")


def test_a_bad_port_falls_back_to_the_name() -> None:
    bad = service("db-5432", "tcp", lb_port="70000")
    assert problems(bad) == [("option", "db-5432/db-5432-1@n lb_port", "'70000' is not a port from 1 to 65535")]
    assert [r.port for r in read_service(bad, DOMAINS).routes] == [5432]


def test_a_bad_value_costs_no_other_instance_anything() -> None:
    one = Service("web", (instance("1", meta={"lb_max_fails": "x"}), instance("2", meta={"lb_max_fails": "9"})))
    (route,) = read_service(one, DOMAINS).routes
    assert [e.max_fails for e in route.endpoints] == [3, 9]


def test_an_option_that_does_not_exist_is_named_once() -> None:
    meta = {"lb_polcy": "random", "version": "1"}
    one = Service("web", (instance("1", meta=meta), instance("2", meta=meta)))
    assert problems(one) == [("option", "web/1@n lb_polcy", "there is no such option")]


def test_an_option_without_effect_is_named() -> None:
    assert problems(service("web", "http", lb_port="80")) == [
        ("option", "web/web-1@n lb_port", "has no effect without the tag tcp")
    ]
    assert problems(service("db-1", "tcp", lb_path="/x")) == [
        ("option", "db-1/db-1-1@n lb_path", "has no effect without the tag http")
    ]


def test_a_bad_value_of_a_service_with_both_tags_is_named_once() -> None:
    assert len(problems(service("web-80", "http", "tcp", lb_max_fails="x"))) == 1


# Instances that disagree


def test_the_newest_registration_decides_for_the_service_and_the_other_is_named() -> None:
    one = Service(
        "web",
        (
            instance("1", meta={"lb_policy": "random"}, index=9),
            instance("2", meta={"lb_policy": "ip_hash"}, index=10),
        ),
    )
    (route,) = read_service(one, DOMAINS).routes
    assert route.policy == "ip_hash"
    assert problems(one) == [
        ("option", "web/1@n lb_policy", "'random' is not used: the newest registration, 2@n, has 'ip_hash'")
    ]


def test_a_newest_registration_without_the_key_decides_too() -> None:
    one = Service("web", (instance("1", meta={"lb_path": "/old"}, index=1), instance("2", index=2)))
    (route,) = read_service(one, DOMAINS).routes
    assert route.path == "/"
    assert problems(one) == [
        ("option", "web/1@n lb_path", "'/old' is not used: the newest registration, 2@n, has no value")
    ]


def test_many_that_disagree_are_one_problem() -> None:
    old = (instance(f"{n}", meta={"lb_policy": "random"}) for n in range(5))
    one = Service("web", (*old, instance("new", meta={"lb_policy": "ip_hash"}, index=2)))
    (problem,) = problems(one)
    assert problem[2].endswith("(5 instances disagree with it)")


def test_the_newest_decides_whatever_its_health() -> None:
    one = Service(
        "web",
        (instance("1", index=1), instance("2", meta={"lb_policy": "random"}, index=2, health="critical")),
    )
    (route,) = read_service(one, DOMAINS).routes
    assert route.policy == "random"


# Services and instances that cannot be used


def test_a_tcp_service_without_a_port_is_named() -> None:
    assert problems(service("db", "tcp")) == [
        ("route", "db", "no TCP port: the name does not end in -<port>, and lb_port gives none")
    ]
    assert read_service(service("db", "tcp"), DOMAINS).routes == ()


def test_an_http_service_without_any_name_is_named() -> None:
    assert problems(service("web", "http"), ()) == [("route", "web", "no domain is set, and lb_host names no host")]


def test_lb_host_is_enough_without_a_domain() -> None:
    (route,) = read_service(service("web", "http", lb_host="a.com"), ()).routes
    assert route.hosts == ("a.com",)


@pytest.mark.parametrize("name", ["my web", "*", "web/1", "-web", "wéb"])
def test_a_service_whose_name_is_no_host_name_is_named(name: str) -> None:
    ((kind, subject, reason),) = problems(service(name, "http"))
    assert (kind, subject) == ("route", name)
    assert reason.endswith("is not a host name")
    (route,) = read_service(service(name, "http", lb_host="a.com"), DOMAINS).routes
    assert route.hosts == ("a.com",)


def test_an_instance_without_a_port_is_named_and_the_others_are_used() -> None:
    one = Service("web", (instance("1", port=0), instance("2")))
    assert problems(one) == [("instance", "web/1@n", "there is no port 0 to connect to")]
    (route,) = read_service(one, DOMAINS).routes
    assert [e.key[1] for e in route.endpoints] == ["2"]
