"""Which route a request takes, who has what is claimed twice, what is read anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.catalog.model import Problem, Service, Snapshot
from lb.routing.table import RoutingTable, build
from lb.settings import RoutingSettings
from tests.lb.routing.services import SETTINGS, service, table_of


def found(table: RoutingTable, host: str, path: str = "/") -> str | None:
    route = table.lookup(host.encode(), path.encode())
    return None if route is None else route.service


# Hosts


def test_a_request_is_led_by_its_host() -> None:
    table = table_of(service("web", "http"), service("api", "http"), service("hidden"))
    assert found(table, "web.example.com") == "web"
    assert found(table, "api.example.com", "/any/path") == "api"
    for host in ("hidden.example.com", "example.com", "web", "xweb.example.com", "a.web.example.com", ""):
        assert found(table, host) is None


def test_a_host_of_its_own_goes_before_wildcards_and_the_longest_of_those_wins() -> None:
    table = table_of(
        service("own", "http", lb_host="a.x.org"),
        service("near", "http", lb_host="*.x.org"),
        service("far", "http", lb_host="*.org"),
    )
    assert found(table, "a.x.org") == "own"
    assert found(table, "b.x.org") == "near"
    assert found(table, "a.b.x.org") == "near"
    assert found(table, "x.org") == "far"
    assert found(table, "y.org") == "far"
    assert found(table, "org") is None
    assert found(table, "a.com") is None


def test_a_very_long_host_is_no_work() -> None:
    table = table_of(service("web", "http", lb_host="*.x.org"))
    assert found(table, "a." * 4000 + "x.org") is None


# Paths


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "root"),
        ("/other", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x/y/z", "api"),
        ("/apix", "root"),
        ("/api/v2", "v2"),
        ("/api/v2/x", "v2"),
        ("/api/v22", "api"),
        ("/x/api", "root"),
        ("/ü/x", "umlaut"),
        ("*", "root"),
    ],
)
def test_the_longest_path_that_ends_on_a_segments_border_wins(path: str, name: str) -> None:
    table = table_of(
        service("root", "http", lb_host="a.com"),
        service("api", "http", lb_host="a.com", lb_path="/api"),
        service("v2", "http", lb_host="a.com", lb_path="/api/v2/"),
        service("umlaut", "http", lb_host="a.com", lb_path="/ü"),
    )
    assert found(table, "a.com", path) == name


def test_a_host_with_no_route_for_the_path_has_none_even_beside_a_wildcard() -> None:
    table = table_of(
        service("api", "http", lb_host="a.x.org", lb_path="/api"), service("all", "http", lb_host="*.x.org")
    )
    assert found(table, "a.x.org", "/api/1") == "api"
    assert found(table, "a.x.org", "/") is None


segment = st.sampled_from(["a", "b", "ab", "c"])
some_path = st.lists(segment, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.sets(some_path, min_size=1), some_path)
def test_paths_match_as_comparing_with_each_prefix_would(prefixes: set[str], path: str) -> None:
    names = {f"s{n}": prefix for n, prefix in enumerate(sorted(prefixes))}
    table = table_of(*(service(name, "http", lb_host="a.com", lb_path=prefix) for name, prefix in names.items()))
    fitting = [name for name, prefix in names.items() if (path + "/").startswith(prefix.rstrip("/") + "/")]
    expected = max(fitting, key=lambda name: len(names[name]), default=None)
    assert found(table, "a.com", path) == expected


# Claims


def test_tcp_routes_are_by_port() -> None:
    table = table_of(service("a-1000", "tcp"), service("b-2000", "tcp"), service("web", "http"))
    assert {port: route.service for port, route in table.tcp.items()} == {1000: "a-1000", 2000: "b-2000"}
    assert set(table.http) == {"web"}


def test_a_host_and_path_belong_to_the_first_by_name() -> None:
    table = table_of(
        service("b", "http", lb_host="x.org"),
        service("a", "http", lb_host="x.org"),
        service("c", "http", lb_host="x.org", lb_path="/c"),
    )
    assert found(table, "x.org") == "a"
    assert found(table, "b.example.com") == "b"
    assert found(table, "x.org", "/c") == "c"
    assert table.problems == (Problem("route", "b", "x.org/ is taken by service a"),)
    assert table.http["b"].hosts == ("b.example.com",)


def test_a_service_that_loses_all_its_hosts_has_no_route() -> None:
    table = table_of(service("web", "http"), service("WEB", "http"))
    assert set(table.http) == {"WEB"}
    assert [p.subject for p in table.problems] == ["web"]


def test_a_tcp_port_belongs_to_the_first_by_name() -> None:
    table = table_of(service("b-99", "tcp"), service("a-99", "tcp"))
    assert table.tcp[99].service == "a-99"
    assert table.problems == (Problem("route", "b-99", "port 99 is taken by service a-99"),)


def test_what_the_first_gives_up_goes_to_the_next() -> None:
    a, b = service("a", "http", lb_host="x.org"), service("b", "http", lb_host="x.org")
    before = build(Snapshot({"a": a, "b": b}), SETTINGS)
    after = build(Snapshot({"b": b}), SETTINGS, before)
    assert found(after, "x.org") == "b"
    assert after.http["b"].hosts == ("b.example.com", "x.org")
    assert after.problems == ()


def test_problems_of_services_and_of_claims_are_all_there() -> None:
    table = table_of(service("db", "tcp"), service("web", "http", lb_max_fails="x"), service("z"))
    assert [p.kind for p in table.problems] == ["route", "option"]


def test_an_empty_catalog_leads_nowhere() -> None:
    table = build(Snapshot(), SETTINGS)
    assert found(table, "web.example.com") is None
    assert (dict(table.http), dict(table.tcp), table.problems) == ({}, {}, ())


# Change


def test_an_unchanged_service_keeps_its_route_object_and_so_does_one_whose_route_is_the_same() -> None:
    web, api, new = service("web", "http", lb_max_fails="x"), service("api", "http"), service("new", "http")
    first = build(Snapshot({"web": web, "api": api, "new": new}), SETTINGS)
    others = {"api": service("api", "http"), "new": service("new", "http", lb_path="/new")}
    second = build(Snapshot({"web": web, **others}), SETTINGS, first)
    assert second.http["web"] is first.http["web"]
    assert second.http["api"] is first.http["api"]
    assert second.http["new"] is not first.http["new"]
    assert second.problems == first.problems != ()


some_services = st.dictionaries(
    st.sampled_from(["a-1", "A-1", "b-1", "c-2", "d-3"]),
    st.tuples(
        st.sets(st.sampled_from(["http", "tcp", "tls"])),
        st.sampled_from([{}, {"lb_host": "x.org"}, {"lb_host": "*.org,x.org"}, {"lb_port": "7"}, {"lb_path": "/a/b"}]),
    ),
)


@given(st.lists(some_services, min_size=2, max_size=6))
def test_a_table_made_of_the_one_before_is_as_one_made_from_nothing(
    catalogs: list[dict[str, tuple[set[str], dict[str, str]]]],
) -> None:
    known: dict[str, Service] = {}
    table: RoutingTable | None = None
    for catalog in catalogs:
        # A service with the tags and options that it had is the same object.
        wanted = {name: service(name, *sorted(tags), **options) for name, (tags, options) in catalog.items()}
        known = {name: known[name] if known.get(name) == new else new for name, new in wanted.items()}
        table = build(Snapshot(known), SETTINGS, table)
        fresh = build(Snapshot(known), SETTINGS)
        assert (table.http, table.tcp, table.tls, table.problems) == (fresh.http, fresh.tcp, fresh.tls, fresh.problems)
        for host in ("x.org", "y.org", *(f"{name.lower()}.example.com" for name in ("a-1", "b-1", "c-2", "d-3"))):
            for path in ("/", "/a/b/c"):
                assert table.lookup(host.encode(), path.encode()) == fresh.lookup(host.encode(), path.encode())
            assert table.lookup_tls(host.encode()) == fresh.lookup_tls(host.encode())


def test_a_service_that_left_is_gone_and_the_old_table_is_as_it_was() -> None:
    first = table_of(service("web", "http"), service("api", "http"))
    second = build(Snapshot({"web": service("web", "http")}), SETTINGS, first)
    assert found(second, "api.example.com") is None
    assert found(first, "api.example.com") == "api"


def test_other_settings_read_everything_anew() -> None:
    web = service("web", "http")
    first = build(Snapshot({"web": web}), SETTINGS)
    second = build(Snapshot({"web": web}), RoutingSettings(("other.org",)), first)
    assert found(second, "web.other.org") == "web"
    assert found(second, "web.example.com") is None


def test_a_table_cannot_be_changed() -> None:
    table = table_of(service("web", "http"))
    with pytest.raises(TypeError):
        table.http["other"] = table.http["web"]  # type: ignore[index]
