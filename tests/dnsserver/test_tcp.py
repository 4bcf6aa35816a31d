"""Clients that abuse TCP: what each gets, what it is counted as, and that all others are served meanwhile."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from dnsserver.metrics import DnsCollector
from lb.settings import DnsSettings
from tests.support.dns import ask_tcp, make_query, read_frame, read_reply
from tests.support.dns_catalog import instance, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import wait_until
from tests.support.recursor import answer, running_recursor

CATALOG = snapshot([instance("web", number) for number in range(1, 4)])
QUERY = make_query("web.service.consul")
FRAME = len(QUERY).to_bytes(2, "big") + QUERY
CROWD = 1000


@pytest.fixture
def dns() -> Iterator[RunningDns]:
    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as running:
        yield running


def connect(dns: RunningDns, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", dns.port), timeout=15, source_address=(host, 0))


def replies(sock: socket.socket) -> int:
    """Count replies until the connection ends, however it does."""
    count = 0
    with contextlib.suppress(ConnectionError, AssertionError):
        while read_frame(sock):
            count += 1
    return count


def answers(dns: RunningDns) -> bool:
    return len(read_reply(ask_tcp(dns.port, QUERY)).answer) == 3


def dropped(dns: RunningDns, reason: str) -> float:
    """Read what a scrape says."""
    registry = CollectorRegistry()
    registry.register(DnsCollector(dns.stats))
    return registry.get_sample_value("dns_dropped_total", {"reason": reason}) or 0


def wait_dropped(dns: RunningDns, reason: str, count: int = 1) -> None:
    wait_until(lambda: dropped(dns, reason) == count, what=f"{count} counted as {reason}")


def test_a_query_that_is_announced_too_large_is_not_collected(dns: RunningDns) -> None:
    with connect(dns) as sock:
        sock.sendall(FRAME * 2 + b"\x10\x01" + b"x" * 50)
        assert replies(sock) == 2, "what came before is answered"
    assert dropped(dns, "tcp_oversized") == 1
    assert answers(dns)


def test_a_query_as_large_as_allowed_is_read(dns: RunningDns) -> None:
    with connect(dns) as sock:
        sock.sendall(b"\x10\x00" + QUERY.ljust(4096, b"\0"))
        assert read_reply(read_frame(sock)).rcode == "NOERROR"


def test_half_a_query_before_the_end_is_counted(dns: RunningDns) -> None:
    with connect(dns) as sock:
        sock.sendall(FRAME + FRAME[:-3])
        sock.shutdown(socket.SHUT_WR)
        assert replies(sock) == 1
    wait_dropped(dns, "tcp_half")


def test_queries_beyond_the_most_are_counted_once(dns: RunningDns) -> None:
    with connect(dns) as sock:
        sock.sendall(FRAME * 300)
        assert replies(sock) <= 128
    wait_dropped(dns, "tcp_queries")


def test_a_client_that_sends_octet_by_octet_has_no_more_time_than_others(
    monkeypatch: pytest.MonkeyPatch, dns: RunningDns
) -> None:
    monkeypatch.setattr("dnsserver.tcp.FIRST_QUERY", 0.2)
    stop = threading.Event()
    with connect(dns) as sock:

        def drip() -> None:
            with contextlib.suppress(OSError):
                for octet in b"\x0f\xff" + bytes(1000):
                    sock.sendall(bytes([octet]))
                    if stop.wait(0.05):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            wait_dropped(dns, "tcp_slow")
        finally:
            stop.set()
            thread.join()
    assert answers(dns)


@contextlib.contextmanager
def slow_recursor() -> Iterator[tuple[DnsSettings, threading.Event, threading.Event]]:
    """Run a recursor that answers when it may; yields settings with it, "it is asked", and "it may answer"."""
    asked, may_answer = threading.Event(), threading.Event()

    def slow(query: bytes) -> list[bytes]:
        asked.set()
        may_answer.wait(10)
        return [answer(query, "example.org. 60 A 192.0.2.1")]

    with running_recursor(slow) as recursor:
        yield DnsSettings(listen=LOOPBACK, recursors=(recursor.address,), recursor_timeout=10), asked, may_answer


def test_a_client_that_is_gone_when_its_reply_comes_is_counted() -> None:
    query = make_query("example.org")
    with slow_recursor() as (settings, asked, may_answer), running_dns(settings, CATALOG) as dns:
        with connect(dns) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(len(query).to_bytes(2, "big") + query)
            assert asked.wait(10)
        wait_until(lambda: dns.stats.tcp_open == 0, what="the client is gone")
        may_answer.set()
        wait_dropped(dns, "tcp_gone")


def test_one_client_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch, dns: RunningDns) -> None:
    monkeypatch.setattr("dnsserver.tcp.MAX_CLIENT_CONNECTIONS", 3)
    with contextlib.ExitStack() as held:
        greedy = [held.enter_context(connect(dns)) for _ in range(5)]
        wait_dropped(dns, "tcp_client_connections", 2)
        other = held.enter_context(connect(dns, "127.0.0.9"))
        for sock in (*greedy[:3], other):
            sock.sendall(FRAME)
            assert read_frame(sock)
        assert [replies(sock) for sock in greedy[3:]] == [0, 0]
    wait_until(lambda: dns.stats.tcp_open == 0, what="all are gone")
    assert answers(dns), "who has gone counts no more"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for both ends of the crowd's connections, which are in one process here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 300
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows no more than {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_clients_at_once_are_all_served_though_some_are_bad(
    monkeypatch: pytest.MonkeyPatch, dns: RunningDns
) -> None:
    # Time goes by when the test says so: connecting a thousand clients may take longer than they are given.
    monkeypatch.setattr("dnsserver.tcp.FIRST_QUERY", 3600)
    with contextlib.ExitStack() as held:
        crowd = [held.enter_context(connect(dns)) for _ in range(CROWD)]
        wait_until(lambda: dns.stats.tcp_open == CROWD, what="all are connected")
        for number, sock in enumerate(crowd):
            # Of ten clients one is silent, one sends half a query; the others send two, in pieces.
            sock.sendall({0: b"", 1: FRAME[:9]}.get(number % 10, FRAME + FRAME[:20]))
        assert answers(dns)
        for number, sock in enumerate(crowd):
            if number % 10 > 1:
                sock.sendall(FRAME[20:])
                assert [len(read_reply(read_frame(sock)).answer) for _ in range(2)] == [3, 3]
        connections = dns.server._connections
        assert connections is not None
        connections.clock = lambda: 1e12
        wait_until(lambda: dns.stats.tcp_open == 0, what="all have been idle for too long")
    assert dropped(dns, "tcp_slow") == CROWD // 10
    assert dropped(dns, "tcp_idle") == CROWD * 9 // 10
    assert dns.stats.tcp_accepted == CROWD + 1


def test_a_client_that_ends_its_side_early_gets_large_replies_whole() -> None:
    big = snapshot(
        [instance("big", number, node_address=f"10.0.{number >> 8}.{number & 255}") for number in range(2000)]
    )
    query = make_query("big.service.consul", "SRV")
    with running_dns(DnsSettings(listen=LOOPBACK), big) as dns, connect(dns) as sock:
        sock.sendall((len(query).to_bytes(2, "big") + query) * 40)
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: dns.stats.replies > 3, what="it is being answered")
        assert replies(sock) == 40


def connect_lazy(dns: RunningDns) -> socket.socket:
    """Connect with a receive buffer so small that nearly all that is not read waits at the server."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(15)
    sock.connect(("127.0.0.1", dns.port))
    return sock


