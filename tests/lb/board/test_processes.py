"""Several processes on one board: nothing is lost, whoever dies, and another program can open it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import count

from lb.board.area import Board, Kind
from lb.board.bell import Bell
from lb.board.endpoint_state import EndpointState
from lb.board.ledger import Ledger
from tests.lb.board.boards import board_of, ended, forked
from tests.support.process import wait_until

WORKERS = 4
TIMES = 100_000
ROW = 1


def count_up(board: Board, number: int, row: int = ROW) -> None:
    cells, reals = board.columns[number].cells, board.columns[number].reals
    for _ in range(TIMES):
        cells[row] += 1
        reals[row + 1] += 0.5


def test_four_processes_that_count_at_once_lose_nothing() -> None:
    with board_of(WORKERS, 3) as board, contextlib.ExitStack() as stack:
        pids = [stack.enter_context(forked(partial(count_up, board, number))) for number in range(WORKERS)]
        assert [ended(pid) for pid in pids] == [0] * WORKERS
        assert board.sums(ROW) == [WORKERS * TIMES]
        assert board.real_sum(ROW + 1) == WORKERS * TIMES / 2


def fail_often(board: Board, number: int) -> None:
    state = EndpointState(board.cells, board.cells[number], ROW)
    for _ in range(10_000):
        state.begin()
        state.fail(100 + number)
        state.end()


def test_four_processes_that_fail_at_once_lose_no_failure() -> None:
    with board_of(WORKERS, 5) as board, contextlib.ExitStack() as stack:
        state = EndpointState(board.cells, board.cells[0], ROW)
        state.fail(50)
        state.clear()
        pids = [stack.enter_context(forked(partial(fail_often, board, number))) for number in range(WORKERS)]
        assert [ended(pid) for pid in pids] == [0] * WORKERS
        assert (state.active, state.fails, state.accessed) == (0, WORKERS * 10_000, 103)
        state.clear()
        assert state.fails == 0


def count_for_ever(board: Board, number: int, row: int) -> None:
    cells = board.cells[number]
    cells[row] += 1
    for _ in count():
        cells[row + 1] += 1


def test_what_a_killed_worker_counted_stays_and_its_successor_counts_on() -> None:
    with board_of(2, 10) as board:
        ledger = Ledger(board)
        row = ledger.allot("requests", (Kind.GAUGE, Kind.COUNTER, Kind.REAL))
        number = ledger.take_column()
        with forked(partial(count_for_ever, board, number, row)) as pid:
            wait_until(lambda: board.sums(row + 1)[0] > 1000, what="a thousand counts")
            seen = board.sums(row + 1)[0]
            os.kill(pid, signal.SIGKILL)
            assert ended(pid) == -signal.SIGKILL
        left = board.sums(row + 1)[0]
        assert left >= seen
        assert board.sums(row) == [1]
        ledger.vacate(number)
        assert board.sums(row, 2) == [0, left]
        successor = ledger.take_column()
        assert successor == number
        with forked(partial(count_up, board, successor, row + 1)) as pid:
            assert ended(pid) == 0
        assert board.sums(row, 2) == [0, left + TIMES]


OTHER_PROGRAM = """
import sys
from lb.board.area import Board
from lb.board.bell import Bell
from lb.board.endpoint_state import EndpointState

board = Board.open(int(sys.argv[1]))
state = EndpointState(board.cells, board.cells[1], 1)
state.fail(200)
state.begin()
Bell(board.common.cells, board.cells, 1, 5).ring()
board.columns[1].acknowledge(7)
print(state.fails, state.active, state.accessed)
"""


def test_another_program_opens_the_board_by_its_descriptor() -> None:
    with board_of(2, 6) as board:
        state = EndpointState(board.cells, board.cells[0], 1)
        bell = Bell(board.common.cells, board.cells, 0, 5)
        state.fail(100)
        state.begin()
        heard = bell.value
        argv = [sys.executable, "-c", OTHER_PROGRAM, str(board.fd)]
        other = subprocess.run(argv, pass_fds=[board.fd], capture_output=True, text=True, timeout=30, check=False)
        assert (other.stdout.split(), other.stderr) == (["2", "2", "200"], "")
        assert (state.fails, state.active, state.accessed) == (2, 2, 200)
        assert bell.value != heard
        assert board.columns[1].acknowledged == 7
