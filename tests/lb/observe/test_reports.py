"""Workers report what they count, and the totals are what one process would have counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import ReportError
from lb.observe.reports import MAX_KEYS, LogReporter, LogTotals
from lb.observe.stats import BUCKETS, Stats
from tests.lb.observe.test_metrics import FakeLog

FIELDS = {
    "http": ("active", "retries", "received", "sent", "seconds", "codes", "attempts", "buckets"),
    "tcp": ("active", "opened", "received", "sent", "seconds", "results"),
    "tls": ("active", "opened", "received", "sent", "seconds", "results"),
    "listeners": ("active", "accepted", "rejected", "turned_away"),
}


def facts(stats: Stats) -> dict[str, dict[str, dict[str, Any]]]:
    """All counters, by kind, name and field."""
    families = {
        "http": stats.http_services(),
        "tcp": stats.tcp_services(),
        "tls": stats.tls_services(),
        "listeners": stats.listeners(),
    }
    return {
        kind: {name: {field: getattr(counters, field) for field in FIELDS[kind]} for name, counters in family}
        for kind, family in families.items()
    }


def tell(worker: Stats, totals: Stats, number: int = 1) -> bool:
    """Send a worker's report the way it goes, as JSON; whether there was one."""
    changes = worker.changes()
    if changes is not None:
        totals.add(json.loads(json.dumps(changes)), number)
    return changes is not None


SECONDS = st.sampled_from([0.0, 1 / 1024, 0.25, 3.0, 100.0])  # exact in binary: the order of adding does not matter


