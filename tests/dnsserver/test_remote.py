"""What an agent is asked, how its answers are read, and what clients are answered from them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dnsserver.agent import AgentAnswers, Deliver
from dnsserver.names import MeshName, NodeName, QueryName, ServiceName
from dnsserver.remote import (
    NOTHING,
    AgentAnswer,
    AgentQuestion,
    Form,
    RemoteName,
    agent_question,
    go_seconds,
    is_nothing,
    read_found,
)
from dnsserver.responder import Responder
from dnsserver.stats import DnsStats
from dnsserver.zone import Zone
from lb.catalog.model import Snapshot
from lb.errors import AgentRefused, BadAnswer
from lb.settings import DnsSettings
from tests.support.dns_catalog import SERIAL, ask, instance, snapshot

QUERY = AgentQuestion(Form.QUERY, "/v1/query/geo/execute", "dc1")
REMOTE = AgentQuestion(Form.INSTANCES, "/v1/health/service/web", "dc2")
REMOTE_NODE = AgentQuestion(Form.NODE, "/v1/catalog/node/n9", "dc2")


def entry(number: int, *, status: str = "passing", tags: tuple[str, ...] = (), dc: str = "dc2") -> dict[str, Any]:
    """One instance of `web` as the agent describes it."""
    return {
        "Node": {"Node": f"n{number}", "Address": f"10.2.0.{number}", "Datacenter": dc, "Meta": {"rack": "r2"}},
        "Service": {
            "Service": "web",
            "ID": f"web-{number}",
            "Port": 80,
            "Tags": list(tags),
            "Weights": {"Passing": 7, "Warning": 3},
        },
        "Checks": [{"Status": status}],
    }


@pytest.mark.parametrize(
    ("name", "question"),
    [
        (ServiceName(b"web", b"v1", b"dc2"), REMOTE),
        (QueryName(b"geo", b""), QUERY),
        (NodeName(b"n9", b"dc2"), REMOTE_NODE),
        (MeshName("connect", b"web", b""), AgentQuestion(Form.INSTANCES, "/v1/health/connect/web", "dc1")),
        (MeshName("ingress", b"web", b"dc3"), AgentQuestion(Form.INSTANCES, "/v1/health/ingress/web", "dc3")),
    ],
)
def test_each_form_has_its_path(name: RemoteName, question: AgentQuestion) -> None:
    assert agent_question(name, "dc1") == question


@pytest.mark.parametrize("query", [b"..", b"a/../../v1/agent/self", b"a\r\nb", b"\xff\xfe", b"a\0"])
def test_a_name_never_leads_to_another_path(query: bytes) -> None:
    assert agent_question(QueryName(query, b""), "dc1") is None
    assert agent_question(ServiceName(b"web", b"", query), "dc1") is None or query in (b"..", b"a/../../v1/agent/self")


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("0", 0), (".5s", 0.5)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert go_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "10x", "10s x", "-5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        go_seconds(text)


def test_an_answer_about_a_query_tells_service_datacenter_and_ttl() -> None:
    body = {"Service": "web", "Nodes": [entry(1)], "DNS": {"TTL": "1m"}, "Datacenter": "dc2"}
    found = read_found(QUERY, body)
    assert (found.service, found.datacenter, found.ttl) == ("web", "dc2", 60)
    assert [(i.id, i.node_address) for i in found.instances] == [("web-1", "10.2.0.1")]
    assert found.nodes["n1"].meta == {"rack": "r2"}


def test_one_bad_instance_costs_no_other() -> None:
    broken = entry(2)
    broken["Service"]["Port"] = "http"
    assert [i.id for i in read_found(REMOTE, [broken, entry(1)]).instances] == ["web-1"]


@pytest.mark.parametrize("body", [{"a": 1}, "text", [1], [[]]])
def test_an_answer_of_another_shape_is_bad(body: Any) -> None:
    with pytest.raises(BadAnswer):
        read_found(REMOTE, body)


def test_what_is_not_there_is_told_from_an_agent_that_fails() -> None:
    assert is_nothing(QUERY, AgentRefused(404, "Query not found"))
    assert is_nothing(REMOTE, AgentRefused(500, "No path to datacenter"))
    assert not is_nothing(QUERY, AgentRefused(500, "rpc error: No cluster leader"))
    assert not is_nothing(QUERY, AgentRefused(403, "Permission denied"))
    assert read_found(REMOTE_NODE, None) is NOTHING


class Oracle(AgentAnswers):
    """Knows answers by question; what it does not know cannot be asked."""

    def __init__(self, known: dict[AgentQuestion, AgentAnswer]) -> None:
        self._known = known
        self.asked: list[AgentQuestion] = []

    def find(self, question: AgentQuestion, deliver: Deliver) -> None:
        self.asked.append(question)
        deliver(self._known.get(question))


def server(
    catalog: Snapshot, known: dict[AgentQuestion, AgentAnswer], settings: DnsSettings | None = None
) -> Responder:
    settings = settings or DnsSettings()
    return Responder(settings, DnsStats(), None, Zone(catalog, settings, SERIAL), Random(1), Oracle(known))


CATALOG = snapshot([instance("web", 1), instance("far", 1, service_address="web.service.dc2.consul")])


def test_a_service_of_another_datacenter_is_answered_like_one_of_ours() -> None:
    found = read_found(REMOTE, [entry(1, tags=("v1",)), entry(2, status="warning"), entry(3, status="critical")])
    asked = server(CATALOG, {REMOTE: found}, DnsSettings(service_ttls=(("web", 9),)))
    seen = ask(asked, "web.service.dc2.consul", "SRV", edns=1232)
    assert seen.data == ["1 3 80 n2.node.dc2.consul.", "1 7 80 n1.node.dc2.consul."]
    assert ("n1.node.dc2.consul.", "A", 9, "10.2.0.1") in seen.additional
    assert ("n1.node.dc2.consul.", "TXT", 9, '"rack=r2"') in seen.additional
    assert ask(asked, "V1.web.service.DC2.consul").data == ["10.2.0.1"]
    assert ask(asked, "v9.web.service.dc2.consul").rcode == "NXDOMAIN"
    assert ask(asked, "web.service.consul").data == ["10.0.0.1"]


def test_a_node_of_another_datacenter_is_answered() -> None:
    body = {"Node": {"Node": "n9", "Address": "10.2.0.9", "Meta": {"rack": "r9"}}, "Services": {}}
    asked = server(CATALOG, {REMOTE_NODE: read_found(REMOTE_NODE, body)})
    assert ask(asked, "n9.node.dc2.consul").data == ["10.2.0.9"]
    assert ask(asked, "n9.node.dc2.consul", "TXT").data == ['"rack=r9"']


def test_a_prepared_query_keeps_the_order_and_has_its_ttl() -> None:
    nodes = [entry(number, dc="dc3") for number in (5, 3, 4)]
    body = {"Service": "web", "Nodes": nodes, "DNS": {"TTL": "30s"}, "Datacenter": "dc3"}
    asked = server(CATALOG, {QUERY: read_found(QUERY, body)})
    for _ in range(20):
        seen = ask(asked, "geo.query.consul", edns=1232)
        assert [row[2:] for row in seen.answer] == [(30, f"10.2.0.{number}") for number in (5, 3, 4)]
    assert "1 7 80 n5.node.dc3.consul." in ask(asked, "geo.query.consul", "SRV", edns=1232).data


def test_a_prepared_query_without_ttl_has_that_of_its_service() -> None:
    body = {"Service": "web", "Nodes": [entry(1)], "DNS": {"TTL": ""}, "Datacenter": "dc2"}
    asked = server(CATALOG, {QUERY: read_found(QUERY, body)}, DnsSettings(ttl=1, service_ttls=(("web", 9),)))
    assert {row[2] for row in ask(asked, "geo.query.consul").answer} == {9}


def test_what_does_not_exist_is_denied_and_what_cannot_be_asked_is_not() -> None:
    asked = server(CATALOG, {QUERY: NOTHING, REMOTE: NOTHING, REMOTE_NODE: NOTHING})
    for name in ("geo.query.consul", "web.service.dc2.consul", "n9.node.dc2.consul"):
        seen = ask(asked, name)
        assert (seen.rcode, seen.authority[0][1]) == ("NXDOMAIN", "SOA")
    for name in ("other.query.consul", "web.service.dc3.consul", "n9.node.dc3.consul", "web.connect.consul"):
        assert ask(asked, name).rcode == "SERVFAIL"


def test_a_failure_is_not_kept() -> None:
    known: dict[AgentQuestion, AgentAnswer] = {}
    asked = server(CATALOG, known)
    assert ask(asked, "web.service.dc2.consul").rcode == "SERVFAIL"
    known[REMOTE] = read_found(REMOTE, [entry(1)])
    assert ask(asked, "web.service.dc2.consul").data == ["10.2.0.1"]


def test_a_host_name_leads_to_another_datacenter() -> None:
    asked = server(CATALOG, {REMOTE: read_found(REMOTE, [entry(1)])})
    assert ask(asked, "far.service.consul").data == ["10.2.0.1", "web.service.dc2.consul."]
    # What cannot be found out is left out: the client may ask for the target itself.
    assert ask(server(CATALOG, {}), "far.service.consul").data == ["web.service.dc2.consul."]


def test_one_query_asks_an_agent_so_often_and_no_more() -> None:
    hosts = [instance("many", n, service_address=f"q{n}.query.consul", port=n) for n in range(1, 50)]
    asked = server(snapshot(hosts), {})
    assert ask(asked, "many.service.consul", "SRV", tcp=True).rcode == "SERVFAIL"
    assert len(asked._agent.asked) == 8  # type: ignore[union-attr]
