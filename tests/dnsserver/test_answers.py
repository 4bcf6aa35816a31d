"""What is answered, seen through whole replies; shuffling and sizes are the business of test_replies."""

from __future__ import annotations

import pytest

from lb.catalog.model import Snapshot
from lb.settings import DnsSettings
from tests.support.dns import Row, Seen
from tests.support.dns_catalog import SERIAL, ask, instance, node, responder, snapshot

SOA: Row = ("consul.", "SOA", 0, f"ns.consul. hostmaster.consul. {SERIAL} 3600 600 86400 0")

CATALOG = snapshot(
    [
        instance("web", 1, tags=("blue", "V1.2"), weight=7, weight_warning=3, node_meta={"rack": "r1"}),
        instance("web", 2, tags=("green",), health="warning", weight=7, weight_warning=3),
        instance("web", 3, health="critical"),
        instance("down", 1, health="critical"),
        instance("own", 1, service_address="10.9.0.1"),
        instance("six", 6, node_address="fd00::6"),
        instance("own6", 1, service_address="fd00:9::1"),
        instance("inner", 1, service_address="Web.service.consul"),
        instance("outer", 1, service_address="db.example.net"),
        instance("mixed", 1, service_address="db.example.net"),
        instance("mixed", 2),
        instance("self", 1, service_address="self.service.consul"),
        instance("loop", 1, service_address="pool.service.consul"),
        instance("pool", 1, service_address="loop.service.consul"),
        instance("both", 1, service_address="10.9.0.2", tagged_addresses={"lan_ipv6": ("fd00:9::2", 80)}),
        instance("twice", 1, id="a", service_address="10.9.0.3"),
        instance("twice", 1, id="b", service_address="10.9.0.3"),
        instance("twice", 1, id="c", service_address="10.9.0.3", port=81),
        instance("long", 7, node="x" * 64),
        instance("consul", 1, port=8300),
    ],
    [
        node("n1", "10.0.0.1", id="aabbccdd-1111-2222-3333-444444444444", meta={"rack": "r1"}),
        node("Bare.Name", "10.0.0.50", meta={"rfc1035-x": "as it is", "big": "y" * 300}),
        node("outside", "host.example.net"),
    ],
)


def rows(name: str, qtype: str, settings: DnsSettings | None = None, catalog: Snapshot = CATALOG) -> Seen:
    return ask(responder(catalog, settings), name, qtype, edns=4096)


@pytest.mark.parametrize(
    ("name", "qtype", "data"),
    [
        ("web.service.consul", "A", ["10.0.0.1", "10.0.0.2"]),
        ("web.service.consul", "ANY", ["10.0.0.1", "10.0.0.2"]),
        ("web.service.consul", "TXT", ["10.0.0.1", "10.0.0.2"]),
        ("blue.web.service.consul", "A", ["10.0.0.1"]),
        ("v1.2.web.service.dc1.consul", "A", ["10.0.0.1"]),
        ("_web._tcp.service.consul", "A", ["10.0.0.1", "10.0.0.2"]),
        ("web.service.consul", "SRV", ["1 3 80 n2.node.dc1.consul.", "1 7 80 n1.node.dc1.consul."]),
        ("_web._green.consul", "SRV", ["1 3 80 n2.node.dc1.consul."]),
        ("own.service.consul", "A", ["10.9.0.1"]),
        ("own.service.consul", "SRV", ["1 1 80 0a090001.addr.dc1.consul."]),
        ("six.service.consul", "AAAA", ["fd00::6"]),
        ("both.service.consul", "A", ["10.9.0.2"]),
        ("both.service.consul", "AAAA", ["fd00:9::2"]),
        ("both.service.consul", "SRV", ["1 1 80 fd000009000000000000000000000002.addr.dc1.consul."]),
        ("twice.service.consul", "A", ["10.9.0.3"]),
        ("twice.service.consul", "SRV", [f"1 1 {port} 0a090003.addr.dc1.consul." for port in (80, 81)]),
        ("outer.service.consul", "A", ["db.example.net."]),
        ("outer.service.consul", "SRV", ["1 1 80 db.example.net."]),
        ("mixed.service.consul", "A", ["10.0.0.2"]),
        ("self.service.consul", "A", ["10.0.0.1"]),
        ("inner.service.consul", "A", ["10.0.0.1", "10.0.0.2", "Web.service.consul."]),
        ("inner.service.consul", "AAAA", ["Web.service.consul."]),
        ("long.service.consul", "SRV", ["1 1 80 0a000007.addr.dc1.consul."]),
        ("n1.node.consul", "A", ["10.0.0.1"]),
        ("bare.name.node.dc1.consul", "A", ["10.0.0.50"]),
        ("n1.node.consul", "TXT", ['"rack=r1"']),
        ("n1.node.consul", "ANY", ['"rack=r1"', "10.0.0.1"]),
        ("outside.node.consul", "A", ["host.example.net."]),
        ("aabb.node.consul", "A", ["10.0.0.1"]),
        ("aab.node.consul", "A", ["10.0.0.1"]),
        ("aabbccdd-1111-2222-3333-444444444444.node.consul", "A", ["10.0.0.1"]),
        ("0A000001.addr.consul", "A", ["10.0.0.1"]),
        ("0a000001.addr.dc9.consul", "TXT", ["10.0.0.1"]),
        ("fd000000000000000000000000000001.addr.consul", "AAAA", ["fd00::1"]),
        ("1.0.0.10.in-addr.arpa", "PTR", ["n1.node.dc1.consul."]),
        ("1.0.9.10.in-addr.arpa", "PTR", ["own.service.dc1.consul."]),
        ("6." + "0." * 27 + "0.0.d.f.ip6.arpa", "PTR", ["n6.node.dc1.consul."]),
        ("consul", "SOA", [SOA[3]]),
        ("web.service.consul", "SOA", [SOA[3]]),
        ("anything.consul", "NS", ["n1.node.dc1.consul."]),
    ],
)
def test_found(name: str, qtype: str, data: list[str]) -> None:
    seen = rows(name, qtype)
    assert (seen.rcode, seen.data) == ("NOERROR", data)
    assert "aa" in seen.flags


