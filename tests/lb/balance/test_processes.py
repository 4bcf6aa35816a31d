"""Workers that are processes and balance over one board at the same time, with nothing between their calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from lb.balance.group import Group, Outcome
from lb.balance.places import BoardPlaces
from lb.board.area import Kind
from lb.routing.options import EndpointOptions
from tests.lb.balance.specs import spec
from tests.lb.balance.workers import Workers
from tests.lb.board.boards import ended, forked

WORKERS = 4
TIMES = 50_000
NOW = 1000

Work = Callable[[Group, int], None]
"""What a worker does: with its group, and the row from which picks are counted."""


def hammer(workers: Workers, work: Work, specs: Sequence[EndpointOptions], policy: str = "round_robin") -> list[int]:
    """Let four processes do `work` at once; return how often each endpoint was picked, by the order of `specs`."""
    workers.reconcile(specs, policy)
    row = workers.ledger.allot("picks", (Kind.COUNTER,) * len(specs))
    ready = workers.ledger.allot("ready", (Kind.COUNTER,))

    def run(number: int) -> None:
        group = Group("web", places=BoardPlaces(workers.board, number, WORKERS, workers.places.rows))
        group.reconcile(specs, policy)
        workers.board.cells[number][ready] = 1
        while workers.board.sums(ready) != [WORKERS]:
            os.sched_yield()
        work(group, row)

    with contextlib.ExitStack() as stack:
        pids = [stack.enter_context(forked(partial(run, number))) for number in range(WORKERS)]
        assert [ended(pid) for pid in pids] == [0] * WORKERS
    for group in workers.groups:
        assert [endpoint.active for endpoint in group.endpoints] == [0] * len(specs)
    return workers.board.sums(row, len(specs))


def count_picks(group: Group, row: int, *, fails: int = 0) -> None:
    """Make requests; of every so many, one fails."""
    counts = [0] * len(group.endpoints)
    places = {endpoint: place for place, endpoint in enumerate(group.endpoints)}
    for number in range(1, TIMES + 1):
        endpoint = group.acquire((), NOW + number // 1000)
        if endpoint is None:
            continue
        counts[places[endpoint]] += 1
        failed = fails and number % fails == 0
        group.release(endpoint, Outcome.FAILURE if failed else Outcome.SUCCESS, NOW + number // 1000)
    own = group.endpoints[0].cells
    for place, count in enumerate(counts):
        own[row + place] += count


@pytest.mark.parametrize(
    ("specs", "fails"),
    [
        pytest.param([spec("a", 5), spec("b", 3), spec("c", 2)], 0, id="turns known in advance"),
        pytest.param([spec("a", 5, max_conns=9), spec("b", 3), spec("c", 2)], 0, id="one limited"),
        pytest.param([spec(name, weight, max_fails=0) for name, weight in zip("abc", (5, 3, 2), strict=True)], 50),
        pytest.param([spec(name, 60, max_fails=0, fail_timeout=0) for name in "abc"], 5000, id="now and then"),
    ],
)
def test_shares_are_right_though_picks_overlap(specs: list[EndpointOptions], fails: int) -> None:
    with Workers(WORKERS) as workers:
        counts = hammer(workers, partial(count_picks, fails=fails), specs)
    total = sum(one.weight for one in specs)
    assert sum(counts) == WORKERS * TIMES
    for one, count in zip(specs, counts, strict=True):
        assert count == pytest.approx(WORKERS * TIMES * one.weight / total, rel=0.05)


def do_anything(group: Group, _row: int) -> None:
    """Fail, succeed, retry and change the list, again and again."""
    several = [spec("a", 5, max_fails=1, fail_timeout=0), spec("b", 3), spec("c", 2, max_conns=3)]
    lists = (several, several[::-1], [spec("a", 1), spec("b", 9), several[2]], several)
    for number in range(TIMES // 10):
        now = NOW + number // 500
        if number % 97 == 0:
            group.reconcile(lists[number // 97 % 3], "least_conn" if number % 3 == 0 else "round_robin")
        first = group.acquire((), now)
        if first is not None:
            second = group.acquire({first}, now)
            group.release(first, Outcome.FAILURE if number % 7 == 0 else Outcome.SUCCESS, now)
            if second is not None:
                group.credit(second)
                group.release(second, Outcome.NEUTRAL, now)
    group.reconcile(lists[-1], "round_robin")


def test_whatever_came_at_once_leaves_the_group_in_order() -> None:
    specs = [spec("a", 5), spec("b", 3), spec("c", 2)]
    with Workers(WORKERS) as workers:
        hammer(workers, do_anything, specs)
        workers.reconcile(specs)
        later = NOW + TIMES
        picks = ""
        for number in range(60):
            group = workers.groups[number % WORKERS]
            endpoint = group.acquire((), later + number)
            assert endpoint is not None
            group.release(endpoint, Outcome.SUCCESS, later + number)
            picks += endpoint.host
        assert {endpoint.fails for group in workers.groups for endpoint in group.endpoints} == {0}
        assert sorted(picks[-20:]) == sorted("aaaaabbbcc" * 2)
