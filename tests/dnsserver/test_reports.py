"""Workers report what their DNS servers count, and the totals are what one server would have counted."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from dnsserver.metrics import DnsCollector
from dnsserver.stats import DnsStats, DnsTotals, Gauges
from dnsserver.zone import Zone
from lb.errors import ReportError
from lb.settings import DnsSettings
from tests.support.dns import make_query
from tests.support.dns_catalog import SERIAL, ask, instance, respond, responder, snapshot


def tell(worker: DnsStats, totals: DnsTotals, number: int, *, gauges: bool = True) -> bool:
    """Send a worker's report the way it goes, as JSON; whether there was one."""
    changes = worker.changes(gauges=gauges)
    if changes is not None:
        totals.add(json.loads(json.dumps(changes)), number)
    return changes is not None


def counters(stats: DnsStats) -> list[str]:
    """The lines of the metrics that only grow, but for those that tell how a reply was made."""
    registry = CollectorRegistry()
    registry.register(DnsCollector(stats))
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_total" in line and "_cache_" not in line and line[0] != "#")


@pytest.mark.parametrize("seed", range(5))
def test_the_totals_are_what_one_server_would_have_counted(seed: int) -> None:
    rng = Random(seed)
    catalog = snapshot([instance("web", number) for number in range(1, 6)])
    workers, alone, totals = [DnsStats() for _ in range(3)], DnsStats(), DnsTotals()
    servers = [responder(catalog, stats=stats) for stats in (*workers, alone)]
    for _ in range(300):
        number = rng.randrange(3)
        what = rng.randrange(6)
        name, qtype, tcp = rng.choice(["web", "nosuch"]), rng.choice(["A", "SRV"]), rng.random() < 0.3
        for server, stats in ((servers[number], workers[number]), (servers[3], alone)):
            if what == 0:
                respond(server, b"")
            elif what == 1:
                stats.forwarded["10.0.0.1:53", "ok"] += 1
                stats.faults["KeyError"] += 1
                stats.limited["slip"] += 1
                stats.foreign_hits += 1
                stats.foreign_stale += 1
                stats.foreign_failures += 1
                stats.tcp_accepted += 2
            else:
                ask(server, f"{name}.service.consul", qtype, tcp=tcp)
        if what == 2:
            tell(workers[number], totals, number, gauges=rng.random() < 0.5)
        elif rng.random() < 0.05:
            servers[number].apply(Zone(catalog, DnsSettings(), SERIAL))
    for number, worker in enumerate(workers):
        tell(worker, totals, number)
        assert not tell(worker, totals, number), "all is told"
    assert counters(totals) == counters(alone)
    assert totals.replies == alone.replies


def test_hits_of_entries_that_live_are_reported_and_only_once() -> None:
    worker, totals = DnsStats(), DnsTotals()
    catalog = snapshot([instance("web")])
    server = responder(catalog, stats=worker)
    for _ in range(4):
        ask(server, "web.service.consul")
    tell(worker, totals, 1)
    assert (totals.built.total(), totals.cached.total()) == (1, 3)
    server.apply(Zone(catalog, DnsSettings(), SERIAL))  # the entry is gone, what it counted is not
    tell(worker, totals, 1)
    assert totals.cached.total() == 3


def test_gauges_are_sums_and_the_oldest_catalog() -> None:
    totals = DnsTotals()
    for number, generation in ((1, 7), (2, 6)):
        worker = DnsStats()
        worker.tcp_open = 2
        worker.gauges = lambda generation=generation: Gauges(  # type: ignore[misc]
            entries=10, foreign_entries=3, foreign_bytes=100, foreign_failing=2, in_flight=1, generation=generation
        )
        tell(worker, totals, number)
    both = Gauges(entries=20, foreign_entries=6, foreign_bytes=200, foreign_failing=4, in_flight=2, generation=6)
    assert (totals.gauges(), totals.tcp_open) == (both, 4)
    totals.forget(2)
    alone = Gauges(entries=10, foreign_entries=3, foreign_bytes=100, foreign_failing=2, in_flight=1, generation=7)
    assert (totals.gauges(), totals.tcp_open) == (alone, 2)
    totals.forget(1)
    assert (totals.gauges(), totals.tcp_open) == (Gauges(), 0)


def test_a_recursor_is_up_when_every_worker_finds_it_so() -> None:
    totals = DnsTotals()
    workers = {}
    for number, states in ((1, {"10.0.0.1:53": 1, "10.0.0.2:53": 0}), (2, {"10.0.0.1:53": 1, "10.0.0.2:53": 1})):
        worker = workers[number] = DnsStats()
        worker.gauges = lambda states=states: Gauges(recursors=states)  # type: ignore[misc]
        tell(worker, totals, number)
        assert not tell(worker, totals, number), "nothing has changed"
    assert totals.gauges().recursors == {"10.0.0.1:53": 1, "10.0.0.2:53": 0}
    registry = CollectorRegistry()
    registry.register(DnsCollector(totals))
    assert registry.get_sample_value("dns_recursor_up", {"recursor": "10.0.0.2:53"}) == 0
    workers[1].gauges = lambda: Gauges(recursors={"10.0.0.1:53": 1, "10.0.0.2:53": 1})
    tell(workers[1], totals, 1)
    assert totals.gauges().recursors == {"10.0.0.1:53": 1, "10.0.0.2:53": 1}
    totals.forget(1)
    totals.forget(2)
    assert totals.gauges().recursors == {}


def test_a_dead_worker_takes_no_counts_along() -> None:
    worker, totals = DnsStats(), DnsTotals()
    server = responder(snapshot([instance("web")]), stats=worker)
    for _ in range(3):
        ask(server, "web.service.consul")
    respond(server, make_query("web.service.consul")[:-1])
    tell(worker, totals, 1)
    before = counters(totals)
    totals.forget(1)
    assert counters(totals) == before
    tell(DnsStats(), totals, 1)  # in its place
    assert counters(totals) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([], "[] is no object"),
        ({"colour": 1}, "no field is called 'colour'"),
        ({"foreign_hits": -1}, "foreign_hits: -1 is no count"),
        ({"built": {}}, "built: no list of"),
        ({"built": [["udp", "A", "NOERROR", 1]]}, "no row of 4 labels and a count"),
        ({"built": [["udp", "A", "NOERROR", 0, 1]]}, "0 is neither true nor false"),
        ({"built": [["udp", "A6", "NOERROR", False, 1]]}, "no reply is counted as udp A6 NOERROR"),
        ({"cached": [["sctp", "A", "NOERROR", False, 1]]}, "no reply is counted as sctp A NOERROR"),
        ({"cached": [["udp", ["A"], "NOERROR", False, 1]]}, "['A'] is no label"),
        ({"forwarded": [["10.0.0.1:53", "ok", "1"]]}, "'1' is no count"),
        ({"forwarded": [["10.0.0.1:53", "ok", 1]] * 1001}, "no list of at most 1000 rows"),
        ({"refused": {"client": None}}, "None is no count"),
        ({"recursors": {"10.0.0.1:53": "up"}}, "recursors: 'up' is no count"),
        ({"state": {"tcp_open": 1}}, "half a state: tcp_open"),
    ],
)
def test_a_malformed_report_is_refused_whole(changes: Any, reason: str) -> None:
    totals = DnsTotals()
    whole = {"dropped": {"tcp_idle": 1}, **changes} if isinstance(changes, dict) else changes
    with pytest.raises(ReportError) as caught:
        totals.add(whole, 3)
    assert str(caught.value).startswith("worker 3: DNS")
    assert reason in str(caught.value)
    assert not totals.dropped
    assert totals.replies == 0
