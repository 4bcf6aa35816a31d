"""Boards and processes of tests; each test closes its boards and ends its processes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from lb.board.area import Board


@contextlib.contextmanager
def board_of(columns: int, rows: int) -> Iterator[Board]:
    board = Board.create(columns, rows)
    try:
        yield board
    finally:
        board.close()


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """Run `work` in a child process that has inherited everything, and then end it; the child is killed on exit."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        # A child that was waited for has no number any more: it may be another process's by now.
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def ended(pid: int) -> int:
    """Wait for a child's end and return its exit status, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
