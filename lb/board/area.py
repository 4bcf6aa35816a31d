"""The shared memory itself: columns of 64-bit cells, one column for each worker.

::

    header | common column | column 0 | column 1 | ...      each begins on a page of its own
                             row 0: the newest snapshot that this worker has applied
                             row 1 ...: what a `Ledger` allots

A worker writes to its own column alone, so `cells[row] += 1` needs no lock: nobody else's addition can be lost
between its read and its write. A reader sums a row over all columns. An aligned cell is read and written whole
by one machine instruction, so a reader never sees half of a number.

A column outlives its worker. What a dead worker counted stays where it is, and the worker that gets the column
next counts on from there: nothing is moved, so there is no moment at which a sum is too high or too low, and none
at which the supervisor could die halfway. Only what the dead worker had under way is set to zero (`Kind.GAUGE`).

The memory is a file without a name (memfd_create(2)). Workers that are forked inherit the mapping; another program
opens it by the descriptor.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import struct
from typing import Protocol

from lb.errors import EdgeError

MAGIC = b"lb-board"

VERSION = 1
"""Of the layout, and of the shapes of all blocks: raise it when either changes."""

MOST_COLUMNS = 1024
"""More than workers of any machine, twice: during an upgrade the old and the new ones are there."""

FIRST_ROW = 1
"""The first row that can be allotted."""

_HEADER = struct.Struct("=8sIIQ")  # magic, version, columns, rows
_CELL = 8
_PAGE = 4096  # two workers never write to the same cache line


class BoardError(EdgeError):
    """The shared memory cannot be made or opened, or is full; the text names what and why."""


class Kind(enum.Enum):
    """What a row holds.

    COUNTER: integers that only grow; REAL: the same with fractions (seconds); GAUGE: how many things the workers
    have under way; STATE: bits with a meaning of their own, which are not summed.
    """

    COUNTER = "c"
    REAL = "r"
    GAUGE = "g"
    STATE = "s"


class Cells(Protocol):
    """A column, as the cells of one worker are read and written: a memoryview of 64-bit integers."""

    def __getitem__(self, row: int, /) -> int:
        """Read a cell."""

    def __setitem__(self, row: int, value: int, /) -> None:
        """Write a cell."""


class Column:
    """The cells of one worker: `cells` as signed integers, `reals` the same cells as floating-point numbers.

    Rows are indices. A row that nobody ever wrote to holds zero in either view.
    """

    __slots__ = ("cells", "reals")

    def __init__(self, memory: memoryview[int]) -> None:
        self.cells = memory.cast("q")
        self.reals = memory.cast("d")

    @property
    def acknowledged(self) -> int:
        """The version of the newest snapshot that the worker has applied; 0 before the first."""
        return self.cells[0]

    def acknowledge(self, version: int) -> None:
        """Note that the snapshot `version` is applied: nothing new will begin by an older one."""
        self.cells[0] = version

    def release(self) -> None:
        """Let go of the memory; the column is of no use afterwards."""
        self.cells.release()
        self.reals.release()


class Board:
    """A fixed number of columns and rows in shared memory; made by `create` or `open`.

    `columns` are the workers'. `common` has the same rows and belongs to nobody: what is stored there must mean
    the same whoever stored last (see `Bell`). `fd` is the descriptor to pass on; it is not inherited unless asked for.
    """

    def __init__(self, fd: int, columns: int, rows: int) -> None:
        self.fd = fd
        self.rows = rows
        stride = _stride(rows)
        self._map = mmap.mmap(fd, _size(columns, rows))
        self._memory = memoryview(self._map)
        starts = range(_PAGE, _PAGE + (columns + 1) * stride, stride)
        self.common, *others = (Column(self._memory[start : start + rows * _CELL]) for start in starts)
        self.columns = tuple(others)
        self.cells = tuple(column.cells for column in others)

    def __repr__(self) -> str:
        return f"<Board fd={self.fd} {len(self.columns)} columns of {self.rows} rows>"

    @classmethod
    def create(cls, columns: int, rows: int) -> Board:
        """Make a board of zeros; pages that are never touched take no memory.

        BoardError is raised when the system gives no such memory.
        """
        if not 1 <= columns <= MOST_COLUMNS or rows <= FIRST_ROW:
            reason = f"1 to {MOST_COLUMNS} columns of at least {FIRST_ROW + 1} rows are possible"
            raise BoardError(f"shared memory of {columns} columns of {rows} rows: {reason}")
        try:
            fd = os.memfd_create("lb-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise BoardError(f"shared memory: {error.strerror}") from error
        try:
            os.ftruncate(fd, _size(columns, rows))
            # To touch a page that was cut off would kill the process (SIGBUS).
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            os.pwrite(fd, _HEADER.pack(MAGIC, VERSION, columns, rows), 0)
            return cls(fd, columns, rows)
        except (OSError, OverflowError) as error:
            os.close(fd)
            raise BoardError(f"shared memory of {columns} columns of {rows} rows: {error}") from error

    @classmethod
    def open(cls, fd: int) -> Board:
        """Map a board that another process made; the descriptor is the board's from then on.

        BoardError is raised, and the descriptor left alone, when there is no board behind it that this program
        understands.
        """
        place = f"shared memory of descriptor {fd}"
        try:
            size = os.fstat(fd).st_size
            header = os.pread(fd, _HEADER.size, 0)
        except OSError as error:
            raise BoardError(f"{place}: {error.strerror}") from error
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise BoardError(f"{place}: not a board")
        _, version, columns, rows = _HEADER.unpack(header)
        if version != VERSION:
            raise BoardError(f"{place}: layout version {version}, but this program reads {VERSION}")
        if not 1 <= columns <= MOST_COLUMNS or rows <= FIRST_ROW or size != _size(columns, rows):
            raise BoardError(f"{place}: {size} bytes do not fit {columns} columns of {rows} rows")
        try:
            return cls(fd, columns, rows)
        except (OSError, OverflowError) as error:
            raise BoardError(f"{place}: {error}") from error

    def sums(self, row: int, count: int = 1) -> list[int]:
        """Add up the integers of `count` rows from `row` on, each over all columns."""
        stop = row + count
        return [sum(cells) for cells in zip(*(column[row:stop].tolist() for column in self.cells), strict=True)]

    def real_sum(self, row: int) -> float:
        """Add up the floating-point numbers of a row over all columns."""
        return sum(column.reals[row] for column in self.columns)

    def clear(self, row: int, count: int = 1) -> None:
        """Set `count` rows from `row` on to zero in all columns; nobody may be writing to them."""
        zeros = memoryview(bytes(count * _CELL)).cast("q")
        for column in (self.common, *self.columns):
            column.cells[row : row + count] = zeros

    def close(self) -> None:
        """Unmap the memory and close the descriptor; nothing that came from the board is of use afterwards."""
        for column in (self.common, *self.columns):
            column.release()
        self._memory.release()
        self._map.close()
        os.close(self.fd)


def _stride(rows: int) -> int:
    """Bytes from one column to the next: whole pages."""
    return -(-rows * _CELL // _PAGE) * _PAGE


def _size(columns: int, rows: int) -> int:
    return _PAGE + (columns + 1) * _stride(rows)
