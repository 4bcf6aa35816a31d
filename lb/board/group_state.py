"""What all workers share of a group of endpoints, beside the state of each endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from lb.board.area import Cells, Kind
from lb.board.bell import Bell
from lb.board.ledger import Shape

_TURN, _LISTING = 1, 2  # rows after the first, which is the bell's

_TURN_BITS = 40  # a month of 400,000 turns a second
_RING_BITS = 22  # with the turns, less than a cell


class GroupState:
    """The bell of a group, how many turns were taken since it rang, and the list of endpoints that both are of.

    All are cells of the common column, `cells`. The cell of turns, at `turn_row`, begins at `first_turn(rung)`, where
    `rung` is the value of the bell. So it tells which ring its turns came after: a ring makes an end of them, and a
    worker that heard it too late and still counts on from an older ring is not mistaken for one of the present.

    `bell_row` is the bell's row. `shared` tells whether other workers have the group, too.
    """

    SHAPE: Shape = (*Bell.SHAPE, Kind.STATE, Kind.STATE)

    __slots__ = ("_listing_row", "bell", "bell_row", "cells", "shared", "turn_row")

    def __init__(self, common: Cells, columns: Sequence[Cells], number: int, row: int, *, shared: bool = True) -> None:
        self.cells = common
        self.bell = Bell(common, columns, number, row)
        self.bell_row = row
        self.turn_row = row + _TURN
        self._listing_row = row + _LISTING
        self.shared = shared

    @property
    def listing(self) -> int:
        """What stands for the list of endpoints that the turns are taken of; 0 before the first."""
        return self.cells[self._listing_row]

    @listing.setter
    def listing(self, value: int) -> None:
        self.cells[self._listing_row] = value

    def turns(self, rung: int) -> int | None:
        """How many turns were taken since the bell rang `rung`; None if they were not begun."""
        turns = self.cells[self.turn_row] - first_turn(rung)
        return turns if 0 <= turns < 1 << _TURN_BITS else None

    def begin_turns(self, rung: int) -> None:
        """Begin to count turns from the ring `rung` on."""
        self.cells[self.turn_row] = first_turn(rung)


def first_turn(rung: int) -> int:
    """What the cell of turns holds when the first turn after the ring `rung` is next."""
    return (rung % (1 << _RING_BITS)) << _TURN_BITS
