"""How often a client is answered over UDP, and what ANY gets there: less than a forger of senders would like."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry

from dnsserver.clients import MAX_KNOWN, SHARED_ALLOWANCES, Clients, client_network
from dnsserver.metrics import DnsCollector
from lb.settings import Address, DnsSettings
from tests.support.dns import ask_tcp, make_query, read_reply
from tests.support.dns_catalog import ask, instance, node, responder, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import wait_until
from tests.support.recursor import answer, running_recursor

CATALOG = snapshot([instance("web", number) for number in range(1, 41)])
QUERY = make_query("web.service.consul", edns=1232)
RATE = 8


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8:0:aa00::1", "2001:db8:0:aaff:ffff::9", True),
        ("2001:db8:0:aa00::1", "2001:db8:0:ab00::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
    ],
)
def test_whom_a_client_shares_its_rate_with(one: str, other: str, same: bool) -> None:
    assert (client_network(one) == client_network(other)) is same


def test_hosts_of_a_site_share_an_allowance_until_it_is_renewed() -> None:
    clients = Clients(rate=RATE)
    hosts = ["fd00::1", "fd00::2", "10.0.0.1"]
    assert all(map(clients.admit, hosts))
    first, second, third = (clients.allowance(host) for host in hosts)
    first.left -= RATE
    assert (second.left, third.left) == (0, RATE)
    clients.sweep()
    assert second.left == RATE


def test_forged_senders_take_no_memory_and_are_limited_too() -> None:
    clients = Clients([ip_network("0.0.0.0/0")], RATE)
    hosts = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(4 * MAX_KNOWN)]
    found = {id(clients.allowance(host)) for host in hosts if clients.admit(host)}
    assert len(clients.known) == MAX_KNOWN
    assert MAX_KNOWN < len(found) <= MAX_KNOWN + SHARED_ALLOWANCES
    late = clients.allowance(hosts[-1])
    late.left = -5
    assert clients.allowance(hosts[-1]) is late, "the same client, the same allowance"
    clients.sweep()
    assert late.left == RATE


def exchange(dns: RunningDns, host: str, query: bytes, count: int) -> list[bytes]:
    """Send a query so many times from one address, and return the replies once the server has seen all of them."""
    replies: list[bytes] = []
    dropped = dns.stats.limited["drop"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(("127.0.0.1", dns.port))
        for ident in range(count):
            sock.send(ident.to_bytes(2, "big") + query[2:])
        sock.settimeout(0.05)

        def all_seen() -> bool:
            with contextlib.suppress(TimeoutError):
                replies.append(sock.recv(4096))
            return len(replies) + dns.stats.limited["drop"] - dropped == count

        wait_until(all_seen, what="each packet was answered or dropped", step=0)
    return replies


@pytest.fixture
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No allowance is renewed but by the test."""
    monkeypatch.setattr("dnsserver.server.TICK", 3600)


@pytest.mark.usefixtures("no_tick")
@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_over_its_rate_a_client_gets_every_second_reply_cut_to_nothing(listen: str) -> None:
    settings = DnsSettings(listen=(Address(listen, 0),), rate=RATE)
    with running_dns(settings, CATALOG) as dns:
        seen = [read_reply(reply) for reply in exchange(dns, "127.0.0.1", QUERY, RATE + 10)]
        whole = [reply for reply in seen if "tc" not in reply.flags]
        cut = [reply for reply in seen if "tc" in reply.flags]
        assert [len(reply.answer) for reply in whole] == [40] * RATE
        assert [(reply.rcode, reply.answer, reply.edns_size) for reply in cut] == [("NOERROR", (), 1232)] * 5
        assert all(len(reply.wire) <= len(QUERY) for reply in cut)
        assert dns.stats.limited == {"slip": 5, "drop": 5}
        assert len(read_reply(ask_tcp(dns.port, QUERY)).answer) == 40, "TCP is as it was"

        assert len(exchange(dns, "127.0.0.2", QUERY, RATE)) == RATE, "another client has a rate of its own"
        dns.call(dns.server._clients.sweep)
        assert "tc" not in read_reply(exchange(dns, "127.0.0.1", QUERY, 1)[0]).flags


@pytest.mark.usefixtures("no_tick")
@pytest.mark.parametrize("packet", [QUERY[:12], QUERY[:2] + b"\x81" + QUERY[3:], QUERY[:-15]])
def test_over_its_rate_what_is_no_question_gets_nothing(packet: bytes) -> None:
    with running_dns(DnsSettings(listen=LOOPBACK, rate=1), CATALOG) as dns:
        exchange(dns, "127.0.0.1", QUERY, 1)
        assert exchange(dns, "127.0.0.1", packet, 6) == []
        assert dns.stats.limited == {"drop": 6}


@pytest.mark.usefixtures("no_tick")
def test_refusals_to_strangers_have_the_same_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.clients.LOCAL_NETWORKS", ())
    with running_dns(DnsSettings(listen=LOOPBACK, rate=RATE), CATALOG) as dns:
        replies = exchange(dns, "127.0.0.9", QUERY, 3 * RATE)
        assert {read_reply(reply).rcode for reply in replies} == {"REFUSED"}
        assert len(replies) == RATE
        assert dns.stats.limited == {"drop": 2 * RATE}


def test_without_a_rate_nobody_is_limited() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as dns:
        assert len(exchange(dns, "127.0.0.1", QUERY, 60)) == 60
        assert not dns.stats.limited


def test_what_was_limited_is_in_the_metrics() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK, rate=1), CATALOG) as dns:
        registry = CollectorRegistry()
        registry.register(DnsCollector(dns.stats))
        dns.stats.limited.update(slip=3, drop=4)
        values = [registry.get_sample_value("dns_rate_limited_total", {"action": name}) for name in ("slip", "drop")]
        assert values == [3, 4]


@pytest.mark.parametrize("size", [None, 512, 1232, 65535])
def test_any_over_udp_is_never_larger_than_512_octets(size: int | None) -> None:
    meta = {f"key{number}": "x" * 60 for number in range(10)}
    server = responder(
        snapshot([instance("web", number) for number in range(1, 60)], [node("big", "10.1.0.1", meta=meta)])
    )
    for name in ("web.service.consul", "big.node.consul"):
        seen = ask(server, name, "ANY", edns=size)
        assert "tc" in seen.flags
        assert seen.answer, "as many as fit"
        assert len(seen.wire) <= 512
    assert len(ask(server, "web.service.consul", "ANY", tcp=True).answer) == 59
    assert len(ask(server, "n1.node.consul", "ANY", edns=size).answer) == 1


def test_any_of_a_foreign_name_is_asked_for_over_tcp_alone() -> None:
    def both(query: bytes) -> list[bytes]:
        return [answer(query, "example.org. 60 A 192.0.2.1\nexample.org. 60 TXT much")]

    query = make_query("example.org", "ANY", edns=1232)
    with (
        running_recursor(both, both) as recursor,
        running_dns(DnsSettings(listen=LOOPBACK, recursors=(recursor.address,)), CATALOG) as dns,
    ):
        over_udp = read_reply(exchange(dns, "127.0.0.1", query, 1)[0])
        assert (over_udp.flags, over_udp.answer, recursor.queries) == ({"rd", "ra", "tc"}, (), [])
        assert len(read_reply(ask_tcp(dns.port, query)).answer) == 2
