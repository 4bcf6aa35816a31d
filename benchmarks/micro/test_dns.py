"""What one query costs in the responder, sockets apart: from the wire cache, and made anew."""

from __future__ import annotations

from itertools import cycle

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dnsserver.zone import Zone
from lb.settings import DnsSettings
from tests.support.dns import make_query
from tests.support.dns_catalog import SERIAL, instance, responder, snapshot

SERVICES = 2000
INSTANCES = 5


@pytest.fixture(scope="module")
def zone() -> Zone:
    members = [
        instance(f"service-{number}", each, node_meta={"consul-network-segment": ""})
        for number in range(SERVICES)
        for each in range(1, INSTANCES + 1)
    ]
    return Zone(snapshot(members), DnsSettings(), SERIAL)


@pytest.mark.parametrize("qtype", ["A", "SRV"])
def test_hit(benchmark: BenchmarkFixture, zone: Zone, qtype: str) -> None:
    server = responder(zone.snapshot)
    query = make_query("service-1.service.consul", qtype, edns=1232)
    sent: list[bytes] = []

    def ask() -> None:
        sent.clear()
        server.respond(query, server.udp, sent.append)

    ask()
    benchmark(ask)
    assert len(sent) == 1


@pytest.mark.parametrize("qtype", ["A", "SRV"])
def test_miss(benchmark: BenchmarkFixture, zone: Zone, qtype: str) -> None:
    server = responder(zone.snapshot)
    queries = cycle(make_query(f"service-{number}.service.consul", qtype, edns=1232) for number in range(SERVICES))
    sent: list[bytes] = []

    def ask() -> None:
        sent.clear()
        server.udp.local.clear()
        server.respond(next(queries), server.udp, sent.append)

    benchmark(ask)
    assert len(sent) == 1


def test_new_catalog(benchmark: BenchmarkFixture, zone: Zone) -> None:
    """A catalog of 2,000 services takes effect, and one question is answered from it."""
    server = responder(zone.snapshot)
    query = make_query("service-1.service.consul")
    sent: list[bytes] = []

    def change() -> None:
        server.apply(Zone(zone.snapshot, DnsSettings(), SERIAL))
        server.respond(query, server.udp, sent.append)

    benchmark(change)
    assert sent
