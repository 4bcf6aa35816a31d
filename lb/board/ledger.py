"""Which rows belong to whom, and which column to which worker: the supervisor's book on a board.

The supervisor allots rows to names and sends the names with the snapshots; workers never look for rows themselves.

When are rows free again? A worker may write to them as long as it knows them, and as long as anything is under
way that began when it did. So a block of rows whose name is retired is given to nobody until

1. every worker has acknowledged a snapshot without the name: nothing new begins on the block; and
2. every gauge of the block is zero in every column: nothing that began is still under way.

Then nobody writes to it any more, and the supervisor sets it to zero. This asks one thing of the writers: whoever
writes to a block does so while its gauge counts them, and taking themselves off the gauge is the last they write.
A worker that dies takes its acknowledgement and its gauges along (`vacate`), so it holds up nothing.

One process at a time keeps the book of a board. `state` and `restore` hand it on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lb.board.area import FIRST_ROW, Board, BoardError, Kind

Shape = tuple[Kind, ...]
"""The kinds of the rows of a block, in order."""


@dataclass(slots=True)
class Block:
    """Rows that belong together: `row` is the first, `shape` tells how many and what they hold.

    `retired` is the version of the first snapshot that does not list the name, None while it is in use.
    """

    name: str
    row: int
    shape: Shape
    retired: int | None = None

    def gauges(self) -> Iterator[int]:
        """Yield the rows that are gauges."""
        return (self.row + place for place, kind in enumerate(self.shape) if kind is Kind.GAUGE)


class Ledger:
    """The book of one board; a new one is empty, so the board must be new, too."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._blocks: dict[str, Block] = {}
        self._retired: dict[str, Block] = {}
        self._free = _Extents(FIRST_ROW, board.rows)
        self._taken: set[int] = set()
        self._width = 0

    def __iter__(self) -> Iterator[Block]:
        """Yield all blocks, also those that are retired and not yet free: they may still count."""
        return iter(list(self._blocks.values()))

    def allot(self, name: str, shape: Shape) -> int:
        """Return the first row of the name's block.

        A name that is known, even a retired one, has its rows and what they hold; another gets rows of zeros.
        BoardError is raised when no rows are left, or when the name has a block of another shape.
        """
        block = self._blocks.get(name)
        if block is None:
            row = self._free.take(len(shape))
            if row is None:
                raise BoardError(f"{name}: no {len(shape)} rows are free of the {self._board.rows} in shared memory")
            block = self._blocks[name] = Block(name, row, shape)
        elif block.shape != shape:
            raise BoardError(f"{name}: its rows in shared memory are of another shape")
        elif self._retired.pop(name, None):
            block.retired = None
        return block.row

    def retire(self, name: str, version: int) -> None:
        """Note that the snapshot `version` and later ones do not list the name; KeyError if it is unknown."""
        block = self._blocks[name]
        if block.retired is None:
            block.retired = version
            self._retired[name] = block

    def sweep(self) -> int:
        """Make the rows free that nobody can be writing to any more, and return how many blocks they were."""
        columns = self._board.columns
        oldest = min((columns[number].acknowledged for number in self._taken), default=None)
        free = [block for block in self._retired.values() if self._is_quiet(block, oldest)]
        for block in free:
            self._board.clear(block.row, len(block.shape))
            self._free.give(block.row, len(block.shape))
            del self._blocks[block.name], self._retired[block.name]
        return len(free)

    def _is_quiet(self, block: Block, oldest: int | None) -> bool:
        """Tell whether no worker knows the block, the hindmost having applied `oldest`, and nothing is under way."""
        assert block.retired is not None
        if oldest is not None and oldest < block.retired:
            return False
        return not any(cells[row] for row in block.gauges() for cells in self._board.cells)

    def take_column(self) -> int:
        """Return the number of a column for a new worker; BoardError is raised when all are taken."""
        for number, column in enumerate(self._board.columns):
            if number not in self._taken:
                self._taken.add(number)
                self._width = max(self._width, number + 1)
                column.acknowledge(0)
                return number
        raise BoardError(f"shared memory: all {len(self._board.columns)} columns are taken")

    def vacate(self, number: int) -> None:
        """Take a column back from a worker that has surely ended: its process must have been waited for.

        What it counted stays; what it had under way is no longer counted.
        """
        cells = self._board.cells[number]
        for block in self._blocks.values():
            for row in block.gauges():
                cells[row] = 0
        self._taken.discard(number)

    @property
    def width(self) -> int:
        """How many columns, from the first on, have ever been taken: what was written there may still count."""
        return self._width

    @property
    def taken(self) -> frozenset[int]:
        """The columns that belong to workers."""
        return frozenset(self._taken)

    def state(self) -> dict[str, Any]:
        """Return the whole book as JSON can hold it."""
        blocks = [[b.name, b.row, "".join(kind.value for kind in b.shape), b.retired] for b in self]
        return {"blocks": blocks, "columns": sorted(self._taken), "width": self._width}

    @classmethod
    def restore(cls, board: Board, state: Mapping[str, Any]) -> Ledger:
        """Go on with the book that `state` gave; BoardError is raised if it is not one of this board."""
        ledger = cls(board)
        try:
            ledger._taken.update(range(len(board.columns)).index(number) for number in state["columns"])
            ledger._width = range(len(board.columns) + 1).index(state["width"])
            for name, row, shape, retired in state["blocks"]:
                block = Block(name, row, tuple(map(Kind, shape)), retired)
                ledger._free.take_at(row, len(shape))
                ledger._blocks[name] = block
                if retired is not None:
                    ledger._retired[name] = block
        except (LookupError, TypeError, ValueError) as error:
            raise BoardError(f"book of shared memory: {error}") from error
        return ledger


class _Extents:
    """The free rows, as stretches that do not touch one another: first rows in order, and the ends of each."""

    def __init__(self, start: int, stop: int) -> None:
        self._starts = [start]
        self._stops = [stop]

    def take(self, count: int) -> int | None:
        """Return the first of `count` rows from the first stretch that has as many, None if none has."""
        for place, start in enumerate(self._starts):
            if self._stops[place] - start >= count:
                self._cut(place, start, start + count)
                return start
        return None

    def take_at(self, row: int, count: int) -> None:
        """Take these very rows; ValueError is raised if they are not free."""
        place = bisect_left(self._stops, row + count)
        if count < 1 or place == len(self._starts) or self._starts[place] > row:
            raise ValueError(f"{count} rows from {row} are not free")
        self._cut(place, row, row + count)

    def _cut(self, place: int, start: int, stop: int) -> None:
        """Take the rows from `start` to `stop` out of a stretch; what is left on either side remains."""
        left = (self._starts[place], start)
        right = (stop, self._stops[place])
        rest = [(first, end) for first, end in (left, right) if first < end]
        self._replace(place, place + 1, rest)

    def give(self, row: int, count: int) -> None:
        """Give rows back, and join them with what is free on either side."""
        start, stop = row, row + count
        first = last = bisect_left(self._starts, row)
        if first > 0 and self._stops[first - 1] == start:
            first -= 1
            start = self._starts[first]
        if last < len(self._starts) and self._starts[last] == stop:
            stop = self._stops[last]
            last += 1
        self._replace(first, last, [(start, stop)])

    def _replace(self, first: int, last: int, stretches: Sequence[tuple[int, int]]) -> None:
        self._starts[first:last] = [start for start, _ in stretches]
        self._stops[first:last] = [stop for _, stop in stretches]
