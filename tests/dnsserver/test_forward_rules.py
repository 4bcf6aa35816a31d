"""Rules by suffix and the hosts file, through a server over real sockets: who answers which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lb.settings import Address, ForwardRule
from tests.support.dns import ask_tcp, make_query, read_reply
from tests.support.process import wait_until
from tests.support.recursor import answer, ask, fails, forwarding, good, qname, running_recursor, silent


def test_the_order_is_domain_hosts_rules_recursors(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.7.0.1 web.service.consul a.corp.example\n10.7.0.2 b.example\n")
    with running_recursor(good("192.0.2.1")) as others, running_recursor(good("192.0.2.2")) as corp:
        rules = (ForwardRule("corp.example", corp.address),)
        with forwarding(others, forward=rules, hosts=hosts) as dns:
            assert ask(dns, "web.service.consul").data == ["10.0.0.1"]
            assert ask(dns, "A.corp.example").data == ["10.7.0.1"]
            assert ask(dns, "b.example").data == ["10.7.0.2"]
            assert ask(dns, "c.corp.example").data == ["192.0.2.2"]
            assert ask(dns, "c.example").data == ["192.0.2.1"]
        assert (corp.names, others.names) == (["c.corp.example."], ["c.example."])


def test_reverse_names_go_by_the_same_order(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 other.name\n10.7.0.2 b.example\n")
    with running_recursor(lambda query: [answer(query, f"{qname(query)} 60 PTR ten.corp.")]) as corp:
        rules = (ForwardRule("10.in-addr.arpa", corp.address),)
        with forwarding(forward=rules, hosts=hosts) as dns:
            assert ask(dns, "1.0.0.10.in-addr.arpa", "PTR").data == ["n1.node.dc1.consul."]
            assert ask(dns, "2.0.7.10.in-addr.arpa", "PTR").data == ["b.example."]
            assert ask(dns, "9.9.9.10.in-addr.arpa", "PTR").data == ["ten.corp."]
            assert ask(dns, "9.9.9.11.in-addr.arpa", "PTR").rcode == "NXDOMAIN"


def test_without_recursors_other_names_are_refused() -> None:
    with running_recursor(good()) as corp, forwarding(forward=(ForwardRule("corp.example", corp.address),)) as dns:
        assert ask(dns, "a.corp.example").data == ["192.0.2.1"]
        assert ask(dns, "a.example").rcode == "REFUSED"
        assert ask(dns, "ext.service.consul").data == ["db.example.net."]
        assert corp.names == ["a.corp.example."]


def test_a_suffix_of_several_recursors_has_its_own_order() -> None:
    with (
        running_recursor(fails("REFUSED")) as first,
        running_recursor(good("192.0.2.2")) as second,
        running_recursor(good("192.0.2.9")) as others,
    ):
        rules = tuple(ForwardRule("corp.example", each.address) for each in (first, second))
        with forwarding(others, forward=rules) as dns:
            assert ask(dns, "a.corp.example").data == ["192.0.2.2"]
            second.udp = silent
            assert ask(dns, "b.corp.example").rcode == "SERVFAIL"
            assert (first.names, others.names) == (["a.corp.example.", "b.corp.example."], [])


def test_names_of_a_rule_that_leads_to_ourselves_go_nowhere() -> None:
    with running_recursor(good()) as others:
        address = Address("127.0.0.1", 0)
        with forwarding(others) as probe:
            address = Address("127.0.0.1", probe.port)
        rules = (ForwardRule("corp.example", address),)
        with forwarding(others, listen=(address,), forward=rules) as dns:
            assert ask(dns, "a.corp.example").rcode == "REFUSED"
            assert ask(dns, "a.example").data == ["192.0.2.1"]
            assert others.names == ["a.example."]


def test_the_hosts_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.7.0.1 b.example\n")
    with forwarding(hosts=hosts) as dns:
        for number in range(3):
            assert ask(dns, "b.example", ident=number).data == ["10.7.0.1"]
        assert dns.stats.built.total() == 1, "repetitions come from the wire cache"
        hosts.write_text("10.7.0.2 b.example\n10.7.0.3 c.example\n")
        wait_until(lambda: ask(dns, "b.example").data == ["10.7.0.2"], what="the new address")
        assert ask(dns, "c.example").data == ["10.7.0.3"]
        hosts.unlink()
        wait_until(lambda: f"{hosts} cannot be read" in caplog.text, what="the file is missed")
        assert ask(dns, "b.example").data == ["10.7.0.2"]


def test_a_service_under_a_name_of_the_hosts_file_is_completed(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.7.0.1 db.example.net\n2001:db8::7 db.example.net\n")
    with running_recursor(good()) as recursor, forwarding(recursor, hosts=hosts) as dns:
        assert ask(dns, "ext.service.consul").data == ["10.7.0.1", "db.example.net."]
        assert ask(dns, "ext.service.consul", "AAAA").data == ["2001:db8::7", "db.example.net."]
        assert recursor.queries == []


def test_a_long_list_of_addresses_is_cut_for_udp_and_whole_over_tcp(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"10.7.0.{number} many.example\n" for number in range(100)))
    with forwarding(hosts=hosts) as dns:
        seen = ask(dns, "many.example")
        assert "tc" in seen.flags
        assert len(seen.wire) <= 512
        assert len(read_reply(ask_tcp(dns.port, make_query("many.example"))).answer) == 100
