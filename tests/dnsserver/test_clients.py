"""Who is answered, and what strangers get: the decision by a table, then over sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry

from dnsserver.clients import MAX_KNOWN, Clients
from dnsserver.localhosts import local_hosts
from dnsserver.metrics import DnsCollector
from lb.settings import Address, DnsSettings
from tests.support.dns import Seen, ask_tcp, ask_udp, make_query, read_frame, read_reply
from tests.support.dns_catalog import instance, respond, responder, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.recursor import answer, running_recursor

CATALOG = snapshot([instance("web", 1), instance("web", 2)])
QUERY = make_query("web.service.consul")
ALLOWED, STRANGER = "127.0.0.7", "127.0.0.8"
"""Once no network is local: a client that is allowed, and one that is not."""

SETTINGS = DnsSettings(listen=LOOPBACK, allow=(ip_network(ALLOWED),))


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("128.0.0.0", False),
        ("10.0.0.0", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.1.1", True),
        ("192.169.0.0", False),
        ("100.63.255.255", False),
        ("100.64.0.1", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("169.254.7.7", True),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("::1", True),
        ("::2", False),
        ("fc00::1", True),
        ("fdff::1", True),
        ("fe00::1", False),
        ("fe80::1%eth0", True),
        ("febf::1", True),
        ("fec0::1", False),
        ("2001:db8::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("::10.0.0.1", False),
    ],
)
def test_local_clients_are_admitted_and_strangers_are_not(host: str, admitted: bool) -> None:
    clients = Clients()
    assert [clients.admit(host) for _ in range(2)] == [admitted, admitted]


@pytest.mark.parametrize(
    ("allow", "host", "admitted"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("192.0.2.0/24", "10.0.0.1", True),
        ("192.0.2.7/32", "192.0.2.7", True),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "::ffff:203.0.113.9", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "203.0.113.9", False),
        ("::/0", "::ffff:203.0.113.9", False),
    ],
)
def test_more_networks_may_be_allowed(allow: str, host: str, admitted: bool) -> None:
    assert Clients([ip_network(allow)]).admit(host) is admitted


def test_forged_addresses_neither_fill_the_memory_nor_drive_clients_out() -> None:
    clients = Clients()
    for number in range(3 * MAX_KNOWN):
        clients.admit(f"192.0.{number >> 8}.{number & 255}")
    assert not clients.known
    clients.admit("127.0.0.1")
    for number in range(3 * MAX_KNOWN):
        assert clients.admit(f"10.0.{number >> 8}.{number & 255}")
    assert len(clients.known) == MAX_KNOWN
    assert "127.0.0.1" in clients.known


def test_a_full_memory_makes_room_in_time_and_others_are_kept() -> None:
    clients = Clients()
    clients.admit("10.0.0.1")
    clients.sweep()
    assert set(clients.known) == {"10.0.0.1"}
    for number in range(MAX_KNOWN):
        clients.admit(f"10.1.{number >> 8}.{number & 255}")
    clients.sweep()
    clients.admit("10.0.0.2")
    assert set(clients.known) == {"10.0.0.2"}


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, QUERY[:2] + b"\x81" + QUERY[3:], QUERY[:12], QUERY[:-1]])
def test_what_is_no_question_is_treated_alike(packet: bytes) -> None:
    server = responder(CATALOG)
    sent: list[bytes] = []
    answered = server.refuse(packet, server.udp, sent.append)
    assert (sent[0] if sent else None) == respond(server, packet)
    assert answered is bool(sent)


def test_a_refusal_leaves_no_trace_in_the_caches() -> None:
    server = responder(CATALOG)
    sent: list[bytes] = []
    for ident in range(100):
        server.refuse(make_query(f"n{ident}.service.consul", ident=ident), server.udp, sent.append)
    assert {read_reply(reply).rcode for reply in sent} == {"REFUSED"}
    assert len(server.udp.local) == len(server.udp.foreign) == 0


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningDns]:
    monkeypatch.setattr("dnsserver.clients.LOCAL_NETWORKS", ())
    with running_dns(SETTINGS, CATALOG) as running:
        yield running


def ask_udp_from(host: str, port: int, query: bytes = QUERY) -> Seen:
    """Ask over UDP as the client of a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind((host, 0))
        sock.connect(("127.0.0.1", port))
        sock.send(query)
        return read_reply(sock.recv(4096))


