"""The shared memory: what is written is read, and what is no board is refused by name."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
from collections.abc import Callable

import pytest

from lb.board.area import MOST_COLUMNS, VERSION, Board, BoardError
from tests.lb.board.boards import board_of


def test_a_new_board_holds_zeros() -> None:
    with board_of(3, 10) as board:
        assert board.sums(0, 10) == [0] * 10
        assert [board.real_sum(row) for row in range(10)] == [0.0] * 10
        assert list(board.common.cells) == [0] * 10


def test_a_sum_is_over_all_columns_and_one_row() -> None:
    with board_of(3, 10) as board:
        for number, column in enumerate(board.columns):
            column.cells[4] = 10**number
            column.cells[5] = -1
            column.reals[6] = 0.25
        board.common.cells[4] = 7
        assert board.sums(4) == [111]
        assert board.sums(3, 3) == [0, 111, -3]
        assert board.real_sum(6) == 0.75


def test_a_cell_holds_64_bits() -> None:
    with board_of(1, 3) as board:
        cells = board.columns[0].cells
        cells[1], cells[2] = 2**63 - 1, -(2**63)
        assert board.sums(1, 2) == [2**63 - 1, -(2**63)]


# 512 rows fill a page exactly, 513 need another.
@pytest.mark.parametrize("rows", [2, 511, 512, 513])
def test_columns_do_not_overlap(rows: int) -> None:
    with board_of(3, rows) as board:
        columns = (board.common, *board.columns)
        for number, column in enumerate(columns):
            for row in range(rows):
                column.cells[row] = number * rows + row
        assert [cell for column in columns for cell in column.cells] == list(range(4 * rows))
        with pytest.raises(IndexError):
            board.columns[0].cells[rows] = 1


def test_clearing_ends_at_its_rows() -> None:
    with board_of(2, 6) as board:
        for column in (board.common, *board.columns):
            for row in range(6):
                column.cells[row] = 1
        board.clear(2, 3)
        assert board.sums(0, 6) == [2, 2, 0, 0, 0, 2]
        assert list(board.common.cells) == [1, 1, 0, 0, 0, 1]


def test_another_mapping_of_the_same_descriptor_sees_every_write_at_once() -> None:
    with board_of(2, 10) as board:
        other = Board.open(os.dup(board.fd))
        try:
            board.columns[1].cells[3] += 5
            assert other.sums(3) == [5]
            other.columns[0].acknowledge(8)
            assert board.columns[0].acknowledged == 8
            assert (len(other.columns), other.rows) == (2, 10)
        finally:
            other.close()
        assert board.sums(3) == [5]


@pytest.mark.parametrize(("columns", "rows"), [(0, 10), (-1, 10), (MOST_COLUMNS + 1, 10), (1, 1), (1, 2**61)])
def test_sizes_that_cannot_be_are_refused_with_the_numbers(columns: int, rows: int) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BoardError, match=f"{columns} columns of {rows} rows"):
        Board.create(columns, rows)
    assert os.listdir("/proc/self/fd") == before


def test_no_descriptor_left_is_a_clear_error() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(BoardError, match="Too many open files"):
            Board.create(1, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_memory_cannot_be_cut_off_under_its_users() -> None:
    with board_of(2, 600) as board, pytest.raises(PermissionError):
        os.ftruncate(board.fd, 4096)


def test_the_descriptor_is_not_inherited_unless_asked_for() -> None:
    with board_of(1, 10) as board:
        assert not os.get_inheritable(board.fd)


def test_a_closed_board_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with board_of(2, 10):
        assert os.listdir("/proc/self/fd") != before
    assert os.listdir("/proc/self/fd") == before


def good_file() -> bytearray:
    """The octets of a board of 2 columns of 10 rows."""
    with board_of(2, 10) as board:
        return bytearray(os.pread(board.fd, 1 << 20, 0))


def with_header(offset: int, form: str, value: int) -> Callable[[bytearray], bytearray]:
    def change(file: bytearray) -> bytearray:
        struct.pack_into(form, file, offset, value)
        return file

    return change


BAD_FILES: dict[str, tuple[Callable[[bytearray], bytearray], str]] = {
    "empty": (lambda _: bytearray(), "not a board"),
    "half a header": (lambda file: file[:12], "not a board"),
    "other magic": (lambda file: bytearray(b"x") + file[1:], "not a board"),
    "other version": (with_header(8, "=I", VERSION + 1), f"layout version {VERSION + 1}, but .* reads {VERSION}"),
    "no columns": (with_header(12, "=I", 0), "do not fit 0 columns of 10 rows"),
    "more columns than there are": (with_header(12, "=I", 3), "16384 bytes do not fit 3 columns of 10 rows"),
    "more rows than there are": (with_header(16, "=Q", 513), "do not fit 2 columns of 513 rows"),
    "rows beyond any file": (with_header(16, "=Q", 2**64 - 1), "do not fit"),
    "cut off": (lambda file: file[:-1], "16383 bytes do not fit"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_board_is_refused_and_its_descriptor_left_open(name: str) -> None:
    change, reason = BAD_FILES[name]
    with tempfile.TemporaryFile() as file:
        file.write(change(good_file()))
        file.flush()
        with pytest.raises(BoardError, match=f"descriptor {file.fileno()}: .*{reason}"):
            Board.open(file.fileno())
        os.fstat(file.fileno())


def test_the_same_octets_unchanged_are_a_board() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(good_file())
        file.flush()
        Board.open(os.dup(file.fileno())).close()


def test_a_descriptor_that_is_closed_or_no_file_is_refused() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BoardError, match=f"descriptor {reader}: "):
            Board.open(reader)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(BoardError, match=f"descriptor {reader}: Bad file descriptor"):
        Board.open(reader)
