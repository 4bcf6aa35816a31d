from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.catalog import decode
from lb.catalog.decode import FailingCheck
from lb.catalog.model import Instance
from lb.errors import BadAnswer, InstanceError
from tests.lb.catalog.samples import entry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_an_instance_has_all_that_its_entry_tells() -> None:
    assert decode.instance(entry()) == Instance(
        service="web",
        id="web-1",
        node="n1",
        address="10.0.0.1",
        port=8080,
        health="passing",
        service_address="10.0.0.1",
        node_address="192.0.2.1",
        datacenter="dc1",
        tags=("http",),
        meta={"lb_policy": "random"},
        node_meta={"rack": "a"},
        tagged_addresses={"lan_ipv4": ("10.0.0.1", 8080)},
        weight=3,
        weight_warning=1,
        modify_index=7,
    )


def test_null_stands_for_nothing_and_unknown_fields_are_ignored() -> None:
    bare = entry(Tags=None, Meta=None, TaggedAddresses=None, Weights=None, Future={"a": [1]})
    bare["Checks"] = None
    bare["Node"]["Meta"] = None
    instance = decode.instance(bare)
    assert (instance.tags, dict(instance.meta), dict(instance.tagged_addresses)) == ((), {}, {})
    assert (instance.weight, instance.weight_warning, instance.health) == (1, 1, "passing")
    assert dict(instance.node_meta) == {}


def test_the_node_lends_its_address() -> None:
    instance = decode.instance(entry(address=""))
    assert (instance.address, instance.service_address) == ("192.0.2.1", "")


@pytest.mark.parametrize(
    ("checks", "health"),
    [
        ((), "passing"),
        (("passing", "passing"), "passing"),
        (("passing", "warning"), "warning"),
        (("warning", "critical", "passing"), "critical"),
        (("what",), "critical"),
    ],
)
def test_the_worst_check_counts(checks: tuple[str, ...], health: str) -> None:
    assert decode.instance(entry(checks=checks)).health == health


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"port": -1}, "port -1 is not between 0 and 65535"),
        ({"port": 65536}, "port 65536 is not between 0 and 65535"),
        ({"Port": "80"}, "port '80' is not between"),
        ({"Port": True}, "port True is not between"),
        ({"address": "10.0.0.300"}, "address '10.0.0.300' is neither"),
        ({"address": "a b"}, "address 'a b' is neither"),
        ({"address": "-x"}, "neither an IP address nor a host name"),
        ({"address": "x" * 300}, "neither an IP address nor a host name"),
        ({"address": "a\n"}, "neither an IP address nor a host name"),
        ({"Weights": {"Passing": "1"}}, "weight '1' is not a number"),
    ],
)
def test_what_traffic_cannot_be_sent_to_is_refused_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InstanceError, match=reason.replace("(", r"\(")):
        decode.instance(entry(**changes))


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "::1", "fe80::1%eth0", "web.example.com", "web_1", "a.example.", "xn--bcher-kva", "3com"]
)
def test_addresses_that_are_taken(address: str) -> None:
    assert decode.instance(entry(address=address)).address == address


def test_no_address_at_all_is_refused() -> None:
    bare = entry(address="")
    bare["Node"]["Address"] = ""
    with pytest.raises(InstanceError, match="neither the service nor its node has an address"):
        decode.instance(bare)


def test_a_service_may_have_no_port() -> None:
    assert decode.instance(entry(port=0)).port == 0


def test_weights_stay_within_bounds() -> None:
    instance = decode.instance(entry(Weights={"Passing": 0, "Warning": -4}))
    assert (instance.weight, instance.weight_warning) == (1, 0)
    assert decode.instance(entry(Weights={"Passing": 1 << 40})).weight == 65535


