"""One cell that tells all workers to look again."""

from __future__ import annotations

from collections.abc import Sequence

from lb.board.area import Cells, Kind
from lb.board.ledger import Shape


class Bell:
    """Tells all workers that something changed which they may have drawn conclusions from.

    A group of endpoints of which none fails need not look at its endpoints for each request. It looks at the bell
    instead, which is one cell: if `value` is not what it was when the conclusions were drawn, they are void. Read
    `value` first and the cells that it stands for afterwards; write those cells first and `ring` afterwards.

    Any worker may ring, in a cell of the common column. They do not add to it, which would lose rings; each stores
    a number that no worker has stored before: how often it rang, and who it is. Whichever is stored last, it is new
    to everyone.
    """

    SHAPE: Shape = (Kind.STATE,)

    __slots__ = ("_common", "_number", "_own", "_ringers", "_row")

    def __init__(self, common: Cells, columns: Sequence[Cells], number: int, row: int) -> None:
        self._common = common
        self._own = columns[number]
        self._number = number
        self._ringers = len(columns)
        self._row = row

    @property
    def value(self) -> int:
        """A number that is another after each ring."""
        return self._common[self._row]

    def ring(self) -> None:
        """Let every worker that looks see another value."""
        # The count is in the worker's column: who has the column next goes on with it, and repeats no number.
        rings = self._own[self._row] = self._own[self._row] + 1
        self._common[self._row] = rings * self._ringers + self._number
