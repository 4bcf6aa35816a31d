"""What we register is taken by a real agent, and shown by it just as it was written: a second plan is empty."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lb.settings import RegistratorSettings
from registrator.model import Container, Health, Port, Published
from registrator.plan import Deregister, Plan, plan
from registrator.registered import registered
from registrator.services import payload, registrations
from tests.support.consul import Consul

SETTINGS = RegistratorSettings(host="edge-1", tags=("edge",))
PORTS = (Port(53, "udp", (Published("", 53),)), Port(80, "tcp", (Published("10.0.0.1", 8080),)))


def planned(consul: Consul, *containers: Container, settings: RegistratorSettings = SETTINGS) -> Plan:
    services = [service for each in containers for service in registrations(each, settings, consul.node)[0]]
    return plan(services, registered(consul.get("/v1/agent/services"), consul.get("/v1/agent/checks")))


def carry_out(consul: Consul, found: Plan) -> None:
    for action in found.actions:
        if isinstance(action, Deregister):
            consul.deregister(action.service_id)
        else:
            consul.put("/v1/agent/service/register", payload(action.registration), replace_existing_checks="true")


def web(labels: Mapping[str, str], health: Health = "") -> Container:
    return Container("5f" * 32, "web.1", "team/web", ports=PORTS, labels=labels, health=health)


LABELS: list[dict[str, str]] = [
    {},
    {"SERVICE_NAME": "a b/\u00e4 \u2028 <&>", "SERVICE_80_ID": "id/with ?#%", "SERVICE_TAGS": "b,a,<x>,\u00e4"},
    {"SERVICE_" + "k" * 128: "\u00e4" * 256, "SERVICE_EMPTY": "", "SERVICE_ODD": '\x01\t\n"\\ \u2028<&>'},
    {f"SERVICE_K{number}": "x" for number in range(99)},
    {"SERVICE_NAME": "n" * 255, "SERVICE_80_ID": "i" * 255},
    {"SERVICE_CHECK_HTTP": "/h?a=<b>", "SERVICE_CHECK_INTERVAL": "1m30s500ms", "SERVICE_CHECK_TIMEOUT": ".5s"},
    {"SERVICE_CHECK_HTTPS": "/", "SERVICE_CHECK_TLS_SKIP_VERIFY": "1", "SERVICE_CHECK_METHOD": "HEAD"},
    {"SERVICE_CHECK_TTL": "1.5h", "SERVICE_CHECK_INITIAL_STATUS": "warning"},
    {"SERVICE_CHECK_TCP": "1", "SERVICE_CHECK_DEREGISTER_AFTER": "10m"},
    {"SERVICE_CHECK_GRPC": "1", "SERVICE_CHECK_GRPC_USE_TLS": "1"},
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: " ".join(labels)[:40])
def test_an_agent_shows_what_was_written(consul: Consul, labels: dict[str, str]) -> None:
    carry_out(consul, planned(consul, web(labels)))
    assert len(consul.get("/v1/agent/services")) == 2
    assert planned(consul, web(labels)).actions == ()


def test_a_health_check_begins_with_dockers_word_and_its_change_is_no_registration(consul: Consul) -> None:
    carry_out(consul, planned(consul, web({}, "unhealthy")))
    statuses = {check["CheckID"]: check["Status"] for check in consul.get("/v1/agent/checks").values()}
    ids = {"service:edge-1:web.1:53:udp", "service:edge-1:web.1:80"}
    assert statuses == dict.fromkeys(ids, "critical")
    assert planned(consul, web({}, "healthy")).actions == ()


def test_a_check_that_changes_replaces_the_one_before(consul: Consul) -> None:
    carry_out(consul, planned(consul, web({"SERVICE_80_CHECK_TCP": "1"})))
    changed = web({"SERVICE_80_CHECK_TCP": "1", "SERVICE_CHECK_INTERVAL": "5s"})
    assert len(planned(consul, changed).actions) == 1
    carry_out(consul, planned(consul, web({})))
    assert consul.get("/v1/agent/checks") == {}
    assert planned(consul, web({})).actions == ()


def test_a_host_that_is_renamed_leaves_nothing_behind(consul: Consul) -> None:
    consul.register("db", 5432)
    carry_out(consul, planned(consul, web({})))
    renamed = RegistratorSettings(host="edge-2")
    carry_out(consul, planned(consul, web({}), settings=renamed))
    assert set(consul.get("/v1/agent/services")) == {"db-5432", "edge-2:web.1:53:udp", "edge-2:web.1:80"}
    carry_out(consul, planned(consul))
    assert set(consul.get("/v1/agent/services")) == {"db-5432"}
