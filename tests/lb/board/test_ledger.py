"""The book of a board: names keep their rows, and rows change hands only when nobody can be writing to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lb.board.area import FIRST_ROW, Board, BoardError, Kind
from lb.board.ledger import Ledger
from tests.lb.board.boards import board_of

WITH_GAUGE = (Kind.GAUGE, Kind.COUNTER)
COUNTS = (Kind.COUNTER, Kind.REAL, Kind.STATE)
ROWS = 11


@pytest.fixture
def board() -> Iterator[Board]:
    with board_of(3, ROWS) as board:
        yield board


@pytest.fixture
def ledger(board: Board) -> Ledger:
    return Ledger(board)


# Allotting


def test_blocks_do_not_overlap_one_another_or_the_acknowledgements(ledger: Ledger) -> None:
    ledger.allot("a", WITH_GAUGE)
    ledger.allot("b", COUNTS)
    ledger.allot("c", WITH_GAUGE)
    rows = [row for block in ledger for row in range(block.row, block.row + len(block.shape))]
    assert len(rows) == len(set(rows)) == 7
    assert min(rows) >= FIRST_ROW


def test_a_name_keeps_its_rows(ledger: Ledger) -> None:
    row = ledger.allot("a", WITH_GAUGE)
    ledger.allot("b", WITH_GAUGE)
    assert ledger.allot("a", WITH_GAUGE) == row


def test_a_name_cannot_have_two_shapes(ledger: Ledger) -> None:
    ledger.allot("web", WITH_GAUGE)
    with pytest.raises(BoardError, match=r"web: .* another shape"):
        ledger.allot("web", COUNTS)


def test_a_full_board_names_who_got_nothing_and_serves_on(ledger: Ledger) -> None:
    for name in "abc":
        ledger.allot(name, COUNTS)
    with pytest.raises(BoardError, match=f"web: no 3 rows are free of the {ROWS}"):
        ledger.allot("web", COUNTS)
    assert [block.name for block in ledger] == ["a", "b", "c"]
    ledger.allot("one row", (Kind.COUNTER,))


# Giving back


def retire(ledger: Ledger, name: str, version: int) -> bool:
    """Retire a name, and tell whether its rows are free at once."""
    ledger.retire(name, version)
    return ledger.sweep() == 1


def test_without_workers_rows_are_free_at_once_and_hold_zeros(board: Board, ledger: Ledger) -> None:
    row = ledger.allot("a", COUNTS)
    board.columns[0].cells[row] = 5
    board.common.cells[row + 2] = 5
    assert retire(ledger, "a", 1)
    assert ledger.allot("b", COUNTS) == row
    assert board.sums(row, 3) == [0, 0, 0]
    assert board.common.cells[row + 2] == 0


def test_rows_wait_for_the_acknowledgement_of_every_worker(board: Board, ledger: Ledger) -> None:
    first, second = ledger.take_column(), ledger.take_column()
    row = ledger.allot("a", COUNTS)
    assert not retire(ledger, "a", 7)
    board.columns[first].acknowledge(7)
    board.columns[second].acknowledge(6)
    assert ledger.sweep() == 0
    assert ledger.allot("b", COUNTS) != row
    board.columns[second].acknowledge(8)
    assert ledger.sweep() == 1
    assert ledger.allot("c", COUNTS) == row


def test_rows_wait_for_what_is_under_way(board: Board, ledger: Ledger) -> None:
    column = board.columns[ledger.take_column()]
    row = ledger.allot("a", WITH_GAUGE)
    column.cells[row] += 1
    column.acknowledge(7)
    assert not retire(ledger, "a", 7)
    column.cells[row] -= 1
    assert ledger.sweep() == 1


def test_what_is_retired_still_counts_until_it_is_free(board: Board, ledger: Ledger) -> None:
    column = board.columns[ledger.take_column()]
    row = ledger.allot("a", COUNTS)
    column.cells[row] = 5
    ledger.retire("a", 7)
    assert [(block.name, block.retired) for block in ledger] == [("a", 7)]
    assert board.sums(row) == [5]


def test_a_name_that_returns_in_time_has_its_counts(board: Board, ledger: Ledger) -> None:
    column = board.columns[ledger.take_column()]
    row = ledger.allot("a", COUNTS)
    column.cells[row] = 5
    ledger.retire("a", 7)
    assert ledger.allot("a", COUNTS) == row
    column.acknowledge(7)
    assert ledger.sweep() == 0
    assert board.sums(row) == [5]


def test_a_name_that_returned_and_left_again_waits_for_the_later_snapshot(board: Board, ledger: Ledger) -> None:
    column = board.columns[ledger.take_column()]
    ledger.allot("a", COUNTS)
    ledger.retire("a", 7)
    ledger.allot("a", COUNTS)
    column.acknowledge(7)
    assert not retire(ledger, "a", 9)
    column.acknowledge(9)
    assert ledger.sweep() == 1


def test_retiring_twice_changes_nothing(board: Board, ledger: Ledger) -> None:
    board.columns[ledger.take_column()].acknowledge(7)
    ledger.allot("a", COUNTS)
    ledger.retire("a", 7)
    ledger.retire("a", 9)
    assert ledger.sweep() == 1


def test_a_stranger_cannot_be_retired(ledger: Ledger) -> None:
    with pytest.raises(KeyError, match="web"):
        ledger.retire("web", 1)


def test_free_neighbours_become_one_stretch(ledger: Ledger) -> None:
    for name in "abcde":
        ledger.allot(name, WITH_GAUGE)
    for name in "aced":
        assert retire(ledger, name, 1)
    with pytest.raises(BoardError):
        ledger.allot("seven", (Kind.COUNTER,) * 7)
    ledger.allot("six", (Kind.COUNTER,) * 6)
    ledger.retire("six", 1)
    ledger.retire("b", 1)
    assert ledger.sweep() == 2
    ledger.allot("all", (Kind.COUNTER,) * (ROWS - FIRST_ROW))


# Workers


def test_each_worker_has_its_own_column_until_none_is_left(ledger: Ledger) -> None:
    assert {ledger.take_column() for _ in range(3)} == {0, 1, 2} == ledger.taken
    with pytest.raises(BoardError, match="all 3 columns are taken"):
        ledger.take_column()
    ledger.vacate(1)
    assert ledger.take_column() == 1


def test_of_a_dead_worker_counts_stay_and_gauges_go(board: Board, ledger: Ledger) -> None:
    row = ledger.allot("a", (Kind.GAUGE, Kind.COUNTER, Kind.REAL, Kind.STATE))
    for _ in range(2):
        column = board.columns[ledger.take_column()]
        column.cells[row] = 2
        column.cells[row + 1] = 10
        column.reals[row + 2] = 0.5
        column.cells[row + 3] = 1
    ledger.vacate(0)
    assert board.sums(row, 2) == [2, 20]
    assert board.real_sum(row + 2) == 1.0
    assert board.sums(row + 3) == [2]


def test_a_dead_worker_holds_up_no_rows(board: Board, ledger: Ledger) -> None:
    number = ledger.take_column()
    row = ledger.allot("a", WITH_GAUGE)
    board.columns[number].cells[row] = 3
    assert not retire(ledger, "a", 7)
    ledger.vacate(number)
    assert ledger.sweep() == 1


def test_a_new_worker_has_acknowledged_nothing(board: Board, ledger: Ledger) -> None:
    board.columns[ledger.take_column()].acknowledge(7)
    ledger.vacate(0)
    assert board.columns[ledger.take_column()].acknowledged == 0


# Handing on


def test_a_book_that_was_handed_on_goes_on(board: Board, ledger: Ledger) -> None:
    worker = ledger.take_column()
    rows = {name: ledger.allot(name, shape) for name, shape in {"a": WITH_GAUGE, "b": COUNTS, "c": WITH_GAUGE}.items()}
    board.columns[worker].cells[rows["b"]] = 5
    ledger.retire("a", 7)
    heir = Ledger.restore(board, json.loads(json.dumps(ledger.state())))
    assert [*heir] == [*ledger]
    assert heir.taken == {worker}
    assert heir.allot("b", COUNTS) == rows["b"]
    assert board.sums(rows["b"]) == [5]
    assert heir.sweep() == 0
    board.columns[worker].acknowledge(7)
    assert heir.sweep() == 1
    assert heir.allot("d", WITH_GAUGE) == rows["a"]
    heir.allot("e", COUNTS)
    with pytest.raises(BoardError):
        heir.allot("f", (Kind.COUNTER,))


BAD_STATES: dict[str, Any] = {
    "nothing": {},
    "no mapping": [],
    "a column too many": {"columns": [3], "blocks": []},
    "a column before the first": {"columns": [-1], "blocks": []},
    "a block beyond the end": {"columns": [], "blocks": [["a", ROWS - 1, "cc", None]]},
    "a block before the first row": {"columns": [], "blocks": [["a", 0, "c", None]]},
    "a block of nothing": {"columns": [], "blocks": [["a", 3, "", None]]},
    "two in one place": {"columns": [], "blocks": [["a", 2, "cc", None], ["b", 3, "cc", None]]},
    "an unknown kind": {"columns": [], "blocks": [["a", 2, "x", None]]},
    "a short entry": {"columns": [], "blocks": [["a", 2]]},
    "no row": {"columns": [], "blocks": [["a", "2", "c", None]]},
}


@pytest.mark.parametrize("state", BAD_STATES.values(), ids=BAD_STATES)
def test_a_book_that_does_not_fit_the_board_is_refused(board: Board, state: Any) -> None:
    with pytest.raises(BoardError, match="book of shared memory"):
        Ledger.restore(board, state)


class Life(RuleBasedStateMachine):
    """Names come and go, workers live and die and lag behind; nobody ever writes to another's rows.

    Each worker does what a real one does: it knows the names of the snapshot it applied last, begins things on
    what it knows, and ends what it began, whenever that is. Each begins by adding its name's number to the counter, so
    that a count of another name in the block would show.
    """

    def __init__(self) -> None:
        super().__init__()
        self.board = Board.create(3, 16)
        self.ledger = Ledger(self.board)
        self.version = 0
        self.wanted: dict[int, int] = {}
        self.workers: dict[int, dict[int, int]] = {}
        self.under_way: list[tuple[int, int, int]] = []

    def teardown(self) -> None:
        self.board.close()

    @rule(names=st.sets(st.integers(1, 6)))
    def publish(self, names: set[int]) -> None:
        self.version += 1
        for name in self.wanted.keys() - names:
            self.ledger.retire(str(name), self.version)
        self.wanted = {}
        for name in names:
            try:
                self.wanted[name] = self.ledger.allot(str(name), WITH_GAUGE)
            except BoardError:
                assert len([*self.ledger]) == 7  # as many as fit

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def start(self) -> None:
        self.workers[self.ledger.take_column()] = {}

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        self.workers[worker] = dict(self.wanted)
        self.board.columns[worker].acknowledge(self.version)

    @precondition(lambda self: any(self.workers.values()))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker, known in self.workers.items() if known]))
        name, row = data.draw(st.sampled_from(sorted(self.workers[worker].items())))
        self.board.cells[worker][row] += 1
        self.under_way.append((worker, name, row))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        worker, name, row = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        cells = self.board.cells[worker]
        cells[row + 1] += name
        cells[row] -= 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        del self.workers[worker]
        self.under_way = [each for each in self.under_way if each[0] != worker]
        self.ledger.vacate(worker)

    @rule()
    def sweep(self) -> None:
        self.ledger.sweep()

    @rule()
    def hand_on(self) -> None:
        self.ledger = Ledger.restore(self.board, self.ledger.state())

    @invariant()
    def every_block_holds_its_own_counts(self) -> None:
        for block in self.ledger:
            active, count = self.board.sums(block.row, 2)
            assert active == sum(str(name) == block.name for _, name, _ in self.under_way)
            assert count % int(block.name) == 0

    @invariant()
    def whatever_is_under_way_has_its_rows(self) -> None:
        rows = {block.name: block.row for block in self.ledger}
        assert all(rows[str(name)] == row for _, name, row in self.under_way)
        assert all(rows[str(name)] == row for known in self.workers.values() for name, row in known.items())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
