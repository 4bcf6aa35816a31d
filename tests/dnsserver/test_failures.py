"""What is remembered of questions that no recursor could answer (RFC 9520), and when it is forgotten."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from dnsserver.failures import ENTRY_SIZE, FIRST_PAUSE, LONGEST_PAUSE, REMEMBERED, Failures
from dnsserver.foreign import FAILURES_SHARE, ForeignCache, Found
from dnsserver.forwarder import Forwarder
from dnsserver.message import Query, parse_query
from dnsserver.metrics import DnsCollector
from dnsserver.rules import ForwardRules
from dnsserver.stats import DnsStats
from dnsserver.upstream import ForeignKey
from lb.settings import Address, DnsSettings
from tests.support.dns import make_query
from tests.support.dns_server import RunningDns
from tests.support.process import wait_until
from tests.support.recursor import Script, ask, fails, forwarding, good, running_recursor, silent


def key(name: str) -> ForeignKey:
    return ForeignKey(name.encode(), 1, False, False)


KEY = key("www.example")


def test_each_failure_doubles_the_pause_up_to_half_a_minute() -> None:
    failures, now, pauses = Failures(1 << 20), 100.0, []
    for _ in range(8):
        failures.note(KEY, now, 0)
        began = now
        while failures.holds(KEY, now, 0):
            now += 0.5
        pauses.append(now - began)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)


def test_a_failure_of_long_ago_is_forgotten() -> None:
    failures = Failures(1 << 20)
    for now in (100.0, 101.0):
        failures.note(KEY, now, 0)
    assert failures.likely(KEY, 102.9 + REMEMBERED, 0)
    assert not failures.likely(KEY, 103 + REMEMBERED, 0)
    assert (len(failures), failures.bytes) == (0, 0)
    failures.note(KEY, 200.0, 0)
    assert not failures.holds(KEY, 201.0, 0), "the pauses begin anew"


def test_a_recursor_that_came_back_from_the_dead_ends_failures_from_before() -> None:
    failures = Failures(1 << 20)
    failures.note(KEY, 100.0, 3)
    assert failures.holds(KEY, 100.5, 3)
    assert not failures.holds(KEY, 100.5, 4)
    assert not failures.likely(KEY, 100.5, 4)


def test_failures_are_bounded_and_so_is_what_they_drive_out() -> None:
    failures = Failures(10 * ENTRY_SIZE)
    for number in range(1000):
        failures.note(key(f"h{number}"), 100.0, 0)
        failures.note(key(f"h{number}"), 100.0, 0)
    assert failures.bytes <= 10 * ENTRY_SIZE
    assert failures.holds(key("h999"), 100.0, 0)
    assert not failures.holds(key("h0"), 100.0, 0)

    cache = ForeignCache(100 * ENTRY_SIZE)
    for number in range(1000):
        cache.note_failure(key(f"h{number}"), 100.0, 0)
    assert cache.bytes <= 100 * ENTRY_SIZE // FAILURES_SHARE

    nothing = ForeignCache(0)
    nothing.note_failure(KEY, 100.0, 0)
    assert nothing.bytes == 0


def parsed(name: str) -> Query:
    query = parse_query(make_query(name))
    assert query is not None
    return query


def metric(dns: RunningDns, name: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(DnsCollector(dns.stats))
    return dns.call(lambda: registry.get_sample_value(name))


@pytest.mark.parametrize("script", [silent, fails("SERVFAIL"), fails("REFUSED")])
def test_a_question_that_failed_is_servfail_at_once(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.failures.FIRST_PAUSE", 20)
    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns).rcode == "SERVFAIL"
        asked = len(recursor.queries)
        assert {ask(dns, ident=number, edns=1000 + number).rcode for number in range(9)} == {"SERVFAIL"}
        assert len(recursor.queries) == asked
        assert (metric(dns, "dns_failures_repeated_total"), metric(dns, "dns_failures_remembered")) == (9, 1)
        assert (metric(dns, "dns_foreign_cache_bytes") or 0) > ENTRY_SIZE
        assert ask(dns, qtype="AAAA").rcode == "SERVFAIL"
        assert len(recursor.queries) > asked, "another type is another question"


def test_it_is_asked_again_once_its_time_is_over() -> None:
    with running_recursor(fails("SERVFAIL")) as recursor, forwarding(recursor) as dns:
        assert ask(dns).rcode == "SERVFAIL"
        recursor.udp = good("192.0.2.2")
        wait_until(lambda: ask(dns).data == ["192.0.2.2"], what="it is asked again")
        assert metric(dns, "dns_failures_remembered") == 0


def test_a_recursor_that_is_back_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnsserver.failures.FIRST_PAUSE", 60)
    with running_recursor(silent) as recursor, forwarding(recursor) as dns:
        names = [f"h{number}.example" for number in range(3)]
        assert {ask(dns, name).rcode for name in names} == {"SERVFAIL"}
        place = str(recursor.address)
        wait_until(lambda: dns.stats.forwarded[place, "probe_timeout"], what="a probe has failed")
        recursor.udp = good()
        wait_until(lambda: dns.stats.forwarded[place, "probe_ok"], what="a probe has found it back")
        assert [ask(dns, name).data for name in names] == [["192.0.2.1"]] * 3


def test_one_slow_name_stays_failed_although_the_recursor_answers_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each other question would let the slow one be asked again, and no pause would ever grow."""
    monkeypatch.setattr("dnsserver.failures.FIRST_PAUSE", 60)

    def script(query: bytes) -> list[bytes]:
        return [] if b"slow" in query else good()(query)

    with running_recursor(script) as recursor, forwarding(recursor) as dns:
        assert ask(dns, "slow.example").rcode == "SERVFAIL"
        assert ask(dns, "quick.example").data == ["192.0.2.1"]
        asked = len(recursor.queries)
        assert ask(dns, "slow.example").rcode == "SERVFAIL"
        assert len(recursor.queries) == asked


def test_who_waits_is_told_when_all_ends_before_the_question_went_out() -> None:
    async def run() -> None:
        settings = DnsSettings(recursors=(Address("127.0.0.1", 9),))
        rules = ForwardRules((), settings.recursors, ())
        forwarder = Forwarder(rules, settings, DnsStats(), Random(1))
        told: list[Found | None] = []
        for name in ("a.example", "a.example", "b.example"):
            forwarder.ask(parsed(name), told.append)
        assert forwarder.in_flight == 2
        async with asyncio.timeout(5):
            await forwarder.close()
        assert told == [None] * 3
        assert (forwarder.in_flight, forwarder._waiting, len(forwarder.cache.failures)) == (0, 0, 0)

    asyncio.run(run())