def test_clients_that_never_read_hold_a_bounded_amount_together(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 512 << 10
    monkeypatch.setattr("dnsserver.tcp.MAX_HELD", limit)
    big = snapshot(
        [instance("web", number, node_address=f"10.0.{number >> 8}.{number & 255}") for number in range(1, 3000)]
    )
    query = make_query("web.service.consul", "SRV")
    queries = (len(query).to_bytes(2, "big") + query) * 127
    with running_dns(DnsSettings(listen=LOOPBACK), big) as dns, contextlib.ExitStack() as held:
        connections = dns.server._connections
        assert connections is not None
        for count in range(1, 25):
            held.enter_context(connect_lazy(dns)).sendall(queries)
            wait_until(lambda count=count: dns.stats.tcp_accepted == count, what="it is accepted")  # type: ignore[misc]
            assert dns.call(lambda: sum(session.held for session in connections._open)) <= limit
        wait_until(lambda: dropped(dns, "tcp_memory") > 0, what="some are ended")
        assert dns.stats.tcp_open > 1, "not all of them"
        with connect(dns) as sock:
            sock.sendall(queries)
            sock.shutdown(socket.SHUT_WR)
            assert replies(sock) == 127, "who reads is served"


def test_while_draining_only_what_was_asked_before_is_answered() -> None:
    query = make_query("example.org")
    with (
        slow_recursor() as (settings, asked, may_answer),
        ThreadPoolExecutor() as threads,
        running_dns(settings, CATALOG) as dns,
        connect(dns) as busy,
        connect(dns) as idle,
    ):
        idle.sendall(FRAME)
        assert read_frame(idle)
        busy.sendall(len(query).to_bytes(2, "big") + query)
        assert asked.wait(10)
        stopping = threads.submit(dns.run, dns.server.stop(10))
        assert idle.recv(1) == b"", "who waits for nothing is let go"
        busy.sendall(FRAME)
        may_answer.set()
        assert read_reply(read_frame(busy)).data == ["192.0.2.1"]
        assert replies(busy) == 0
        stopping.result(10)