@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [
        ("web.service.consul", "MX", "NOERROR"),
        ("web.service.consul", "AAAA", "NOERROR"),
        ("own6.service.consul", "A", "NOERROR"),
        ("n1.node.consul", "AAAA", "NOERROR"),
        ("n1.node.consul", "SRV", "NOERROR"),
        ("down.service.consul", "A", "NXDOMAIN"),
        ("nosuch.service.consul", "SRV", "NXDOMAIN"),
        ("pink.web.service.consul", "A", "NXDOMAIN"),
        ("_web._udp.service.consul", "SRV", "NXDOMAIN"),
        ("nosuch.node.consul", "MX", "NXDOMAIN"),
        ("ac.node.consul", "A", "NXDOMAIN"),
        ("a.node.consul", "A", "NXDOMAIN"),
        ("xyzxyzxy.addr.consul", "A", "NXDOMAIN"),
        ("web.virtual.consul", "A", "NXDOMAIN"),
        ("consul", "A", "NXDOMAIN"),
        ("9.9.9.9.in-addr.arpa", "PTR", "NXDOMAIN"),
    ],
)
def test_not_found_carries_the_soa(name: str, qtype: str, rcode: str) -> None:
    seen = rows(name, qtype)
    assert (seen.rcode, seen.answer, seen.authority) == (rcode, (), (SOA,))


def test_srv_brings_addresses_and_meta_of_its_nodes() -> None:
    seen = rows("blue.web.service.consul", "SRV")
    assert seen.additional == (
        ("n1.node.dc1.consul.", "A", 0, "10.0.0.1"),
        ("n1.node.dc1.consul.", "TXT", 0, '"rack=r1"'),
    )


def test_srv_to_a_name_of_ours_brings_its_addresses() -> None:
    seen = rows("inner.service.consul", "SRV")
    assert [row[3] for row in seen.answer] == ["1 1 80 Web.service.consul."]
    assert {row[3] for row in seen.additional if row[1] == "A"} == {"10.0.0.1", "10.0.0.2"}


def test_soa_brings_the_name_servers() -> None:
    seen = rows("consul", "SOA")
    assert seen.authority == (("consul.", "NS", 0, "n1.node.dc1.consul."),)
    assert seen.additional == (("n1.node.dc1.consul.", "A", 0, "10.0.0.1"),)


def test_a_ring_of_names_ends_after_four() -> None:
    seen = rows("loop.service.consul", "A")
    assert [row[1] for row in seen.answer] == ["CNAME"] * 4


