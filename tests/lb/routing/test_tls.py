"""Services behind the TLS listeners: their server names, their options, who has what is claimed twice."""

from __future__ import annotations

import pytest

from lb.catalog.model import Problem, Service
from lb.routing.options import Route
from lb.routing.table import RoutingTable
from lb.settings import RoutingSettings
from tests.lb.routing.services import instance, service, table_of


def found(table: RoutingTable, name: str) -> str | None:
    route = table.lookup_tls(name.encode())
    return None if route is None else route.service


def only_route(kind: str, *tags: str, **meta: str) -> Route:
    table = table_of(service("web-443", *tags, **meta))
    assert not table.problems
    return {"tls": table.tls.get("web-443"), "tcp": table.tcp.get(443)}[kind] or pytest.fail("no route")


def test_a_connection_is_led_by_its_server_name() -> None:
    table = table_of(service("web", "tls"), service("api", "tls", lb_host="a.x.org"), service("plain", "http"))
    assert found(table, "web.example.com") == "web"
    assert found(table, "api.example.com") == "api"
    assert found(table, "a.x.org") == "api"
    for name in ("plain.example.com", "example.com", "b.web.example.com", "x.org", ""):
        assert found(table, name) is None


def test_a_name_of_its_own_goes_before_wildcards_and_the_longest_of_those_wins() -> None:
    table = table_of(
        service("own", "tls", lb_host="a.x.org"),
        service("near", "tls", lb_host="*.x.org"),
        service("far", "tls", lb_host="*.org"),
    )
    assert [found(table, name) for name in ("a.x.org", "b.x.org", "a.b.x.org", "y.org")] == [
        "own",
        "near",
        "near",
        "far",
    ]
    assert found(table, "org") is None


def test_the_names_of_http_and_tls_do_not_meet() -> None:
    table = table_of(service("a", "http", lb_host="x.org"), service("b", "tls", lb_host="x.org"))
    assert not table.problems
    route = table.lookup(b"x.org", b"/")
    assert route is not None
    assert route.service == "a"
    assert found(table, "x.org") == "b"
    assert table.lookup(b"b.example.com", b"/") is None


def test_one_service_may_be_all_three() -> None:
    table = table_of(service("web-443", "http", "tcp", "tls", lb_path="/shop"))
    assert not table.problems
    assert found(table, "web-443.example.com") == "web-443"
    assert (set(table.http), set(table.tcp), set(table.tls)) == ({"web-443"}, {443}, {"web-443"})


def test_the_first_service_by_name_has_what_is_claimed_twice() -> None:
    table = table_of(service("a", "tls", lb_host="x.org"), service("b", "tls", lb_host="x.org,y.org"))
    assert (found(table, "x.org"), found(table, "y.org")) == ("a", "b")
    assert table.problems == (Problem("route", "b", "TLS name x.org is taken by service a"),)
    assert table.tls["b"].hosts == ("b.example.com", "y.org")


def test_a_service_that_gets_no_name_has_no_route() -> None:
    settings = RoutingSettings()
    table = table_of(service("a", "tls", lb_host="x.org"), service("b", "tls", lb_host="x.org"), settings=settings)
    assert set(table.tls) == {"a"}
    nameless = table_of(service("web", "http", "tls"), settings=settings)
    assert nameless.problems == (Problem("route", "web", "no domain is set, and lb_host names no host"),)


def test_the_defaults_are_those_of_tcp() -> None:
    route = only_route("tls", "tls")
    assert (route.policy, route.proxy_protocol) == ("least_conn", "")
    assert [(each.max_fails, each.fail_timeout, each.max_conns) for each in route.endpoints] == [(3, 30, 0)]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_service_may_ask_for_a_proxy_header(kind: str, version: str) -> None:
    assert only_route(kind, kind, lb_proxy_protocol=version).proxy_protocol == version


def test_an_unknown_version_of_the_proxy_protocol_is_none() -> None:
    table = table_of(service("web", "tls", lb_proxy_protocol="v3"))
    assert table.tls["web"].proxy_protocol == ""
    reason = "'v3' is no version of the PROXY protocol; there are v1, v2"
    assert table.problems == (Problem("option", "web/web-1@n lb_proxy_protocol", reason),)


def test_the_newest_registration_decides_on_the_proxy_header() -> None:
    old = instance("web-1", tags=("tls",), index=1)
    new = instance("web-2", tags=("tls",), index=2, meta={"lb_proxy_protocol": "v2"})
    table = table_of(Service("web", (old, new)))
    assert table.tls["web"].proxy_protocol == "v2"
    assert [problem.subject for problem in table.problems] == ["web/web-1@n lb_proxy_protocol"]


@pytest.mark.parametrize(
    ("tag", "key", "owners"),
    [
        ("tls", "lb_path", "http"),
        ("tls", "lb_port", "tcp"),
        ("tcp", "lb_host", "http or tls"),
        ("http", "lb_proxy_protocol", "tcp or tls"),
    ],
)
def test_an_option_of_another_kind_is_named(tag: str, key: str, owners: str) -> None:
    table = table_of(service("web-1", tag, **{key: "v1"}))
    assert Problem("option", f"web-1/web-1-1@n {key}", f"has no effect without the tag {owners}") in table.problems
