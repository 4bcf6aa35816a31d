"""Hostile packets by the thousand, without sockets and over them; `make fuzz` sends a million."""

from __future__ import annotations

import contextlib
import gc
import socket
import tracemalloc

import pytest

from benchmarks.fuzz.__main__ import main
from dnsserver.replies import Room
from dnsserver.wire import HEADER, FormatError, read_name
from lb.settings import Address, DnsSettings
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.dns_fuzz import Fuzzer, FuzzRun, hostile_catalog
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import wait_until
from tests.support.recursor import answer, running_recursor

QUERY = make_query("n1.node.consul")


@pytest.mark.parametrize("seed", range(3))
def test_no_packet_finds_a_bug_or_gets_a_reply_that_it_must_not(seed: int) -> None:
    run = FuzzRun(seed)
    run.send(20_000)
    assert len(run.tally.rcodes) >= 6, "all kinds of replies were seen"
    assert run.tally.silent


def test_the_command_says_what_it_sent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--packets", "2000", "--seed", "5"]) == 0
    assert "2000 packets, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("where", "broken"),
    [
        ("dnsserver.message.FLAG_QR", 0),
        ("dnsserver.responder.find_room", lambda *_: Room(4000)),
        ("dnsserver.responder.answer", lambda *_: 1 / 0),
        ("dnsserver.replies.opt_record", lambda *_, **__: b"\0\0\x29"),
    ],
    ids=["reply to a reply", "too large", "bug", "malformed"],
)
def test_a_server_that_breaks_a_rule_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str, broken: object
) -> None:
    monkeypatch.setattr(where, broken)
    assert main(["--packets", "5000"]) == 1
    assert "fuzz: seed 1: " in capsys.readouterr().err


def test_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE_BYTES", "SMALL_CACHE_BYTES"):
        monkeypatch.setattr(f"dnsserver.lane.{name}", 100_000)
    run = FuzzRun(7)
    run.send(3_000)
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run.send(6_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # What was kept before tracing began and has been replaced since counts as grown: no more than the caches hold.
    assert grown < 1_000_000


def send_udp(port: int, packets: list[bytes]) -> None:
    """Send packets, and read what comes so that no buffer is ever full of replies."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        for packet in packets:
            with contextlib.suppress(BlockingIOError):
                sock.send(packet)
            with contextlib.suppress(BlockingIOError):
                sock.recv(4096)


def send_tcp(port: int, stream: bytes) -> None:
    """Send octets on one connection, however it takes them, and read until its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(stream)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def frames(fuzzer: Fuzzer, count: int) -> bytes:
    """Return packets in frames, some of which lie about their length."""
    stream = bytearray()
    for _ in range(count):
        packet = fuzzer.packet()
        told = len(packet) if fuzzer.rng.random() < 0.9 else fuzzer.rng.randrange(1 << 16)
        stream += told.to_bytes(2, "big") + packet
    return bytes(stream)


def still_answers(dns: RunningDns) -> bool:
    return read_reply(ask_udp(dns.port, QUERY)).data == ["10.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_survives_hostile_packets_and_hostile_recursors(host: str) -> None:
    fuzzer, replies = Fuzzer(11), Fuzzer(12)

    def hostile(query: bytes) -> list[bytes]:
        with contextlib.suppress(Exception):  # what was asked may be too odd for the test's own library
            good = answer(query, "www.example.org. 60 A 192.0.2.1")
            return [query[:2] + replies.mutated(good)[2:], good]
        return []

    with running_recursor(hostile, hostile) as recursor:
        settings = DnsSettings(
            listen=(Address(host, 0),), recursors=(recursor.address,), recursor_timeout=0.2, rate=100_000
        )
        with running_dns(settings, hostile_catalog()) as dns:
            for _ in range(10):
                send_udp(dns.port, [fuzzer.packet() for _ in range(500)])
                send_tcp(dns.port, frames(fuzzer, 40))
                assert still_answers(dns)
            assert dns.stats.replies > 1000
            wait_until(lambda: dns.stats.tcp_open == 0, what="no connection is left")
            wait_until(lambda: dns.call(dns.stats.gauges).in_flight == 0, what="no question is left")


def test_a_flood_from_one_client_starves_no_other() -> None:
    fuzzer = Fuzzer(3)
    with running_dns(DnsSettings(listen=LOOPBACK, rate=50), hostile_catalog()) as dns:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.9", 0))
            for _ in range(1000):
                sock.sendto(fuzzer.packet(), ("127.0.0.1", dns.port))
        assert still_answers(dns)
        assert dns.stats.limited["slip"] + dns.stats.limited["drop"] > 500


@pytest.mark.parametrize("pointer", [b"\xc0\0", b"\xc0\x0b", b"\xc0\x0c", b"\xff\xff"])
def test_a_name_does_not_point_into_the_header_nor_at_itself(pointer: bytes) -> None:
    with pytest.raises(FormatError, match="does not go backwards"):
        read_name(bytes(HEADER) + pointer, HEADER)
