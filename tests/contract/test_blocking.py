"""Blocking queries: what wakes them, what does not, and what they bring."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.contract.calls import NODE, ask, asking, index, refusal, settled
from tests.support.consul import ConsulApi

SERVICES = "/v1/catalog/services"
ANY = "/v1/health/state/any"
WEB = "/v1/health/service/web"


def test_waits_unchanged_until_the_wait_is_over(api: ConsulApi) -> None:
    before = ask(api, SERVICES)
    start = time.monotonic()
    after = ask(api, SERVICES, index=before.index, wait="300ms")
    assert time.monotonic() - start >= 0.3
    assert after == before


def test_index_ahead_of_the_catalog_waits_and_shows_the_true_index(api: ConsulApi) -> None:
    before = index(api, SERVICES)
    start = time.monotonic()
    assert ask(api, SERVICES, index=before + 1_000_000, wait="300ms").index == before
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("params", [{"index": 0}, {"wait": "1m"}, {"index": 1}, {"index": 1, "wait": "20m"}])
def test_does_not_wait_for_what_is_already_there(api: ConsulApi, params: dict[str, Any]) -> None:
    api.register("web", 80)
    settled(lambda: ask(api, WEB).body, "web is there")
    assert ask(api, WEB, timeout=5, **params).body


@pytest.mark.parametrize("wait", ["1m", "0s", "-1s", ""])
def test_returns_with_the_change(api: ConsulApi, wait: str) -> None:
    """A wait of nothing, or less, is the default of five minutes."""
    before = index(api, SERVICES)
    with asking(api, SERVICES, index=before, wait=wait) as waiting:
        api.register("web", 80, tags=["http", "v1"])
        after = waiting.result(10)
    assert after.index > before
    assert sorted(after.body["web"]) == ["http", "v1"]


def test_service_that_does_not_exist_yet_can_be_waited_for(api: ConsulApi) -> None:
    with asking(api, WEB, index=index(api, WEB), wait="1m") as waiting:
        api.register("web", 80)
        assert [entry["Service"]["ID"] for entry in waiting.result(10).body] == ["web-80"]


def test_last_instance_that_leaves_wakes_the_watch_of_its_service(api: ConsulApi) -> None:
    api.register("web", 80)
    settled(lambda: ask(api, WEB).body, "web is there")
    before = index(api, WEB)
    with asking(api, WEB, index=before, wait="1m") as waiting:
        api.deregister("web-80")
        after = waiting.result(10)
    assert (after.body, after.index > before) == ([], True)


def test_check_wakes_watches_of_its_service_and_of_states(api: ConsulApi) -> None:
    api.register("web", 80, ttl_check="passing")
    settled(lambda: ask(api, WEB).body, "web is there")
    with (
        asking(api, WEB, index=index(api, WEB), wait="1m") as service,
        asking(api, ANY, index=index(api, ANY), wait="1m", filter='Status != "passing"') as states,
    ):
        api.set_health("web-80", "critical")
        assert {c["CheckID"]: c["Status"] for c in service.result(10).body[0]["Checks"]} == {
            "serfHealth": "passing",
            "service:web-80": "critical",
        }
        assert [c["CheckID"] for c in states.result(10).body] == ["service:web-80"]


def test_each_service_has_an_index_of_its_own(api: ConsulApi) -> None:
    api.register("web", 80)
    settled(lambda: ask(api, WEB).body, "web is there")
    before = index(api, WEB), index(api, "/v1/catalog/service/web")
    api.register("other", 81)
    settled(lambda: ask(api, "/v1/health/service/other").body, "other is there")
    api.deregister("other-81")
    settled(lambda: not ask(api, "/v1/health/service/other").body, "other is gone")
    assert (index(api, WEB), index(api, "/v1/catalog/service/web")) == before


def test_identical_registration_changes_no_index(api: ConsulApi) -> None:
    options: dict[str, Any] = {"tags": ["http"], "meta": {"a": "b"}, "weight": 3, "ttl_check": "passing"}
    api.register("web", 80, **options)
    settled(lambda: ask(api, WEB).body, "web is there")
    paths = (WEB, "/v1/catalog/service/web", "/v1/catalog/nodes")
    before = [index(api, path) for path in paths]
    api.register("web", 80, **options)
    api.register("later", 81)
    settled(lambda: ask(api, "/v1/health/service/later").body, "the later registration is there")
    assert [index(api, path) for path in paths] == before


def test_identical_node_changes_no_index(api: ConsulApi) -> None:
    node = {"Node": "external", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}}
    api.put("/v1/catalog/register", node)
    paths = (SERVICES, WEB, "/v1/catalog/nodes", "/v1/catalog/node/external")
    before = [index(api, path) for path in paths]
    api.put("/v1/catalog/register", node)
    assert [index(api, path) for path in paths] == before


def test_node_that_changes_raises_the_indexes_of_its_services(api: ConsulApi) -> None:
    node = {"Node": "external", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}}
    api.put("/v1/catalog/register", node)
    services, web, nodes = index(api, SERVICES), index(api, WEB), index(api, "/v1/catalog/nodes")
    api.put("/v1/catalog/register", {"Node": "external", "Address": "10.0.0.10"})
    assert index(api, WEB) > web
    assert index(api, "/v1/catalog/nodes") > nodes
    assert index(api, SERVICES) == services
    assert ask(api, WEB).body[0]["Node"]["Address"] == "10.0.0.10"


def test_check_of_a_node_raises_the_indexes_of_its_services(api: ConsulApi) -> None:
    api.put(
        "/v1/catalog/register",
        {"Node": "external", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}},
    )
    services, web, states = index(api, SERVICES), index(api, WEB), index(api, ANY)
    api.put(
        "/v1/catalog/register",
        {"Node": "external", "SkipNodeUpdate": True, "Check": {"Name": "disk", "Status": "critical"}},
    )
    assert index(api, WEB) > web
    assert index(api, ANY) > states
    assert index(api, SERVICES) == services


def test_service_that_leaves_raises_the_indexes_of_services_and_checks(api: ConsulApi) -> None:
    """The second although the service has no check: a watch of states learns of it too."""
    api.put(
        "/v1/catalog/register",
        {"Node": "external", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}},
    )
    services, states, nodes = index(api, SERVICES), index(api, ANY), index(api, "/v1/catalog/nodes")
    api.deregister_external("external", "web")
    assert index(api, SERVICES) > services
    assert index(api, ANY) > states
    assert index(api, "/v1/catalog/nodes") == nodes


def test_service_that_left_has_the_index_of_that_moment(api: ConsulApi) -> None:
    node = {"Node": "external", "Address": "10.0.0.9", "Service": {"Service": "web", "Port": 80}}
    api.put("/v1/catalog/register", node)
    before = index(api, WEB)
    api.deregister_external("external", "web")
    gone = index(api, WEB)
    assert gone > before
    assert index(api, "/v1/health/service/never-seen") == gone
    api.put("/v1/catalog/register", node)
    assert index(api, WEB) > gone


def test_unknown_node_has_index_1(api: ConsulApi) -> None:
    assert index(api, "/v1/catalog/node/none") == 1


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"index": "abc"}, "Invalid index"),
        ({"index": "-1"}, "Invalid index"),
        ({"wait": "abc"}, "Invalid wait time"),
        ({"wait": "10"}, "Invalid wait time"),
        (
            {"stale": "", "consistent": ""},
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
    ],
)
def test_bad_parameters_are_refused(api: ConsulApi, params: dict[str, Any], reason: str) -> None:
    assert refusal(api, "GET", SERVICES, **params) == (400, reason)


@pytest.mark.parametrize("path", [SERVICES, WEB, f"/v1/catalog/node/{NODE}", ANY])
def test_unknown_datacenter_is_refused(api: ConsulApi, path: str) -> None:
    assert refusal(api, "GET", path, dc="dc9") == (500, "No path to datacenter")


@pytest.mark.parametrize("mode", ["stale", "consistent"])
def test_every_consistency_is_answered_with_a_known_leader(api: ConsulApi, mode: str) -> None:
    params: dict[str, Any] = {mode: ""}
    _, headers, _ = api.request("GET", SERVICES, **params)
    assert headers["X-Consul-KnownLeader"] == "true"
    assert headers["X-Consul-LastContact"] == "0"
    assert headers["X-Consul-Effective-Consistency"] == mode
    assert headers["Content-Type"] == "application/json"