def test_a_service_keeps_its_good_instances_and_names_the_bad_ones() -> None:
    body = [entry(id="b"), entry(id="bad", port=-1), entry(id="a"), entry(id="odd", Tags="x")]
    decoded = decode.service("web", body)
    assert [i.id for i in decoded.service.instances] == ["a", "b"]
    assert [(p.kind, p.subject) for p in decoded.problems] == [
        ("instance", "web/bad@n1"),
        ("instance", "web/odd@n1"),
    ]
    assert decoded.registered == {("n1", "a"): 7, ("n1", "b"): 7, ("n1", "bad"): 7, ("n1", "odd"): 7}


def test_names_that_differ_by_case_are_kept_apart() -> None:
    decoded = decode.service("web", [entry(), entry(name="Web", id="other")])
    assert [i.id for i in decoded.service.instances] == ["web-1"]
    assert len(decoded.registered) == 1


def test_only_checks_that_do_not_pass_are_kept_by_node_and_id() -> None:
    body = [
        {"Node": "n1", "CheckID": "serfHealth", "Status": "critical", "ServiceName": ""},
        {"Node": "n1", "CheckID": "c", "Status": "passing", "ServiceName": "web"},
        {"Node": "n2", "CheckID": "c", "Status": "warning", "ServiceName": "web", "ServiceID": "web-1"},
    ]
    assert decode.failing_checks(body) == {
        ("n1", "serfHealth"): FailingCheck("", "", "critical"),
        ("n2", "c"): FailingCheck("web", "web-1", "warning"),
    }


def test_tables() -> None:
    assert decode.service_tags({"web": ["b", "a"], "db": None}) == {
        "web": frozenset("ab"),
        "db": frozenset(),
    }
    node = decode.nodes([{"Node": "n1", "Address": "192.0.2.1", "Datacenter": "dc1", "Meta": None}])["n1"]
    assert (node.name, node.address, node.datacenter, dict(node.meta)) == ("n1", "192.0.2.1", "dc1", {})
    body = {"Node": {}, "Services": {"a": {"ID": "a", "Service": "web", "ModifyIndex": 9}}}
    assert decode.services_of_node("n1", body) == {"web": {("n1", "a"): 9}}
    assert decode.services_of_node("n1", None) == {}
    assert decode.agent_identity({"Config": {"Datacenter": "dc1", "NodeName": "n1"}}) == ("dc1", "n1")


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (decode.service_tags, []),
        (decode.service_tags, {"web": [1]}),
        (decode.failing_checks, {}),
        (decode.failing_checks, ["x"]),
        (decode.nodes, "x"),
        (decode.nodes, [{}]),
        (lambda body: decode.service("web", body), {"a": 1}),
        (lambda body: decode.service("web", body), [1]),
        (lambda body: decode.services_of_node("n", body), [1]),
        (decode.agent_identity, {"Config": 1}),
    ],
)
def test_an_answer_of_another_shape_is_a_bad_answer(call: Any, body: Any) -> None:
    with pytest.raises(BadAnswer):
        call(body)


@given(JSON)
def test_no_json_breaks_the_decoder(body: Any) -> None:
    for call in (decode.service_tags, decode.failing_checks, decode.nodes, decode.agent_identity):
        try:
            call(body)
        except BadAnswer:
            continue
    try:
        decode.service("web", body)
        decode.services_of_node("n1", body)
    except BadAnswer:
        pass


@given(st.sampled_from(["Node", "Service", "Checks"]), st.data())
def test_one_broken_entry_never_costs_the_others(part: str, data: st.DataObject) -> None:
    broken = entry(id="broken")
    if part == "Checks" or data.draw(st.booleans()):
        broken[part] = data.draw(JSON if part == "Checks" else st.none() | st.just({}))
    else:
        field = data.draw(st.sampled_from(sorted(broken[part].keys() - {"Service"})))
        broken[part][field] = data.draw(JSON)
    decoded = decode.service("web", json.loads(json.dumps([entry(id="good"), broken])))
    assert "good" in [i.id for i in decoded.service.instances]
