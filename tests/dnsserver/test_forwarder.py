"""Foreign names, through a server and a scripted recursor on loopback."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from lb.settings import Address
from tests.support.dns import ask_tcp, ask_udp, make_query, read_reply
from tests.support.process import free_ports, wait_until
from tests.support.recursor import Script, answer, ask, fails, forwarding, good, qname, running_recursor, silent


def test_a_foreign_name_is_asked_once_and_then_cached() -> None:
    with running_recursor(good()) as recursor, forwarding(recursor) as dns:
        first = ask(dns, "WWW.example.ORG", ident=7)
        assert first.answer == (("WWW.example.ORG.", "A", 60, "192.0.2.1"),)
        assert (first.wire[:2], first.flags) == (b"\0\7", {"rd", "ra"})
        assert ask(dns, "www.EXAMPLE.org").data == ["192.0.2.1"]
        assert read_reply(ask_tcp(dns.port, make_query("www.example.org"))).data == ["192.0.2.1"]
        assert len(recursor.queries) == 1


def test_names_of_the_domain_never_reach_a_recursor() -> None:
    with running_recursor(good()) as recursor, forwarding(recursor) as dns:
        seen = ask(dns, "web.service.consul")
        assert (seen.data, seen.flags) == (["10.0.0.1"], {"aa", "rd", "ra"})
        assert ask(dns, "nosuch.service.consul").rcode == "NXDOMAIN"
        assert recursor.queries == []


def test_questions_go_out_from_random_ports_with_random_ids() -> None:
    with running_recursor(good()) as recursor, forwarding(recursor) as dns:
        for number in range(20):
            ask(dns, f"h{number}.example.org", ident=7, rd=False)
        assert len({query[:2] for _, query in recursor.queries}) > 15
        assert len({port for _, port in recursor.peers}) > 15
        assert all(query[2] & 1 for _, query in recursor.queries), "recursion is desired"


@pytest.mark.parametrize("first", [silent, fails("SERVFAIL"), fails("REFUSED"), lambda query: [b"\0" * 40]])
def test_a_recursor_that_fails_is_followed_by_the_next(first: Script) -> None:
    with (
        running_recursor(first) as bad,
        running_recursor(good("192.0.2.2")) as next_one,
        forwarding(bad, next_one) as dns,
    ):
        assert ask(dns).data == ["192.0.2.2"]
        assert bad.names == ["www.example.org."]


def test_negative_answers_are_kept_as_their_soa_says() -> None:
    soa = "example. 300 SOA ns.example. host.example. 1 2 3 4 2"

    def script(query: bytes) -> list[bytes]:
        return [answer(query, rcode="NXDOMAIN" if qname(query).startswith("no") else "NOERROR", authority=soa)]

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        for number in range(3):
            assert ask(dns, "nosuch.example", edns=1000 + number).rcode == "NXDOMAIN"
            assert ask(dns, "empty.example", edns=1000 + number).rcode == "NOERROR"
        assert sorted(recursor.names) == ["empty.example.", "nosuch.example."]
        wait_until(lambda: ask(dns, "nosuch.example") and len(recursor.queries) > 2, what="it is asked again")


def test_recursors_are_asked_at_random() -> None:
    with (
        running_recursor(good()) as first,
        running_recursor(good()) as second,
        forwarding(first, second, recursor_strategy="random") as dns,
    ):
        names = [f"h{number}.example." for number in range(24)]
        for name in names:
            ask(dns, name)
        assert sorted(first.names + second.names) == sorted(names)
        assert first.names
        assert second.names


def test_a_lost_packet_is_sent_again_within_the_time_for_a_reply() -> None:
    seen: list[bytes] = []

    def script(query: bytes) -> list[bytes]:
        seen.append(query)
        return good()(query) if len(seen) > 1 else []

    with running_recursor(script) as recursor, forwarding(recursor, timeout=1) as dns:
        assert ask(dns).data == ["192.0.2.1"]
        assert seen[0] == seen[1]
        assert dns.stats.forwarded == {(str(recursor.address), "ok"): 1}


@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP"])
def test_a_recursor_without_edns_is_asked_without(rcode: str) -> None:
    def script(query: bytes) -> list[bytes]:
        return [answer(query, rcode=rcode)] if query[11] else good()(query)

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns, edns=4096).data == ["192.0.2.1"]
        assert [query[11] for _, query in recursor.queries] == [1, 0]


def test_a_port_without_recursor_does_not_cost_the_timeout() -> None:
    closed = Address("127.0.0.1", free_ports(1)[0])
    with running_recursor(good()) as recursor, forwarding(closed, recursor, timeout=30) as dns:
        assert ask(dns).data == ["192.0.2.1"]


def test_nxdomain_is_an_answer() -> None:
    with (
        running_recursor(fails("NXDOMAIN")) as first,
        running_recursor(good()) as second,
        forwarding(first, second) as dns,
    ):
        assert ask(dns).rcode == "NXDOMAIN"
        assert second.queries == []


def test_servfail_when_all_recursors_fail() -> None:
    with running_recursor(silent) as one, running_recursor(fails("SERVFAIL")) as two, forwarding(one, two) as dns:
        seen = ask(dns, ident=77)
        assert (seen.rcode, seen.wire[:2]) == ("SERVFAIL", b"\0\x4d")
        assert dns.stats.forwarded == {(str(one.address), "timeout"): 1, (str(two.address), "refused"): 1}


def test_replies_that_do_not_match_are_passed_over() -> None:
    def script(query: bytes) -> list[bytes]:
        right = answer(query, f"{qname(query)} 60 A 192.0.2.1")
        forged = answer(query, f"{qname(query)} 60 A 203.0.113.6")
        wrong_id = bytes([forged[0] ^ 1]) + forged[1:]
        wrong_question = forged.replace(b"example", b"exbmple", 1)
        return [wrong_id, wrong_question, b"", right]

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns).data == ["192.0.2.1"]
        assert dns.stats.dropped["recursor_mismatch"] == 3


def test_a_reply_from_another_sender_is_not_heard() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def script(query: bytes) -> list[bytes]:
            stranger.sendto(answer(query, f"{qname(query)} 60 A 203.0.113.6"), recursor.peers[-1])
            return [answer(query, f"{qname(query)} 60 A 192.0.2.1")]

        with running_recursor(script) as recursor, forwarding(recursor) as dns:
            assert ask(dns).data == ["192.0.2.1"]


def test_a_truncated_reply_is_asked_again_over_tcp_and_cut_for_the_client() -> None:
    def whole(query: bytes) -> list[bytes]:
        return [answer(query, "\n".join(f"{qname(query)} 60 A 192.0.2.{n}" for n in range(100)))]

    with running_recursor(lambda query: [answer(query, tc=1)], whole) as recursor, forwarding(recursor) as dns:
        seen = ask(dns)
        assert "tc" in seen.flags
        assert len(seen.wire) <= 512
        over_tcp = read_reply(ask_tcp(dns.port, make_query("www.example.org")))
        assert (len(over_tcp.answer), "tc" in over_tcp.flags) == (100, False)
        assert [transport for transport, _ in recursor.queries] == ["udp", "tcp"]


def test_many_askers_of_one_question_share_one_exchange() -> None:
    with running_recursor(silent) as recursor, forwarding(recursor, timeout=20) as dns:
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(ask, dns, ident=ident) for ident in range(20)]
            wait_until(lambda: dns.stats.foreign_misses == 20, what="all askers wait")
            ((_, query),) = recursor.queries
            recursor.sock.sendto(answer(query, "www.example.org. 60 A 192.0.2.1"), recursor.peers[0])
            seen = [each.result(timeout=10) for each in asked]
        assert {tuple(each.data) for each in seen} == {("192.0.2.1",)}
        assert [each.wire[:2] for each in seen] == [ident.to_bytes(2, "big") for ident in range(20)]


def test_too_many_questions_in_flight_are_servfail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.forwarder.MAX_QUESTIONS", 1)
    with running_recursor(silent) as recursor, forwarding(recursor, timeout=20) as dns:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting:
            waiting.sendto(make_query("a.example.org"), ("127.0.0.1", dns.port))
            wait_until(lambda: recursor.queries, what="the first question is asked")
            assert ask(dns, "b.example.org").rcode == "SERVFAIL"
        assert dns.stats.dropped["forwarder_full"] == 1


def test_nothing_is_kept_in_a_cache_of_no_size() -> None:
    with running_recursor(good()) as recursor, forwarding(recursor, cache_size=0) as dns:
        ask(dns)
        ask(dns, edns=1232)
        assert len(recursor.queries) == 2
        assert dns.stats.gauges().foreign_bytes == 0


def test_a_client_that_asks_for_dnssec_has_answers_of_its_own() -> None:
    with running_recursor(good()) as recursor, forwarding(recursor) as dns:
        plain = make_query("www.example.org", edns=1232)
        for packet in (plain, plain[:-4] + b"\x80" + plain[-3:], make_query("www.example.org", cd=1)):
            ask_udp(dns.port, packet)
        flags = [(query[3] & 0x10, query[-4] & 0x80) for _, query in recursor.queries]
        assert flags == [(0, 0), (0, 0x80), (0x10, 0)]
        ask_udp(dns.port, make_query("www.example.org"))
        assert len(recursor.queries) == 3, "with EDNS or without makes no difference"


def test_unknown_reverse_names_go_to_recursors() -> None:
    def script(query: bytes) -> list[bytes]:
        return [answer(query, "9.0.0.10.in-addr.arpa. 60 PTR x.example.")]

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns, "9.0.0.10.in-addr.arpa", qtype="PTR").data == ["x.example."]
        assert ask(dns, "1.0.0.10.in-addr.arpa", qtype="PTR").data == ["n1.node.dc1.consul."]


def test_a_foreign_host_name_of_a_service_is_completed() -> None:
    def script(query: bytes) -> list[bytes]:
        return [answer(query, "db.example.net. 60 CNAME d1.example.net.\nd1.example.net. 60 A 192.0.2.9")]

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        seen = ask(dns, "ext.service.consul")
        assert [row[:3] for row in seen.answer] == [
            ("ext.service.consul.", "CNAME", 0),
            ("db.example.net.", "CNAME", 0),
            ("d1.example.net.", "A", 0),
        ]
        assert seen.answer[2][3] == "192.0.2.9"
        assert "aa" in seen.flags


def test_a_foreign_host_name_is_completed_with_the_asked_family() -> None:
    def script(query: bytes) -> list[bytes]:
        asked_for_ipv6 = query[12:].startswith(b"\2db\7example\3net\0\0\x1c")
        return [answer(query, f"db.example.net. 60 {'AAAA 2001:db8::9' if asked_for_ipv6 else 'A 192.0.2.9'}")]

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns, "ext.service.consul", qtype="AAAA").data == ["2001:db8::9", "db.example.net."]
        assert ask(dns, "ext.service.consul", qtype="A").data == ["192.0.2.9", "db.example.net."]


def test_a_host_name_that_no_recursor_knows_stays_a_cname() -> None:
    with running_recursor(fails("SERVFAIL")) as recursor, forwarding(recursor) as dns:
        seen = ask(dns, "ext.service.consul")
        assert (seen.rcode, seen.data) == ("NOERROR", ["db.example.net."])


def test_ttls_count_down_in_the_cache() -> None:
    with running_recursor(good(ttl=60)) as recursor, forwarding(recursor) as dns:
        assert ask(dns).answer[0][2] == 60
        wait_until(lambda: ask(dns).answer[0][2] < 60, what="the TTL has gone down")
        assert len(recursor.queries) == 1
