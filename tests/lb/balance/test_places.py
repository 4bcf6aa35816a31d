"""Where state is kept: names and their rows, what happens when there are none left, and who may write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.balance.group import Group, Outcome
from lb.balance.places import BoardPlaces, Key, LedgerPlaces, place_name
from lb.board.area import Board
from lb.board.group_state import GroupState
from lb.board.ledger import Ledger
from tests.lb.balance.specs import by_name, group_of, spec
from tests.lb.balance.workers import Workers

NOW = 1000

keys = st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3), st.integers(1, 9))
names = st.tuples(st.text(max_size=3), st.none() | keys)


@given(names, names)
def test_no_two_have_the_same_name(one: tuple[str, Key | None], other: tuple[str, Key | None]) -> None:
    assert (place_name(*one) == place_name(*other)) == (one == other)


def requests(group: Group, count: int) -> str:
    picked = ""
    for _ in range(count):
        endpoint = group.acquire((), NOW)
        assert endpoint is not None
        group.release(endpoint, Outcome.SUCCESS, NOW)
        picked += endpoint.host
    return picked


def fail(group: Group, name: str) -> None:
    endpoint = group.acquire({e for e in group.endpoints if e.host != name}, NOW)
    assert endpoint is not None
    group.release(endpoint, Outcome.FAILURE, NOW)


def test_who_left_gives_its_rows_back_and_another_gets_them_empty() -> None:
    with Workers(2) as workers:
        workers.reconcile([spec("a"), spec("b")])
        fail(workers.groups[0], "b")
        row = by_name(workers.groups[0], "b").row
        workers.reconcile([spec("a")])
        workers.reconcile([spec("a"), spec("c")])
        for group in workers.groups:
            c = by_name(group, "c")
            assert (c.row, c.fails, c.active, c.effective) == (row, 0, 0, 1)


def test_rows_are_kept_while_an_attempt_on_who_left_goes_on() -> None:
    with Workers(2) as workers:
        workers.reconcile([spec("a"), spec("b")])
        first, _ = workers.groups
        b = first.acquire({by_name(first, "a")}, NOW)
        assert b is not None
        workers.reconcile([spec("a")])
        workers.reconcile([spec("a"), spec("c")])
        assert by_name(first, "c").row != b.row
        first.release(b, Outcome.FAILURE, NOW)
        assert b.active == 0
        assert [(e.host, e.fails, e.active) for e in first.endpoints] == [("a", 0, 0), ("c", 0, 0)]
        workers.reconcile([spec("a"), spec("c"), spec("d")])
        assert by_name(first, "d").row == b.row
        assert by_name(first, "d").fails == 0


def test_a_group_that_lost_all_gives_its_rows_back_and_does_not_write_to_them() -> None:
    with Workers(2) as workers:
        workers.reconcile([spec("a"), spec("b")])
        first, _ = workers.groups
        held = [first.acquire((), NOW) for _ in range(2)]
        workers.reconcile([])
        assert [block.name for block in workers.ledger if block.retired is None] == []
        workers.reconcile([])  # the rows of the group are free: nothing is under way on them
        before = workers.board.common.cells.tolist()
        for endpoint in held:
            assert endpoint is not None
            first.release(endpoint, Outcome.FAILURE, NOW)
        assert first.acquire((), NOW) is None
        freed = range(1, 4)
        assert [workers.board.common.cells[row] for row in freed] == [before[row] for row in freed] == [0, 0, 0]
        workers.reconcile([spec("a"), spec("b")])
        assert requests(workers.groups[1], 1) + requests(first, 2) == "aba"


def test_on_a_full_board_each_worker_goes_on_alone_with_what_has_no_rows() -> None:
    # Rows for the acknowledgements, the group, and one endpoint.
    with Workers(2, rows=1 + 3 + 5) as workers:
        workers.reconcile([spec("a"), spec("b")])
        name = place_name("web", ("node", "b", "b", 80))
        assert list(workers.places.problems) == [name]
        assert "no 5 rows are free" in workers.places.problems[name]
        first, second = workers.groups
        assert requests(first, 4) == requests(second, 4) == "abab"
        for _ in range(3):
            fail(first, "a")
            fail(second, "b")
        assert requests(first, 4) == "bbbb"  # failures of a are everybody's, those of b the second worker's
        assert second.acquire((), NOW) is None
        workers.reconcile([spec("b"), spec("a")])
        assert list(workers.places.problems) == [name]
        workers.reconcile([spec("a")])
        assert workers.places.problems == {}


def test_a_group_without_rows_shares_nothing() -> None:
    with Workers(2, rows=3) as workers:
        workers.reconcile([spec("a"), spec("b")])
        assert place_name("web") in workers.places.problems
        first, second = workers.groups
        assert requests(first, 3) + requests(second, 3) == "abaaba"
        assert [e.active for e in first.endpoints] == [0, 0]


def test_too_many_for_one_look_ahead_take_turns_by_worker() -> None:
    specs = [spec(f"{number}", 100 + number) for number in range(20)]
    with Workers(2) as workers:
        workers.reconcile(specs)
        first, second = workers.groups
        assert [requests(first, 1) for _ in range(5)] == [requests(second, 1) for _ in range(5)]
        counts = [0] * 20
        for group in workers.groups:
            for _ in range(sum(one.weight for one in specs)):
                endpoint = group.acquire((), NOW)
                assert endpoint is not None
                counts[int(endpoint.host)] += 1
        assert all(abs(count - 2 * one.weight) <= 2 for count, one in zip(counts, specs, strict=True))


def test_the_supervisor_sees_everything_and_changes_nothing() -> None:
    with Workers(2) as workers:
        workers.reconcile([spec("a", 3), spec("b")])
        fail(workers.groups[0], "b")
        held = workers.groups[1].acquire({by_name(workers.groups[1], "b")}, NOW)
        assert held is not None
        a, b = workers.supervisor.endpoints
        assert (a.active, b.fails, b.suspended(NOW)) == (1, 1, False)
        before = workers.board.common.cells.tolist()
        workers.publish([spec("a", 5), spec("b")], "least_conn")
        workers.supervisor.release(a, Outcome.FAILURE, NOW)
        assert workers.board.common.cells.tolist() == before
        assert (a.active, a.fails) == (1, 0)


def test_a_ledger_that_was_handed_on_keeps_who_is_still_there() -> None:
    with Workers(1) as workers:
        workers.reconcile([spec("a"), spec("b")])
        state = json.loads(json.dumps(workers.ledger.state()))
        ledger = Ledger.restore(workers.board, state)
        ledger.allot("requests", GroupState.SHAPE)
        places = LedgerPlaces(workers.board, ledger)
        heir = Group("web", places=places)
        heir.reconcile([spec("a")], "round_robin")
        places.settle(7)
        assert heir.endpoints[0].row == by_name(workers.groups[0], "a").row
        gone = [block.name for block in ledger if block.retired == 7]
        assert gone == [place_name("web", ("node", "b", "b", 80))]
        assert [block.name for block in ledger if block.retired is None][-1] == "requests"


@pytest.mark.parametrize("weights", [[1, 1], [5, 1, 1], [4, 2]])
def test_turns_go_on_where_another_worker_left_them(weights: list[int]) -> None:
    specs = [spec("abc"[place], weight) for place, weight in enumerate(weights)]
    alone = Group("web")
    alone.reconcile(specs, "round_robin")
    with Workers(4) as workers:
        workers.reconcile(specs)
        picks = "".join(requests(workers.groups[number * number % 4], 1) for number in range(40))
    assert picks == requests(alone, 40)


def test_a_success_that_began_before_anothers_failure_clears_it() -> None:
    with Workers(2) as workers:
        workers.reconcile([spec("a"), spec("b", max_fails=2, fail_timeout=3)])
        first, second = workers.groups
        held = second.acquire({by_name(second, "a")}, NOW)
        assert held is not None
        fail(first, "b")
        again = first.acquire({by_name(first, "a")}, NOW + 4)
        assert again is not None
        second.release(held, Outcome.SUCCESS, NOW + 4)
        assert [by_name(group, "b").fails for group in workers.groups] == [0, 0]


def test_a_board_that_widens_shows_newcomers_to_all() -> None:
    with Workers(2) as workers:
        workers.kill(1)
        places = workers.places_of(0)
        places.columns[1:] = []
        workers.reconcile([spec("a"), spec("b")])
        places.widen(2)
        workers.start(1)
        fail(workers.groups[1], "b")
        assert by_name(workers.groups[0], "b").fails == 1


# In one process


def test_rows_of_who_left_are_used_again_once_nothing_is_under_way_there() -> None:
    group = group_of(spec("a"), spec("b"))
    lease = group.acquire({by_name(group, "a")}, NOW)
    assert lease is not None
    group.reconcile([spec("a")], "round_robin")
    group.reconcile([spec("a"), spec("c")], "round_robin")
    c = by_name(group, "c")
    assert (c.row != lease.row, c.active, lease.active) == (True, 0, 1)
    group.release(lease, Outcome.FAILURE, NOW)
    assert (c.fails, c.active, c.effective) == (0, 0, 1)
    group.reconcile([spec("a"), spec("c"), spec("d")], "round_robin")
    d = by_name(group, "d")
    assert (d.row, d.fails, d.active, d.effective) == (lease.row, 0, 0, 1)


# Columns that come later


def test_least_conn_counts_the_connections_of_a_worker_that_came_later() -> None:
    board = Board.create(2, 1000)
    ledger = LedgerPlaces(board, Ledger(board))
    specs = [spec("a"), spec("b")]
    Group("web", places=ledger).reconcile(specs, "least_conn")
    places = [BoardPlaces(board, 0, 1, ledger.rows), BoardPlaces(board, 1, 2, ledger.rows)]
    first, later = (Group("web", places=each) for each in places)
    first.reconcile(specs, "least_conn")
    assert requests(first, 4) == "abab"
    places[0].widen(2)
    later.reconcile(specs, "least_conn")
    for _ in range(3):
        assert later.acquire({by_name(later, "b")}, NOW) is not None
    assert requests(first, 4) == "bbbb"