class Traffic:
    """What happens to one process: the same calls that the proxy makes, on the counters of one name."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats

    def http(self, name: str, seconds: float, size: int) -> None:
        web = self.stats.http(name)
        if size % 3 == 0:
            web.begin()
        elif not web.active:
            self.stats.listener(f"http {name}").reject(400 + size % 5)
        elif size % 3 == 1:
            web.succeed(200 + size % 2, seconds, size)
        else:
            web.attempt("connect_refused")
            web.active -= 1
            web.retries += size
            web.record(502, seconds, size, 2 * size)

    def tcp(self, name: str, seconds: float, size: int) -> None:
        self._session(name, seconds, size, "tcp")

    def tls(self, name: str, seconds: float, size: int) -> None:
        self._session(name, seconds, size, "tls")

    def _session(self, name: str, seconds: float, size: int, kind: str) -> None:
        session = getattr(self.stats, kind)(name)
        listener = self.stats.listener(f"{kind} {name}")
        if size % 3 == 0 or not session.active:
            listener.accept()
            session.open()
        elif size % 3 == 1:
            session.received += size
            session.sent += 2 * size
        else:
            session.close("ok" if size % 2 else "reset", seconds)
            listener.turn_away("not_tls")
            listener.leave()


EVENTS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["http", "tcp", "tls", "report"]),
    st.sampled_from(["web", "shop"]),
    SECONDS,
    st.integers(0, 30),
)


@given(st.lists(EVENTS, max_size=60))
def test_the_totals_are_what_one_process_would_have_counted(events: list[tuple[int, str, str, float, int]]) -> None:
    workers = [Stats(reporting=True) for _ in range(3)]
    alone = [Stats() for _ in range(3)]
    totals = Stats()
    for number, what, name, seconds, size in events:
        if what == "report":
            tell(workers[number], totals, number)
        else:
            for stats in (workers[number], alone[number]):
                getattr(Traffic(stats), what)(name, seconds, size)
    for number, worker in enumerate(workers):
        tell(worker, totals, number)
        assert not tell(worker, totals, number), "all is told"
    assert facts(totals) == summed([facts(stats) for stats in alone])


def summed(parts: list[dict[str, dict[str, dict[str, Any]]]]) -> dict[str, dict[str, dict[str, Any]]]:
    total: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in FIELDS}
    for part in parts:
        for kind, names in part.items():
            for name, fields in names.items():
                mine = total[kind].setdefault(name, {})
                for field, value in fields.items():
                    mine[field] = plus(mine[field], value) if field in mine else value
    return total


def plus(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in {*one, *other}}
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other


def test_nothing_is_told_while_nothing_happens() -> None:
    worker, totals = Stats(reporting=True), Stats()
    assert not tell(worker, totals)
    worker.tcp("redis").open()
    assert tell(worker, totals)
    for _ in range(3):
        assert not tell(worker, totals), "an open session that is silent is no news"


HTTP, TCP, LISTENER = (lambda s: s.http("web")), (lambda s: s.tcp("redis")), (lambda s: s.listener("http :80"))


@pytest.mark.parametrize(
    ("counters", "call", "field", "value"),
    [
        (HTTP, methodcaller("begin"), "active", 1),
        (HTTP, methodcaller("record", 200, 0.1, 1, 1), "codes", {200: 1}),
        (HTTP, methodcaller("attempt", "reset"), "attempts", {"reset": 1}),
        (TCP, methodcaller("open"), "opened", 1),
        (LISTENER, methodcaller("accept"), "accepted", 1),
        (LISTENER, methodcaller("reject", 404), "rejected", {404: 1}),
        (LISTENER, methodcaller("turn_away", "not_tls"), "turned_away", {"not_tls": 1}),
        (LISTENER, methodcaller("opened"), "up", True),
        (LISTENER, methodcaller("failed", "in use"), "error", "in use"),
    ],
)
def test_whatever_begins_after_a_pause_is_told(
    counters: Callable[[Stats], Any], call: Callable[[Any], None], field: str, value: Any
) -> None:
    worker, totals = Stats(reporting=True), Stats()
    counters(worker)
    tell(worker, totals)
    assert not tell(worker, totals)
    call(counters(worker))
    tell(worker, totals)
    assert getattr(counters(totals), field) == value


def test_a_long_session_is_told_of_while_it_lasts() -> None:
    worker, totals = Stats(reporting=True), Stats()
    session = worker.tcp("redis")
    session.open()
    for number in range(1, 4):
        session.received += 10
        tell(worker, totals)
        assert (totals.tcp("redis").received, totals.tcp("redis").active) == (10 * number, 1)
    session.received += 5
    session.close("ok", 60.0)
    tell(worker, totals)
    assert totals.tcp("redis").received == 35
    assert (totals.tcp("redis").active, totals.tcp("redis").results) == (0, {"ok": 1})


def test_a_service_is_shown_before_its_first_request() -> None:
    worker, totals = Stats(reporting=True), Stats()
    worker.http("web")
    tell(worker, totals)
    assert [name for name, _ in totals.http_services()] == ["web"]


def test_a_dead_worker_takes_along_what_was_active_but_no_counts() -> None:
    workers, totals = [Stats(reporting=True), Stats(reporting=True)], Stats()
    for number, worker in enumerate(workers):
        worker.tcp("redis").open()
        worker.listener("tcp :6379").accept()
        worker.http("web").begin()
        worker.http("web").succeed(200, 0.1, 5)
        tell(worker, totals, number)
    totals.forget(1)
    assert (totals.tcp("redis").active, totals.tcp("redis").opened) == (1, 2)
    assert (totals.listener("tcp :6379").active, totals.listener("tcp :6379").accepted) == (1, 2)
    assert totals.http("web").codes == {200: 2}
    totals.forget(7)  # never heard of
    tell(Stats(reporting=True), totals, 1)  # in its place
    assert totals.tcp("redis").active == 1


def test_a_listener_is_up_if_any_worker_accepts_on_it() -> None:
    one, two, totals = Stats(reporting=True), Stats(reporting=True), Stats()
    one.listener("http :80").opened()
    two.listener("http :80").failed("too many open files")
    tell(one, totals, 1)
    tell(two, totals, 2)
    shown = totals.listener("http :80")
    assert (shown.up, shown.error) == (True, "too many open files")
    totals.forget(1)
    assert (shown.up, shown.error) == (False, "too many open files")
    two.listener("http :80").opened()
    tell(two, totals, 2)
    assert (shown.up, shown.error) == (True, "")
    totals.forget(2)
    assert not shown.up


def test_a_late_report_does_not_bring_back_a_service_that_left() -> None:
    worker, totals = Stats(reporting=True), Stats()
    worker.http("web").record(200, 0.1, 1, 1)
    worker.listener("tcp :9999").opened()
    tell(worker, totals)
    worker.http("web").record(200, 0.1, 1, 1)
    worker.listener("tcp :9999").reject(400)
    late = worker.changes()
    totals.keep({"shop"})
    totals.keep_listeners({"http :80"})
    totals.add(late, 1)
    assert list(totals.http_services()) == []
    assert list(totals.listeners()) == []


def test_a_service_that_left_goes_when_its_last_session_has_ended() -> None:
    worker, totals = Stats(reporting=True), Stats()
    worker.tcp("redis").open()
    tell(worker, totals)
    for stats in (worker, totals):
        stats.keep(())
    worker.tcp("redis").received += 5
    tell(worker, totals)
    assert [counters.received for _, counters in totals.tcp_services()] == [5]
    worker.tcp("redis").close("ok", 1.0)
    tell(worker, totals)
    assert list(totals.tcp_services()) == []


def test_a_service_that_left_goes_with_the_worker_that_it_was_busy_in() -> None:
    worker, totals = Stats(reporting=True), Stats()
    worker.http("web").begin()
    tell(worker, totals)
    totals.keep(())
    assert len(list(totals.http_services())) == 1
    totals.forget(1)
    assert list(totals.http_services()) == []


def test_a_session_that_was_there_before_is_still_counted_when_its_service_comes_back() -> None:
    worker, totals = Stats(reporting=True), Stats()
    held = worker.http("web")
    for stats in (worker, totals):
        stats.keep(())
    tell(worker, totals)
    held.begin()  # routed just before the service left
    for stats in (worker, totals):
        stats.keep({"web"})
    worker.http("web").begin()
    tell(worker, totals)
    assert totals.http("web").active == 2


def test_what_is_up_is_known_when_a_listener_is_wanted_again() -> None:
    worker, totals = Stats(reporting=True), Stats()
    worker.listener("tcp :9999").opened()
    tell(worker, totals)
    totals.keep_listeners(())  # a catalog that came and went before the worker got it
    assert list(totals.listeners()) == []
    totals.keep_listeners({"tcp :9999"})
    assert totals.listener("tcp :9999").up


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([], "[] is no object"),
        ({"ftp": {}}, "nothing is counted as 'ftp'"),
        ({"http": []}, "[] is no object"),
        ({"http": {"shop": 1}}, "http 'shop': 1 is no object"),
        ({"http": {"shop": {"colour": 1}}}, "http 'shop': no field is called 'colour'"),
        ({"http": {"shop": {"sent": -1}}}, "http 'shop' sent: -1 is no count"),
        ({"http": {"shop": {"sent": 1.5}}}, "1.5 is no count"),
        ({"http": {"shop": {"sent": True}}}, "True is no count"),
        ({"http": {"shop": {"sent": 1 << 63}}}, "is no count"),
        ({"http": {"shop": {"seconds": float("nan")}}}, "nan is no duration"),
        ({"http": {"shop": {"seconds": float("inf")}}}, "inf is no duration"),
        ({"http": {"shop": {"seconds": 10**400}}}, "is no duration"),
        ({"http": {"shop": {"seconds": "1"}}}, "'1' is no duration"),
        ({"http": {"shop": {"codes": {"2000": 1}}}}, "'2000' is no status"),
        ({"http": {"shop": {"codes": {"20x": 1}}}}, "'20x' is no status"),
        ({"http": {"shop": {"codes": 200}}}, "200 is no object"),
        ({"http": {"shop": {"attempts": {"": 1}}}}, "'' is no label"),
        ({"http": {"shop": {"attempts": {"x" * 101: 1}}}}, "is no label"),
        ({"http": {"shop": {"attempts": {str(n): 1 for n in range(MAX_KEYS + 1)}}}}, "keys are too many"),
        ({"http": {"shop": {"buckets": [0] * len(BUCKETS)}}}, "is no list of"),
        ({"listeners": {"tcp :9999": {"active": 1}}}, "half a state: active"),
        ({"listeners": {"tcp :9999": {"active": 1, "up": 1, "error": ""}}}, "1 is neither true nor false"),
        ({"listeners": {"tcp :9999": {"active": 1, "up": True, "error": "x" * 1001}}}, "is no text"),
    ],
)
def test_a_malformed_report_is_refused_whole(changes: Any, reason: str) -> None:
    totals = Stats()
    totals.http("web").record(200, 0.1, 1, 1)
    before = facts(totals)
    whole = {"tcp": {"redis": {"opened": 1, "active": 1}}, **changes} if isinstance(changes, dict) else changes
    with pytest.raises(ReportError) as caught:
        totals.add(whole, 3)
    assert str(caught.value).startswith("worker 3: ")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500
    assert facts(totals) == before


def test_kinds_without_end_do_not_fill_the_memory() -> None:
    totals = Stats()
    for first in range(0, 2 * MAX_KEYS, 100):
        totals.add({"http": {"web": {"attempts": {f"kind {first + n}": 1 for n in range(100)}}}}, 1)
    assert len(totals.http("web").attempts) == MAX_KEYS


def test_access_logs_are_added_up() -> None:
    totals = LogTotals()
    one, two = FakeLog(10, 2), FakeLog(1, 0)
    reporters = [LogReporter(one), LogReporter(two)]
    for _ in range(2):
        for reporter in reporters:
            changes = reporter.changes()
            if changes is not None:
                totals.add(json.loads(json.dumps(changes)))
    assert (totals.written, totals.dropped) == (11, 2)
    two.dropped = 5
    totals.add(reporters[1].changes())
    assert (totals.written, totals.dropped) == (11, 7)
    with pytest.raises(ReportError, match="access log written: -1 is no count"):
        totals.add({"dropped": 1, "written": -1})
    assert totals.dropped == 7
