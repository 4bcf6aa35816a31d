"""The bell: whoever rings, everybody who looks sees that something changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.board.area import Board
from lb.board.bell import Bell
from lb.board.ledger import Ledger
from tests.lb.board.boards import board_of

ROW = 1


def bells_of(board: Board) -> list[Bell]:
    return [Bell(board.common.cells, board.cells, number, ROW) for number in range(len(board.columns))]


@pytest.fixture
def board() -> Iterator[Board]:
    with board_of(3, 2) as board:
        yield board


def test_a_bell_that_nobody_rings_stays_as_it_is(board: Board) -> None:
    first, second, _ = bells_of(board)
    first.ring()
    assert first.value == second.value == first.value


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_no_value_comes_twice_whoever_rings(ringers: list[int]) -> None:
    with board_of(3, 2) as board:
        bells = bells_of(board)
        values = [bells[0].value]
        for ringer in ringers:
            bells[ringer].ring()
            values.append(bells[0].value)
        assert len(values) == len(set(values))


def test_two_that_ring_at_once_are_heard_whichever_is_stored_last(board: Board) -> None:
    first, second, _ = bells_of(board)
    heard = first.value
    first.ring()
    value_of_first = first.value
    second.ring()
    value_of_second = second.value
    board.common.cells[ROW] = value_of_first  # as if the first had been slower
    assert first.value not in (heard, value_of_second)


def test_who_replaces_a_dead_worker_repeats_none_of_its_values(board: Board) -> None:
    ledger = Ledger(board)
    row = ledger.allot("group web", Bell.SHAPE)
    number = ledger.take_column()
    Bell(board.common.cells, board.cells, number, row).ring()
    listener = Bell(board.common.cells, board.cells, 2, row)
    heard = listener.value
    ledger.vacate(number)
    Bell(board.common.cells, board.cells, ledger.take_column(), row).ring()
    assert listener.value != heard