def test_long_text_is_split_and_bare_keys_stay_bare() -> None:
    texts = rows("bare.name.node.consul", "TXT").data
    assert texts == ['"as it is"', '"big=' + "y" * 251 + '","' + "y" * 49 + '"']


def test_names_keep_the_case_of_the_question_and_of_the_catalog() -> None:
    assert rows("WEB.service.Consul", "A").answer[0][0] == "WEB.service.Consul."
    assert rows("50.0.0.10.in-addr.arpa", "PTR").data == ["Bare.Name.node.dc1.consul."]
    assert rows("0A000001.ADDR.consul", "A").answer[0][0] == "0a000001.addr.consul."


def test_ttl_is_that_of_the_settings() -> None:
    settings = DnsSettings(ttl=30)
    for name, qtype in [
        ("web.service.consul", "SRV"),
        ("n1.node.consul", "ANY"),
        ("0a000001.addr.consul", "A"),
        ("1.0.0.10.in-addr.arpa", "PTR"),
    ]:
        seen = rows(name, qtype, settings)
        assert {row[2] for row in (*seen.answer, *seen.additional)} == {30}


def test_services_have_ttls_of_their_own_and_nodes_another() -> None:
    settings = DnsSettings(ttl=5, node_ttl=7, service_ttls=(("Own", 20), ("ow*", 30), ("o*", 40), ("inner", 50)))
    for name, qtype, ttl in [
        ("own.service.consul", "SRV", 20),
        ("own6.service.consul", "AAAA", 30),
        ("outer.service.consul", "A", 40),
        ("web.service.consul", "SRV", 5),
        ("inner.service.consul", "A", 50),
        ("n1.node.consul", "ANY", 7),
        ("0a000001.addr.consul", "A", 7),
        ("1.0.0.10.in-addr.arpa", "PTR", 7),
        ("consul", "NS", 7),
    ]:
        seen = rows(name, qtype, settings)
        assert {row[2] for row in (*seen.answer, *seen.additional)} == {ttl}, name


@pytest.mark.parametrize(
    "name",
    ["web.service.dc9.consul", "n1.node.dc9.consul", "geo.query.consul", "web.connect.consul", "w.ingress.consul"],
)
def test_what_only_an_agent_knows_is_not_denied_where_none_can_be_asked(name: str) -> None:
    seen = rows(name, "A")
    assert (seen.rcode, seen.answer, seen.authority) == ("SERVFAIL", (), ())


def test_only_passing_leaves_warning_instances_out() -> None:
    assert rows("web.service.consul", "A", DnsSettings(only_passing=True)).data == ["10.0.0.1"]


def test_services_whose_names_differ_in_case_only_are_one() -> None:
    catalog = snapshot([instance("Web", 1), instance("web", 2)])
    assert rows("web.service.consul", "A", catalog=catalog).data == ["10.0.0.1", "10.0.0.2"]


def test_one_of_several_host_names_is_drawn_for_each_asker() -> None:
    hosts = [f"h{number}.example.net" for number in range(3)]
    server = responder(snapshot([instance("ext", n, service_address=host) for n, host in enumerate(hosts)]))
    drawn = {ask(server, "ext.service.consul").answer[0][3] for _ in range(60)}
    assert drawn == {f"{host}." for host in hosts}


def test_an_id_prefix_that_two_nodes_have_names_none() -> None:
    catalog = snapshot((), [node("a", "10.0.0.1", id="aabb01"), node("b", "10.0.0.2", id="aabb02")])
    assert rows("aabb.node.consul", "A", catalog=catalog).rcode == "NXDOMAIN"
    assert rows("aabb02.node.consul", "A", catalog=catalog).data == ["10.0.0.2"]


def test_nothing_is_denied_before_the_first_catalog() -> None:
    server = responder(Snapshot())
    for name in ("web.service.consul", "n1.node.consul", "consul"):
        assert ask(server, name).rcode == "SERVFAIL"
    assert ask(server, "1.0.0.10.in-addr.arpa", "PTR").rcode == "SERVFAIL"


def test_foreign_names_are_refused_without_recursors() -> None:
    seen = rows("www.example.org", "A")
    assert (seen.rcode, seen.edns_size, seen.flags) == ("REFUSED", None, {"rd"})
