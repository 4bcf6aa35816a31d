"""Counters of the data plane."""

from __future__ import annotations

import pytest

from lb.observe.stats import BUCKETS, Stats


def test_a_request_is_counted_by_status_duration_and_bytes() -> None:
    web = Stats().http("web")
    web.record(200, 0.25, received=100, sent=2000)
    web.record(502, 0.5, received=10, sent=20)
    web.record(200, 0.25, received=1, sent=2)
    assert web.codes == {200: 2, 502: 1}
    assert (web.received, web.sent, web.seconds) == (111, 2022, 1.0)
    assert sum(web.buckets) == 3


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (BUCKETS[0], 0),
        (BUCKETS[0] * 1.01, 1),
        (BUCKETS[-1], len(BUCKETS) - 1),
        (BUCKETS[-1] + 1, len(BUCKETS)),
    ],
)
def test_a_bound_belongs_to_its_own_bucket(seconds: float, bucket: int) -> None:
    web = Stats().http("web")
    web.record(200, seconds, 0, 0)
    assert web.buckets.index(1) == bucket


def test_attempts_are_counted_by_result() -> None:
    web = Stats().http("web")
    for result in ("ok", "connect_refused", "ok"):
        web.attempt(result)
    assert web.attempts == {"ok": 2, "connect_refused": 1}


def test_a_tcp_session_is_active_from_open_to_close() -> None:
    redis = Stats().tcp("redis-6379")
    redis.open()
    redis.open()
    redis.close("ok", 1.5)
    assert (redis.opened, redis.active, redis.seconds, redis.results) == (2, 1, 1.5, {"ok": 1})


def test_the_same_name_gives_the_same_counters() -> None:
    stats = Stats()
    assert stats.http("web") is stats.http("web")
    assert stats.tcp("web") is stats.tcp("web")
    assert stats.listener("http :80") is stats.listener("http :80")


def test_counters_of_a_service_that_left_go_once_nothing_is_active() -> None:
    stats = Stats()
    stats.http("stays")
    stats.http("gone")
    busy = stats.http("busy")
    busy.active = 1
    stats.tcp("gone-9999")
    stats.tls("gone")
    stats.keep({"stays"})
    assert [name for name, _ in stats.http_services()] == ["stays", "busy"]
    assert list(stats.tcp_services()) == []
    assert list(stats.tls_services()) == []
    busy.active = 0
    stats.keep({"stays"})
    assert [name for name, _ in stats.http_services()] == ["stays"]


def test_a_listener_says_why_it_is_down_until_it_is_up() -> None:
    listener = Stats().listener("tcp :9999")
    listener.failed("address already in use")
    assert (listener.up, listener.error) == (False, "address already in use")
    listener.opened()
    assert (listener.up, listener.error) == (True, "")


def test_a_listener_that_left_goes_with_its_last_connection() -> None:
    stats = Stats()
    listener = stats.listener("tcp :9999")
    listener.active = 1
    stats.keep_listeners(())
    assert len(list(stats.listeners())) == 1
    listener.active = 0
    stats.keep_listeners(())
    assert list(stats.listeners()) == []


def test_a_worker_drops_what_left_once_it_ended_and_was_told() -> None:
    stats = Stats(reporting=True)
    gone = stats.tcp("gone")
    gone.open()
    stats.keep(())
    stats.changes()
    assert [name for name, _ in stats.tcp_services()] == ["gone"]
    gone.close("ok", 1.0)
    changes = stats.changes()
    assert changes is not None
    assert changes["tcp"]["gone"]["results"] == {"ok": 1}
    assert list(stats.tcp_services()) == []
