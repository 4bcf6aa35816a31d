"""The server over real sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dnsserver.localhosts import local_hosts
from lb.catalog.model import Snapshot
from lb.errors import ListenError
from lb.settings import Address, DnsSettings
from lb.sockets import Inherited, open_pair
from tests.support.dns import Seen, ask_tcp, ask_udp, make_query, read_frame, read_reply
from tests.support.dns_catalog import instance, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import free_ports, wait_until
from tests.support.recursor import answer, running_recursor

CATALOG = snapshot([instance("web", 1), instance("web", 2)])
QUERY = make_query("web.service.consul")


@pytest.fixture
def dns() -> Iterator[RunningDns]:
    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as running:
        yield running


@contextlib.contextmanager
def connected(dns: RunningDns) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", dns.port), timeout=15) as sock:
        yield sock


def ask(dns: RunningDns, query: bytes = QUERY) -> Seen:
    return read_reply(ask_udp(dns.port, query))


def frame(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def test_udp_and_tcp_share_a_port(dns: RunningDns) -> None:
    assert ask(dns).data == ["10.0.0.1", "10.0.0.2"]
    assert read_reply(ask_tcp(dns.port, QUERY)).data == ["10.0.0.1", "10.0.0.2"]


def test_answers_change_places_from_reply_to_reply(dns: RunningDns) -> None:
    assert {ask(dns).answer[0][3] for _ in range(30)} == {"10.0.0.1", "10.0.0.2"}


def test_a_new_catalog_is_in_force_at_once(dns: RunningDns) -> None:
    ask(dns)
    ask_tcp(dns.port, QUERY)
    dns.apply(snapshot([instance("web", 3)], generation=2))
    assert ask(dns).data == ["10.0.0.3"]
    assert read_reply(ask_tcp(dns.port, QUERY)).data == ["10.0.0.3"]
    dns.apply(snapshot([], generation=3))
    assert ask(dns).rcode == "NXDOMAIN"


def test_servfail_until_the_first_catalog() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK)) as dns:
        assert ask(dns).rcode == "SERVFAIL"
        dns.apply(CATALOG)
        assert ask(dns).rcode == "NOERROR"


def test_a_catalog_may_come_before_the_start() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK)) as dns:
        dns.run(dns.server.stop())
        dns.apply(CATALOG)
        dns.start(dns.addresses)
        assert ask(dns).rcode == "NOERROR"


def test_a_socket_on_all_addresses_answers_from_the_one_that_was_asked() -> None:
    with running_dns(DnsSettings(listen=(Address("0.0.0.0", 0),)), CATALOG) as dns:
        for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                for _ in range(3):
                    sock.sendto(QUERY, (host, dns.port))
                    reply, sender = sock.recvfrom(4096)
                    assert sender == (host, dns.port)
                    assert read_reply(reply).data == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    if not local_hosts(["::1"]):
        pytest.skip("no IPv6 on this machine")
    both = (Address(host, 0), Address("127.0.0.1", 0))
    with running_dns(DnsSettings(listen=both), CATALOG) as dns:
        for _ in range(2):
            assert read_reply(ask_udp(dns.port, QUERY, host="::1")).rcode == "NOERROR"
        assert read_reply(ask_tcp(dns.port, QUERY, host="::1")).rcode == "NOERROR"


def test_an_address_that_is_taken_is_named_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = DnsSettings(listen=(Address("127.0.0.1", 0), Address("127.0.0.1", port)))
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}: Address already in use"), running_dns(settings):
            pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", port))


def test_the_server_does_not_ask_itself() -> None:
    address = Address("127.0.0.1", free_ports(1)[0])
    with running_dns(DnsSettings(listen=(address,), recursors=(address,)), CATALOG) as dns:
        assert ask(dns, make_query("www.example.org")).rcode == "REFUSED"


def test_hostile_packets_do_no_harm(dns: RunningDns) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for packet in (b"", b"x", b"\0" * 11, b"\xff" * 600, QUERY[:-1], QUERY[:12], b"\0" * 65000):
            sock.sendto(packet, ("127.0.0.1", dns.port))
    assert ask(dns).rcode == "NOERROR"
    assert dns.stats.dropped["not_a_query"] >= 3


def test_pipelined_queries_are_all_answered_however_they_are_cut(dns: RunningDns) -> None:
    queries = b"".join(frame(make_query("web.service.consul", ident=ident)) for ident in range(20))
    with connected(dns) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(queries), 7):
            sock.sendall(queries[at : at + 7])
        idents = [read_frame(sock)[:2] for _ in range(20)]
    assert idents == [ident.to_bytes(2, "big") for ident in range(20)]


def test_silence_over_tcp_leaves_the_connection_open(dns: RunningDns) -> None:
    with connected(dns) as sock:
        sock.sendall(frame(b"") + frame(b"\0" * 5) + frame(b"\0\0\x80" + b"\0" * 20) + frame(QUERY))
        assert read_reply(read_frame(sock)).rcode == "NOERROR"


def test_a_client_that_sends_no_more_still_gets_its_replies(dns: RunningDns) -> None:
    with connected(dns) as sock:
        sock.sendall(frame(QUERY) * 3)
        sock.shutdown(socket.SHUT_WR)
        assert [len(read_frame(sock)) > 0 for _ in range(4)] == [True, True, True, False]


def test_a_connection_ends_after_128_queries(dns: RunningDns) -> None:
    with connected(dns) as sock:
        sock.sendall(frame(QUERY) * 130)
        answered = 0
        with contextlib.suppress(ConnectionResetError):
            while read_frame(sock):
                answered += 1
    assert answered == 128


def test_long_keys_do_not_swell_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.lane.CACHE_BYTES", 100_000)
    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as dns:
        for number in range(200):
            ask(dns, QUERY + number.to_bytes(4, "big") * 900)
        assert dns.call(dns.stats.gauges).entries <= 30


def test_a_connection_without_a_query_is_closed(dns: RunningDns) -> None:
    with connected(dns) as silent, connected(dns) as half:
        half.sendall(frame(QUERY)[:5])
        assert silent.recv(1) == b""
        with contextlib.suppress(ConnectionResetError):
            assert half.recv(1) == b""
    assert dns.stats.dropped["tcp_idle"] == 1
    assert dns.stats.dropped["tcp_slow"] == 1


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch, dns: RunningDns) -> None:
    monkeypatch.setattr("dnsserver.tcp.IDLE", 0.1)
    with connected(dns) as sock:
        sock.sendall(frame(QUERY))
        assert read_frame(sock)
        assert sock.recv(1) == b""


def test_a_client_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.tcp.IDLE", 0.5)
    big = snapshot(
        [instance("big", number, node_address=f"10.0.{number >> 8}.{number & 255}") for number in range(3000)]
    )
    with running_dns(DnsSettings(listen=LOOPBACK), big) as dns, connected(dns) as sock:
        with contextlib.suppress(ConnectionResetError):
            sock.sendall(frame(make_query("big.service.consul", "SRV")) * 127)
        wait_until(lambda: dns.stats.dropped["tcp_slow"], what="the slow reader is ended")
        wait_until(lambda: dns.stats.tcp_open == 0, what="its connection is gone")


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch, dns: RunningDns) -> None:
    monkeypatch.setattr("dnsserver.tcp.MAX_CONNECTIONS", 2)
    with connected(dns) as one, connected(dns) as two:
        wait_until(lambda: dns.stats.tcp_open == 2, what="two connections")
        with connected(dns) as third, contextlib.suppress(ConnectionResetError):
            assert third.recv(1) == b""
        for sock in (one, two):
            sock.sendall(frame(QUERY))
            assert read_frame(sock)
    wait_until(lambda: dns.stats.tcp_open == 0, what="all are closed")
    assert dns.stats.dropped["tcp_connections"] == 1


def test_a_bug_is_servfail_and_counted_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as dns:
        with monkeypatch.context() as patch:
            patch.setattr("dnsserver.responder.answer", broken)
            assert ask(dns).rcode == "SERVFAIL"
            assert ask(dns).rcode == "SERVFAIL"
        assert dns.stats.faults.pop("RuntimeError") == 2
        assert ask(dns).rcode == "NOERROR"
    assert caplog.text.count("a bug\n") == 1


def test_two_servers_may_share_a_port() -> None:
    pair = open_pair(LOOPBACK[0], 2, Inherited())
    socks = [[(shared.place.kind, sock) for shared in pair for sock in shared.share(number, 2)] for number in (0, 1)]
    settings = DnsSettings(listen=(pair[0].place.address,))
    with (
        running_dns(settings, CATALOG, inherited=Inherited(socks[0])) as one,
        running_dns(settings, CATALOG, inherited=Inherited(socks[1])) as two,
    ):
        for _ in range(50):
            assert ask(one).rcode == "NOERROR"
        assert one.stats.replies
        assert two.stats.replies


@pytest.mark.parametrize(("grace", "rcode"), [(10.0, "NOERROR"), (0.0, "SERVFAIL")])
def test_a_question_under_way_is_answered_before_the_end(grace: float, rcode: str) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def slow(query: bytes) -> list[bytes]:
        asked.set()
        may_answer.wait(1.5)
        return [answer(query, "example.org. 60 A 192.0.2.1")]

    with running_recursor(slow) as recursor, ThreadPoolExecutor() as threads:
        settings = DnsSettings(listen=LOOPBACK, recursors=(recursor.address,))
        with running_dns(settings, CATALOG) as dns:
            reply = threads.submit(ask, dns, make_query("example.org"))
            assert asked.wait(10)
            stopping = threads.submit(dns.run, dns.server.stop(grace))
            if grace:
                may_answer.set()
            assert reply.result(10).rcode == rcode
            may_answer.set()
            stopping.result(10)


def test_stopping_frees_the_port_and_ends_connections() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK), Snapshot(generation=1)) as dns:
        port = dns.port
        with connected(dns) as sock:
            wait_until(lambda: dns.stats.tcp_open == 1, what="a connection")
            dns.run(dns.server.stop())
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        with running_dns(DnsSettings(listen=(Address("127.0.0.1", port),)), CATALOG) as again:
            assert ask(again).rcode == "NOERROR"
