"""Services and checks that are registered with an agent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.calls import NODE, ask, health, refusal, settled, statuses
from tests.support.consul import ConsulApi

REGISTER = "/v1/agent/service/register"
FULL = {
    "ID": "web-1",
    "Name": "web",
    "Address": "10.0.0.1",
    "Port": 8080,
    "Tags": ["http", "V1"],
    "Meta": {"lb_policy": "least_conn"},
    "Weights": {"Passing": 5, "Warning": 2},
    "TaggedAddresses": {"lan": {"Address": "10.0.0.2", "Port": 8081}},
    "EnableTagOverride": True,
}
OWN_ADDRESS = {"Address": "10.0.0.1", "Port": 8080}


def register(api: ConsulApi, body: dict[str, Any], **params: Any) -> None:
    """Register a service and wait until the catalog has it as it was given."""
    api.put(REGISTER, body, **params)
    service_id = body.get("ID", body["Name"])

    def is_there() -> bool:
        services = {entry["Service"]["ID"]: entry["Service"] for entry in health(api, body["Name"])}
        found = services.get(service_id)
        return found is not None and all(found[key] == body.get(key, found[key]) for key in ("Port", "Tags"))

    settled(is_there, f"{service_id} is in the catalog")


def test_everything_that_is_registered_is_shown(api: ConsulApi) -> None:
    register(api, FULL)
    [entry] = health(api, "web")
    service = entry["Service"]
    assert service["ID"] == "web-1"
    assert service["Service"] == "web"
    assert (service["Address"], service["Port"]) == ("10.0.0.1", 8080)
    assert service["Tags"] == ["http", "V1"]
    assert service["Meta"] == {"lb_policy": "least_conn"}
    assert service["Weights"] == {"Passing": 5, "Warning": 2}
    assert service["EnableTagOverride"] is True
    assert service["TaggedAddresses"] == {
        "lan": {"Address": "10.0.0.2", "Port": 8081},
        "lan_ipv4": OWN_ADDRESS,
        "wan_ipv4": OWN_ADDRESS,
    }
    assert service["CreateIndex"] == service["ModifyIndex"] > 0
    assert (entry["Node"]["Node"], entry["Node"]["Address"]) == (NODE, "127.0.0.1")
    assert entry["Node"]["Datacenter"] == "dc1"
    assert [(check["CheckID"], check["Status"]) for check in entry["Checks"]] == [("serfHealth", "passing")]


def test_catalog_shows_the_same_in_flat_form(api: ConsulApi) -> None:
    register(api, FULL)
    [entry] = ask(api, "/v1/catalog/service/web").body
    assert (entry["Node"], entry["Address"], entry["Datacenter"]) == (NODE, "127.0.0.1", "dc1")
    assert (entry["ServiceID"], entry["ServiceName"]) == ("web-1", "web")
    assert (entry["ServiceAddress"], entry["ServicePort"]) == ("10.0.0.1", 8080)
    assert entry["ServiceTags"] == ["http", "V1"]
    assert entry["ServiceMeta"] == {"lb_policy": "least_conn"}
    assert entry["ServiceWeights"] == {"Passing": 5, "Warning": 2}
    assert entry["ServiceTaggedAddresses"]["lan"] == {"Address": "10.0.0.2", "Port": 8081}
    on_node = ask(api, f"/v1/catalog/node/{NODE}").body
    assert on_node["Node"]["Node"] == NODE
    assert on_node["Services"]["web-1"] == health(api, "web")[0]["Service"]


def test_agent_lists_its_services(api: ConsulApi) -> None:
    register(api, FULL)
    services = api.get("/v1/agent/services")
    assert set(services) == {"web-1"}
    shown = {key: services["web-1"][key] for key in ("ID", "Service", "Port", "Tags", "Meta", "Weights")}
    assert shown == {
        "ID": "web-1",
        "Service": "web",
        "Port": 8080,
        "Tags": ["http", "V1"],
        "Meta": {"lb_policy": "least_conn"},
        "Weights": {"Passing": 5, "Warning": 2},
    }


def test_what_is_left_out_has_consuls_defaults(api: ConsulApi) -> None:
    register(api, {"Name": "bare"})
    service = health(api, "bare")[0]["Service"]
    assert (service["ID"], service["Address"], service["Port"]) == ("bare", "", 0)
    assert (service["Tags"], service["Meta"]) == ([], None)
    assert service["Weights"] == {"Passing": 1, "Warning": 1}
    assert service["EnableTagOverride"] is False
    assert "TaggedAddresses" not in service
    assert api.get("/v1/agent/services")["bare"]["Meta"] == {}


def test_keys_are_read_in_any_case(api: ConsulApi) -> None:
    register(api, {"Name": "other"})
    api.put(REGISTER, {"name": "web", "port": 80, "tags": ["A"], "tagged_addresses": {}})
    settled(lambda: health(api, "web"), "web is there")
    assert health(api, "web")[0]["Service"]["Tags"] == ["A"]


def test_ipv6_address_is_tagged_as_such(api: ConsulApi) -> None:
    register(api, {"Name": "six", "Address": "fe80::1", "Port": 80})
    own = {"Address": "fe80::1", "Port": 80}
    assert health(api, "six")[0]["Service"]["TaggedAddresses"] == {"lan_ipv6": own, "wan_ipv6": own}


def test_registration_with_a_known_id_updates(api: ConsulApi) -> None:
    register(api, FULL)
    first = health(api, "web")[0]["Service"]
    register(api, {**FULL, "Port": 9090, "Tags": ["http"]})
    [entry] = health(api, "web")
    assert (entry["Service"]["Port"], entry["Service"]["Tags"]) == (9090, ["http"])
    assert entry["Service"]["CreateIndex"] == first["CreateIndex"]
    assert entry["Service"]["ModifyIndex"] > first["ModifyIndex"]


def test_service_that_gets_another_name_leaves_the_old_one(api: ConsulApi) -> None:
    register(api, {"ID": "x", "Name": "old", "Port": 1})
    register(api, {"ID": "x", "Name": "new", "Port": 1})
    settled(lambda: not health(api, "old"), "the old name is gone")
    assert set(ask(api, "/v1/catalog/services").body) - {"consul"} == {"new"}


def test_deregistration_removes_the_service_and_its_checks(api: ConsulApi) -> None:
    register(api, {**FULL, "Check": {"TTL": "1h"}})
    api.deregister("web-1")
    settled(lambda: not health(api, "web"), "web is gone")
    assert "web" not in ask(api, "/v1/catalog/services").body
    assert [c["CheckID"] for c in ask(api, f"/v1/health/node/{NODE}").body] == ["serfHealth"]
    assert api.get("/v1/agent/services") == {}


def test_deregistration_of_nothing_is_accepted(api: ConsulApi) -> None:
    api.deregister("nothing")
    api.put("/v1/agent/check/deregister/nothing")


def test_checks_of_a_registration_are_named_and_start_critical(api: ConsulApi) -> None:
    checks = [
        {"TTL": "1h", "Status": "passing"},
        {"CheckID": "own", "Name": "Own", "Notes": "n", "TTL": "1h", "Status": "warning"},
        {"TTL": "1h"},
    ]
    register(api, {"Name": "web", "Tags": ["t"], "Checks": checks})
    shown = {check["CheckID"]: check for check in ask(api, "/v1/health/checks/web").body}
    assert statuses(api, "web") == {
        "service:web:1": "passing",
        "own": "warning",
        "service:web:3": "critical",
    }
    assert (shown["own"]["Name"], shown["own"]["Notes"]) == ("Own", "n")
    assert shown["service:web:1"]["Name"] == "Service 'web' check"
    own = shown["own"]
    assert (own["ServiceID"], own["ServiceName"], own["ServiceTags"]) == ("web", "web", ["t"])
    assert (own["Node"], own["Type"]) == (NODE, "ttl")


@pytest.mark.parametrize(("verb", "status"), [("pass", "passing"), ("warn", "warning"), ("fail", "critical")])
def test_ttl_check_is_driven(api: ConsulApi, verb: str, status: str) -> None:
    start = "critical" if status == "passing" else "passing"
    register(api, {"Name": "web", "Check": {"TTL": "1h", "Status": start}})
    api.put(f"/v1/agent/check/{verb}/service:web", note="because")
    settled(lambda: statuses(api, "web") == {"service:web": status}, "the check follows")
    assert ask(api, "/v1/health/checks/web").body[0]["Output"] == "because"
    assert bool(health(api, "web", passing="")) == (status == "passing")


def test_update_sets_status_and_output(api: ConsulApi) -> None:
    register(api, {"Name": "web", "Check": {"TTL": "1h"}})
    api.put("/v1/agent/check/update/service:web", {"Status": "warning", "Output": "slow"})
    settled(lambda: statuses(api, "web") == {"service:web": "warning"}, "the check follows")
    assert ask(api, "/v1/health/checks/web").body[0]["Output"] == "slow"


def test_registering_again_keeps_the_status_of_checks(api: ConsulApi) -> None:
    body = {"Name": "web", "Port": 1, "Check": {"TTL": "1h", "Status": "critical"}}
    register(api, body)
    api.set_health("web", "passing")
    settled(lambda: statuses(api, "web") == {"service:web": "passing"}, "the check passes")
    register(api, {**body, "Port": 2})
    assert statuses(api, "web") == {"service:web": "passing"}


def test_checks_stay_unless_they_are_to_be_replaced(api: ConsulApi) -> None:
    register(api, {"Name": "web", "Port": 1, "Check": {"TTL": "1h"}})
    register(api, {"Name": "web", "Port": 2})
    assert statuses(api, "web") == {"service:web": "critical"}
    register(api, {"Name": "web", "Port": 3}, replace_existing_checks="true")
    settled(lambda: not statuses(api, "web"), "the check is gone")


def test_maintenance_is_a_critical_check(api: ConsulApi) -> None:
    register(api, {"Name": "web", "Port": 1})
    api.put("/v1/agent/service/maintenance/web", enable="true", reason="broken")
    settled(lambda: statuses(api, "web"), "maintenance is on")
    [check] = ask(api, "/v1/health/checks/web").body
    assert (check["CheckID"], check["Status"]) == ("_service_maintenance:web", "critical")
    assert (check["Notes"], check["Name"]) == ("broken", "Service Maintenance Mode")
    assert health(api, "web", passing="") == []
    register(api, {"Name": "web", "Port": 2})
    assert statuses(api, "web") == {"_service_maintenance:web": "critical"}
    api.maintenance("web", False)
    settled(lambda: health(api, "web", passing=""), "maintenance is off")


def test_check_of_the_node_counts_for_every_service_on_it(api: ConsulApi) -> None:
    register(api, {"Name": "web"})
    api.put("/v1/agent/check/register", {"ID": "disk", "Name": "Disk", "TTL": "1h"})
    settled(lambda: not health(api, "web", passing=""), "the node is critical")
    assert [(c["CheckID"], c["ServiceID"]) for c in health(api, "web")[0]["Checks"]] == [
        ("disk", ""),
        ("serfHealth", ""),
    ]
    assert statuses(api, "web") == {}
    api.put("/v1/agent/check/pass/disk")
    settled(lambda: health(api, "web", passing=""), "the node passes")
    api.put("/v1/agent/check/deregister/disk")
    settled(lambda: len(health(api, "web")[0]["Checks"]) == 1, "the check is gone")


def test_check_can_be_added_to_a_service(api: ConsulApi) -> None:
    register(api, {"Name": "web"})
    check = {"ID": "extra", "Name": "Extra", "ServiceID": "web", "TTL": "1h", "Status": "warning"}
    api.put("/v1/agent/check/register", check)
    settled(lambda: statuses(api, "web") == {"extra": "warning"}, "the check is there")


def test_check_that_is_run_elsewhere_stays_as_registered(api: ConsulApi) -> None:
    check = {"TCP": "127.0.0.1:1", "Interval": "1h", "Status": "passing"}
    register(api, {"Name": "web", "Check": check})
    assert refusal(api, "PUT", "/v1/agent/check/fail/service:web")[0] == 500


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"Name": ""}, 400, "Missing service name"),
        ({}, 400, "Missing service name"),
        ([], 400, "Request decode failed"),
        ("text", 400, "Request decode failed"),
        ({"Name": "x", "Port": "80"}, 400, "Request decode failed"),
        ({"Name": "x", "Port": 80.5}, 400, "Request decode failed"),
        ({"Name": "x", "Port": True}, 400, "Request decode failed"),
        ({"Name": "x", "Tags": "a"}, 400, "Request decode failed"),
        ({"Name": "x", "Tags": [1]}, 400, "Request decode failed"),
        ({"Name": "x", "Meta": {"a": 1}}, 400, "Request decode failed"),
        ({"Name": "x", "Unheard": 1}, 400, "Request decode failed"),
        ({"Name": "x", "Check": {"TTL": "bad"}}, 400, "Request decode failed"),
        ({"Name": "x", "Meta": {"a b": "1"}}, 400, "Invalid Service Meta"),
        ({"Name": "x", "Meta": {"": "1"}}, 400, "Invalid Service Meta"),
        ({"Name": "x", "Meta": {"a": "v" * 513}}, 400, "Invalid Service Meta"),
        ({"Name": "x", "Meta": {"k" * 129: "v"}}, 400, "Invalid Service Meta"),
        ({"Name": "x", "Meta": {str(n): "" for n in range(65)}}, 400, "Invalid Service Meta"),
        ({"Name": "x", "Address": "0.0.0.0"}, 400, "Invalid service address"),
        ({"Name": "x", "Address": "::"}, 400, "Invalid service address"),
        ({"Name": "x", "Weights": {"Passing": 0, "Warning": 1}}, 400, "Invalid Weights: Passing"),
        ({"Name": "x", "Weights": {"Passing": 1, "Warning": -1}}, 400, "Invalid Weights: Warning"),
        ({"Name": "x", "Weights": {"Passing": 65536}}, 400, "Invalid Weights"),
        ({"Name": "x", "Check": {"TTL": "1h", "Status": "odd"}}, 400, "Status for checks must"),
        ({"Name": "x", "Check": {"TCP": "127.0.0.1:1"}}, 400, "Invalid check: Interval must be > 0"),
        ({"Name": "x", "Check": {"TTL": "1h", "Interval": "1h"}}, 400, "Invalid check: Interval and TTL"),
    ],
)
def test_bad_registration_is_refused_and_nothing_is_registered(
    api: ConsulApi, body: Any, status: int, reason: str
) -> None:
    refused, text = refusal(api, "PUT", REGISTER, body)
    assert (refused, text.startswith(reason)) == (status, True), text
    assert api.get("/v1/agent/services") == {}


@pytest.mark.parametrize(
    ("path", "params", "status", "reason"),
    [
        ("maintenance/none", {"enable": "true"}, 404, 'No service registered with ID "none"'),
        ("maintenance/web", {}, 400, "Missing value for enable"),
        ("maintenance/web", {"enable": "perhaps"}, 400, "Invalid value for enable"),
        ("maintenance/", {"enable": "true"}, 400, "Missing service ID"),
        ("deregister/", {}, 500, "ServiceID missing"),
    ],
)
def test_bad_call_about_a_service_is_refused(
    api: ConsulApi, path: str, params: dict[str, Any], status: int, reason: str
) -> None:
    register(api, {"Name": "web"})
    refused, text = refusal(api, "PUT", f"/v1/agent/service/{path}", **params)
    assert (refused, text.startswith(reason)) == (status, True), text


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("register", {"TTL": "1h"}, 400, "Missing check name"),
        ("register", {"Name": "x"}, 400, "Invalid check: TTL must be > 0"),
        ("register", {"Name": "x", "TTL": "1h", "ServiceID": "no"}, 500, 'ServiceID "no" does not exist'),
        ("register", {"Name": "x", "TTL": "1h", "CheckID": "y"}, 400, "Request decode failed"),
        ("pass/none", None, 500, 'CheckID "none" does not have associated TTL'),
        ("update/none", {"Status": "passing"}, 500, 'CheckID "none" does not have associated TTL'),
        ("update/none", {"Status": "odd"}, 400, "Invalid check status: 'odd'"),
        ("deregister/", None, 500, "CheckID missing"),
    ],
)
def test_bad_call_about_a_check_is_refused(api: ConsulApi, path: str, body: Any, status: int, reason: str) -> None:
    refused, text = refusal(api, "PUT", f"/v1/agent/check/{path}", body)
    assert (refused, text.startswith(reason)) == (status, True), text
