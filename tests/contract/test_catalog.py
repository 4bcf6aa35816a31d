"""Nodes, services and checks that are written straight into the catalog, and the questions about all of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import urlopen

import pytest

from tests.contract.calls import NODE, ask, health, refusal, settled
from tests.support.consul import ConsulApi

REGISTER, DEREGISTER = "/v1/catalog/register", "/v1/catalog/deregister"
NOT_PASSING = 'Status != "passing"'


def register(api: ConsulApi, node: str = "ext-1", address: str = "10.0.0.1", **more: Any) -> None:
    """Write a node, and on it what `more` names, into the catalog."""
    assert api.put(REGISTER, {"Node": node, "Address": address, **more}) is True


def test_node_is_shown_as_it_was_registered(api: ConsulApi) -> None:
    register(api, NodeMeta={"rack": "r1"}, TaggedAddresses={"wan": "192.0.2.1"})
    nodes = {node["Node"]: node for node in ask(api, "/v1/catalog/nodes").body}
    assert set(nodes) == {NODE, "ext-1"}
    shown = nodes["ext-1"]
    assert (shown["Address"], shown["Datacenter"], shown["ID"]) == ("10.0.0.1", "dc1", "")
    assert (shown["Meta"], shown["TaggedAddresses"]) == ({"rack": "r1"}, {"wan": "192.0.2.1"})


def test_service_on_a_node_carries_the_node(api: ConsulApi) -> None:
    register(api, NodeMeta={"rack": "r1"}, Service={"ID": "w1", "Service": "web", "Port": 80, "Tags": ["http"]})
    [entry] = health(api, "web")
    assert (entry["Node"]["Node"], entry["Node"]["Meta"]) == ("ext-1", {"rack": "r1"})
    assert (entry["Service"]["ID"], entry["Service"]["Address"], entry["Service"]["Port"]) == ("w1", "", 80)
    assert entry["Checks"] == []
    assert ask(api, "/v1/catalog/node/ext-1").body["Services"] == {"w1": entry["Service"]}


def test_weights_that_are_nothing_are_1(api: ConsulApi) -> None:
    register(api, Service={"Service": "web", "Weights": {"Passing": 0}})
    assert health(api, "web")[0]["Service"]["Weights"] == {"Passing": 1, "Warning": 1}


def test_any_port_is_taken(api: ConsulApi) -> None:
    """A catalog may hold what cannot be used; whoever reads it must cope."""
    register(api, Service={"Service": "web", "Port": 70000})
    register(api, "ext-2", "10.0.0.2", Service={"Service": "web", "Port": -1})
    assert [entry["Service"]["Port"] for entry in health(api, "web")] == [70000, -1]


def test_checks_of_node_and_service(api: ConsulApi) -> None:
    checks = [{"Name": "disk", "Status": "passing"}, {"Name": "alive", "CheckID": "c", "ServiceID": "web"}]
    register(api, Service={"Service": "web"}, Checks=checks)
    assert [(c["CheckID"], c["Status"]) for c in health(api, "web")[0]["Checks"]] == [
        ("disk", "passing"),
        ("c", "critical"),
    ]
    assert [c["CheckID"] for c in ask(api, "/v1/health/checks/web").body] == ["c"]
    assert [c["CheckID"] for c in ask(api, "/v1/health/node/ext-1").body] == ["c", "disk"]
    assert health(api, "web", passing="") == []
    assert len(health(api, "web", passing="false")) == 1


def test_instances_come_in_the_order_of_nodes_and_ids(api: ConsulApi) -> None:
    for node, service in (("n2", "b"), ("n2", "a"), ("n1", "c")):
        register(api, node, Service={"ID": service, "Service": "web"})
    order = [("n1", "c"), ("n2", "a"), ("n2", "b")]
    assert [(e["Node"]["Node"], e["Service"]["ID"]) for e in health(api, "web")] == order


def test_tags_narrow_the_answer_without_regard_to_case(api: ConsulApi) -> None:
    register(api, "n1", Service={"Service": "web", "Tags": ["http", "blue"]})
    register(api, "n2", Service={"Service": "web", "Tags": ["http"]})
    for path in ("/v1/health/service/web", "/v1/catalog/service/web"):
        assert len(ask(api, path, tag="http").body) == 2
        assert len(ask(api, path, tag="BLUE").body) == 1
        assert ask(api, path, tag="green").body == []
    with urlopen(f"{api.url}/v1/health/service/web?tag=http&tag=blue", timeout=10) as reply:
        assert len(json.load(reply)) == 1


def test_services_are_listed_with_the_tags_of_all_instances(api: ConsulApi) -> None:
    register(api, "n1", Service={"Service": "web", "Tags": ["a", "b"]})
    register(api, "n2", Service={"Service": "web", "Tags": ["b", "c"]})
    register(api, "n3", Service={"Service": "bare"})
    services = ask(api, "/v1/catalog/services").body
    assert sorted(services["web"]) == ["a", "b", "c"]
    assert services["bare"] == []


def test_names_are_looked_up_without_regard_to_case(api: ConsulApi) -> None:
    register(api, "Node", Service={"Service": "Web", "ID": "W"}, Check={"Name": "c", "Status": "passing"})
    assert health(api, "wEB")[0]["Service"]["Service"] == "Web"
    assert ask(api, "/v1/catalog/node/nODE").body["Node"]["Node"] == "Node"
    assert len(ask(api, "/v1/health/node/NODE").body) == 1


def test_deregistration_of_service_check_and_node(api: ConsulApi) -> None:
    register(api, Service={"Service": "web"}, Check={"CheckID": "c", "Name": "c", "ServiceID": "web"})
    register(api, Service={"Service": "other"})
    api.put(DEREGISTER, {"Node": "ext-1", "CheckID": "c"})
    assert health(api, "web")[0]["Checks"] == []
    api.put(DEREGISTER, {"Node": "ext-1", "ServiceID": "web"})
    assert health(api, "web") == []
    api.put(DEREGISTER, {"Node": "ext-1"})
    assert health(api, "other") == []
    assert ask(api, "/v1/catalog/node/ext-1").body is None
    assert api.put(DEREGISTER, {"Node": "ext-1"}) is True


def test_node_update_can_be_skipped(api: ConsulApi) -> None:
    register(api, NodeMeta={"a": "b"})
    api.put(REGISTER, {"Node": "ext-1", "SkipNodeUpdate": True, "Service": {"Service": "web"}})
    assert health(api, "web")[0]["Node"]["Address"] == "10.0.0.1"
    assert health(api, "web")[0]["Node"]["Meta"] == {"a": "b"}


def test_states_with_and_without_filter(api: ConsulApi) -> None:
    statuses = ("passing", "warning", "critical")
    register(api, Checks=[{"Name": status, "Status": status} for status in statuses])

    def states(state: str, **params: Any) -> set[str]:
        return {check["CheckID"] for check in ask(api, f"/v1/health/state/{state}", **params).body}

    assert states("any") == {"serfHealth", *statuses}
    assert states("any", filter=NOT_PASSING) == {"warning", "critical"}
    assert states("passing") == {"serfHealth", "passing"}
    assert states("warning") == {"warning"}
    assert states("critical", filter=NOT_PASSING) == {"critical"}
    assert states("unheard-of") == set()


def test_what_does_not_exist_is_empty(api: ConsulApi) -> None:
    for path in ("catalog/service", "health/service", "health/checks", "health/node"):
        assert ask(api, f"/v1/{path}/none").body == [], path
    assert ask(api, "/v1/catalog/node/none").body is None


def test_cluster_describes_itself(api: ConsulApi) -> None:
    config = api.get("/v1/agent/self")["Config"]
    assert (config["Datacenter"], config["NodeName"], config["Server"]) == ("dc1", NODE, True)
    assert api.get("/v1/catalog/datacenters") == ["dc1"]
    assert api.get("/v1/status/leader").startswith("127.0.0.1:")


def test_agents_own_node_is_alive(api: ConsulApi) -> None:
    [check] = ask(api, f"/v1/health/node/{NODE}").body
    assert (check["CheckID"], check["Name"]) == ("serfHealth", "Serf Health Status")
    assert (check["Status"], check["Output"]) == ("passing", "Agent alive and reachable")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 500, "Must provide node"),
        ({"Node": "n"}, 500, "Must provide address if SkipNodeUpdate is not set"),
        ({"Node": "n", "Address": "10.0.0.1", "Datacenter": "dc9"}, 500, "No path to datacenter"),
        ({"Node": "n", "Address": "10.0.0.1", "Unheard": 1}, 400, "Request decode failed"),
        ({"Node": 1, "Address": "10.0.0.1"}, 400, "Request decode failed"),
        ({"Node": "n", "Address": "10.0.0.1", "Check": {"Notes": "x"}}, 500, "failed inserting check"),
        ("text", 400, "Request decode failed"),
        ({"Node": "n", "Address": "10.0.0.1", "Service": {"ID": "i"}}, 500, "Must provide service name with ID"),
        (
            {"Node": "n", "Address": "10.0.0.1", "Service": {"Service": "s", "Address": "0.0.0.0"}},
            500,
            "Invalid service address",
        ),
        (
            {"Node": "n", "Address": "10.0.0.1", "Check": {"CheckID": "c", "ServiceID": "none"}},
            500,
            'failed inserting check: Missing service registration on node "n"',
        ),
        (
            {"Node": "n", "Address": "10.0.0.1", "Check": {"Node": "m", "CheckID": "c"}},
            500,
            'check node "m" does not match node "n"',
        ),
    ],
)
def test_bad_registration_is_refused_and_nothing_is_written(
    api: ConsulApi, body: Any, status: int, reason: str
) -> None:
    refused, text = refusal(api, "PUT", REGISTER, body)
    assert (refused, text.startswith(reason)) == (status, True), text
    assert [node["Node"] for node in ask(api, "/v1/catalog/nodes").body] == [NODE]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 500, "Must provide node"),
        ({"Node": "n", "Datacenter": "dc9"}, 500, "No path to datacenter"),
        ({"Node": "n", "Unheard": 1}, 400, "Request decode failed"),
    ],
)
def test_bad_deregistration_is_refused(api: ConsulApi, body: Any, status: int, reason: str) -> None:
    refused, text = refusal(api, "PUT", DEREGISTER, body)
    assert (refused, text.startswith(reason)) == (status, True), text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/catalog/service/", "Missing service name"),
        ("/v1/catalog/node/", "Missing node name"),
        ("/v1/health/service/", "Missing service name"),
        ("/v1/health/node/", "Missing node name"),
        ("/v1/health/checks/", "Missing service name"),
        ("/v1/health/state/", "Missing check state"),
    ],
)
def test_question_without_a_name_is_refused(api: ConsulApi, path: str, reason: str) -> None:
    assert refusal(api, "GET", path) == (400, reason)


def test_passing_must_be_a_boolean(api: ConsulApi) -> None:
    status, text = refusal(api, "GET", "/v1/health/service/web", passing="perhaps")
    assert (status, text.startswith("Invalid value for ?passing")) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/v1/catalog/services", 405), ("GET", REGISTER, 405), ("GET", "/v1/unheard-of", 404)],
)
def test_wrong_method_and_unknown_path(api: ConsulApi, method: str, path: str, status: int) -> None:
    assert refusal(api, method, path)[0] == status


def test_service_of_the_agent_and_of_another_node_are_one_service(api: ConsulApi) -> None:
    api.register("web", 80)
    settled(lambda: health(api, "web"), "web is there")
    register(api, Service={"Service": "web", "Port": 81})
    assert [entry["Service"]["Port"] for entry in health(api, "web")] == [80, 81]