def ask_tcp_from(host: str, port: int, query: bytes = QUERY) -> list[Seen]:
    """Ask twice on one TCP connection as the client of a loopback address."""
    with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(host, 0)) as sock:
        sock.sendall((len(query).to_bytes(2, "big") + query) * 2)
        return [read_reply(read_frame(sock)) for _ in range(2)]


def test_strangers_are_refused_even_what_others_have_just_asked(dns: RunningDns) -> None:
    for _ in range(2):
        assert ask_udp_from(ALLOWED, dns.port).rcode == "NOERROR"
        refused = ask_udp_from(STRANGER, dns.port)
        assert (refused.rcode, refused.flags, refused.answer) == ("REFUSED", {"rd"}, ())
        assert refused.wire == QUERY[:2] + b"\x81\x05" + QUERY[4:]
        assert [seen.rcode for seen in ask_tcp_from(ALLOWED, dns.port)] == ["NOERROR"] * 2
        assert [seen.rcode for seen in ask_tcp_from(STRANGER, dns.port)] == ["REFUSED"] * 2


def test_a_socket_on_all_addresses_refuses_from_the_one_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.clients.LOCAL_NETWORKS", ())
    settings = DnsSettings(listen=(Address("0.0.0.0", 0),), allow=SETTINGS.allow)
    with (
        running_dns(settings, CATALOG) as dns,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(5)
        sock.bind((STRANGER, 0))
        sock.sendto(QUERY, ("127.0.0.3", dns.port))
        reply, sender = sock.recvfrom(4096)
        assert (read_reply(reply).rcode, sender) == ("REFUSED", ("127.0.0.3", dns.port))
        assert ask_udp_from(ALLOWED, dns.port).rcode == "NOERROR"


def test_ipv6_strangers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not local_hosts(["::1"]):
        pytest.skip("no IPv6 on this machine")
    monkeypatch.setattr("dnsserver.clients.LOCAL_NETWORKS", ())
    for allow, rcode in (("::/0", "NOERROR"), ("2001:db8::/32", "REFUSED")):
        settings = DnsSettings(listen=(Address("::1", 0),), allow=(ip_network(allow),))
        with running_dns(settings, CATALOG) as dns:
            assert read_reply(ask_udp(dns.port, QUERY, host="::1")).rcode == rcode
            assert read_reply(ask_tcp(dns.port, QUERY, host="::1")).rcode == rcode


def test_no_stranger_reaches_a_recursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.clients.LOCAL_NETWORKS", ())
    foreign = make_query("www.example.org")
    with running_recursor(lambda query: [answer(query, "www.example.org. 60 A 192.0.2.1")]) as recursor:
        settings = DnsSettings(listen=LOOPBACK, allow=SETTINGS.allow, recursors=(recursor.address,))
        with running_dns(settings, CATALOG) as dns:
            refused = ask_udp_from(STRANGER, dns.port, foreign)
            assert (refused.rcode, refused.flags) == ("REFUSED", {"rd"}), "recursion is not available"
            assert recursor.queries == []
            assert ask_udp_from(ALLOWED, dns.port, foreign).data == ["192.0.2.1"]


def test_refusals_are_counted_by_reason(dns: RunningDns) -> None:
    registry = CollectorRegistry()
    registry.register(DnsCollector(dns.stats))
    ask_udp_from(STRANGER, dns.port)
    ask_tcp_from(STRANGER, dns.port)
    ask_udp_from(ALLOWED, dns.port, make_query("www.example.org"))
    ask_udp_from(ALLOWED, dns.port, QUERY[:-1] + b"\3")
    counted = {
        reason: registry.get_sample_value("dns_refused_total", {"reason": reason})
        for reason in ("client", "foreign_name", "class")
    }
    assert counted == {"client": 3, "foreign_name": 1, "class": 1}
    assert registry.get_sample_value("dns_replies_total", {"rcode": "REFUSED"}) == 5
