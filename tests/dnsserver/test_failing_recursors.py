"""Recursors that fail, are slow, flap, or ask us: who is asked instead, and what is served meanwhile."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.support.dns import read_reply
from tests.support.process import wait_until
from tests.support.recursor import ask, fails, forwarding, good, running_recursor, silent


def test_one_that_failed_is_asked_last_until_it_replies_to_a_probe() -> None:
    with (
        running_recursor(silent) as first,
        running_recursor(good("192.0.2.2")) as second,
        forwarding(first, second) as dns,
    ):
        assert ask(dns, "a.example").data == ["192.0.2.2"]
        assert ask(dns, "b.example").data == ["192.0.2.2"]
        assert "b.example." not in first.names
        wait_until(lambda: "." in first.names, what="the recursor is probed")
        assert dns.stats.gauges().recursors == {str(first.address): 0, str(second.address): 1}
        first.udp = good("192.0.2.1")
        wait_until(lambda: dns.stats.gauges().recursors[str(first.address)], what="the recursor is up")
        assert ask(dns, "c.example").data == ["192.0.2.1"]
        assert dns.stats.forwarded[str(first.address), "probe_ok"] == 1
        first.udp = silent
        assert ask(dns, "d.example").data == ["192.0.2.2"]
        assert ask(dns, "e.example").data == ["192.0.2.2"]
        assert "e.example." not in first.names


def test_a_reply_that_comes_too_late_is_not_heard() -> None:
    release = threading.Event()

    def late(query: bytes) -> list[bytes]:
        release.wait(10)
        return good("203.0.113.6")(query)

    with running_recursor(late) as first, running_recursor(good()) as second, forwarding(first, second) as dns:
        try:
            assert ask(dns).data == ["192.0.2.1"]
        finally:
            release.set()
        wait_until(lambda: dns.stats.gauges().recursors[str(first.address)], what="it replies to a probe in time")
        assert ask(dns, edns=1232).data == ["192.0.2.1"]
        assert ask(dns, "other.example").data == ["203.0.113.6"]


def test_an_rcode_that_is_no_answer_does_not_put_a_recursor_last() -> None:
    with (
        running_recursor(fails("SERVFAIL")) as first,
        running_recursor(good()) as second,
        forwarding(first, second) as dns,
    ):
        ask(dns, "a.example")
        ask(dns, "b.example")
        assert first.names == ["a.example.", "b.example."]


def test_a_loop_ends_with_the_next_recursor() -> None:
    """The first recursor asks us what we ask it, with an ID of its own, and says what we say."""
    looped: list[bytes] = []

    def ask_back(query: bytes) -> list[bytes]:
        looped.append(query)
        socket_to_us.sendto(b"\0\7" + query[2:], ("127.0.0.1", dns.port))
        return []

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as socket_to_us,
        running_recursor(ask_back) as first,
        running_recursor(good("192.0.2.2")) as second,
        forwarding(first, second) as dns,
    ):
        assert ask(dns).data == ["192.0.2.2"]
        assert len(looped) == 2, "the question and its repetition, however often it came round"
        socket_to_us.settimeout(10)
        assert read_reply(socket_to_us.recv(4096)).data == ["192.0.2.2"]
        assert ask(dns, "other.example").data == ["192.0.2.2"]
        assert len(second.names) == 2


def test_stale_answers_while_no_recursor_replies() -> None:
    with running_recursor(good(ttl=1)) as recursor, forwarding(recursor) as dns:
        assert ask(dns).answer[0][2] == 1
        recursor.udp = silent
        stale = wait_until(lambda: [r for r in ask(dns).answer if r[2] == 30], what="a stale answer")
        assert stale == [("www.example.org.", "A", 30, "192.0.2.1")]
        assert dns.stats.foreign_stale > 0
        assert ask(dns, "never.asked.example").rcode == "SERVFAIL"
        recursor.udp = good("192.0.2.2")
        wait_until(lambda: ask(dns).data == ["192.0.2.2"], what="the answer is fresh again")


def test_a_stale_answer_is_given_only_after_recursors_failed() -> None:
    with running_recursor(good(ttl=1)) as recursor, forwarding(recursor, timeout=5) as dns:
        ask(dns)
        recursor.udp = good("192.0.2.2", ttl=60)
        wait_until(lambda: ask(dns).data == ["192.0.2.2"], what="the new address")
        assert dns.stats.foreign_stale == 0
        assert len(recursor.queries) == 2


def test_dead_recursors_cost_nobody_a_timeout_who_can_have_a_stale_answer() -> None:
    with running_recursor(good(ttl=1)) as recursor, forwarding(recursor, timeout=0.6) as dns:
        names = [f"h{number}.example" for number in range(5)]
        for name in names:
            ask(dns, name)
        recursor.udp = silent
        assert ask(dns, "never.asked.example").rcode == "SERVFAIL"
        address = str(recursor.address)
        wait_until(lambda: dns.stats.forwarded[address, "probe_timeout"], what="a probe has failed")
        failed = dns.stats.forwarded[address, "timeout"]
        for name in names:
            assert ask(dns, name).answer == ((name + ".", "A", 30, "192.0.2.1"),)
        assert dns.stats.forwarded[address, "timeout"] == failed, "all came before the next question timed out"


def test_a_question_that_recursors_fail_on_is_asked_in_the_background_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dnsserver.failures.FIRST_PAUSE", 5)
    with running_recursor(good(ttl=1)) as recursor, forwarding(recursor) as dns:
        ask(dns)
        recursor.udp = fails("SERVFAIL")
        wait_until(lambda: ask(dns).answer[0][2] == 30, what="a stale answer")
        asked = len(recursor.queries)
        for number in range(10):
            assert ask(dns, ident=number, edns=1000 + number).data == ["192.0.2.1"]
        assert len(recursor.queries) == asked
        assert dns.stats.foreign_stale >= 10
