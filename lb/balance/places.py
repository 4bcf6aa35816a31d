"""Where the state of groups and endpoints is kept: in this process, or on a board that several workers have.

A group asks its `Places` for cells and tells them what it needs no more. Everything on the board has a name, made of
the group's and of the endpoint's key; which rows a name has is up to the supervisor (`LedgerPlaces`), and the workers
(`BoardPlaces`) are told. What has no rows, because the board is full, is kept in each process for itself: its
failures and connections are then those of one worker, and nothing else changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from lb.balance.endpoint import Endpoint, EndpointSpec
from lb.board.area import Board, BoardError, Cells
from lb.board.group_state import GroupState
from lb.board.ledger import Ledger, Shape

Key = tuple[str, str, str, int]

_PREFIX = "balance "  # of names, beside those that others have on the same board


class Places(Protocol):
    """Hands out the cells of groups and endpoints."""

    def group(self, name: str) -> GroupState:
        """Return what is known of the group of this name, which has endpoints from now on."""

    def endpoint(self, group: str, spec: EndpointSpec) -> Endpoint:
        """Return a new endpoint of a group; other workers may know more of it already."""

    def leave(self, group: str, key: Key | None = None) -> None:
        """Take note that the group has lost an endpoint, or, without a key, the last one.

        What is under way on the endpoint goes on in the cells that it has.
        """


class LocalPlaces:
    """Cells of this process alone. Those of all endpoints are in one list, so that they can be read at once."""

    def __init__(self) -> None:
        self._cells: list[int] = []
        self._common: list[int] = []
        self._columns: list[Cells] = [self._cells]
        self._rows: dict[tuple[str, Key], int] = {}
        self._left: list[int] = []

    def group(self, _name: str) -> GroupState:
        """See `Places`."""
        size = len(GroupState.SHAPE)
        return GroupState([0] * size, [[0] * size], 0, 0, shared=False)

    def endpoint(self, group: str, spec: EndpointSpec) -> Endpoint:
        """See `Places`."""
        row = self._rows[group, spec.key] = self._room()
        return Endpoint(spec, self._columns, self._cells, row, self._common, shared=False)

    def leave(self, group: str, key: Key | None = None) -> None:
        """See `Places`."""
        row = self._rows.pop((group, key), None) if key is not None else None
        if row is not None:
            self._left.append(row)

    def _room(self) -> int:
        """Return the first row of zeros for an endpoint: those of one that left, once nothing is under way there."""
        zeros = [0] * len(Endpoint.SHAPE)
        row = next((row for row in self._left if not self._cells[row]), None)
        if row is None:
            self._cells += zeros
            self._common += zeros
            return len(self._cells) - len(zeros)
        self._left.remove(row)
        self._cells[row : row + len(zeros)] = self._common[row : row + len(zeros)] = zeros
        return row


class BoardPlaces:
    """A worker's: cells of the board's column `number`.

    `rows` tells the rows of each name, as `LedgerPlaces.rows` did; set it before a snapshot is applied. `problems`
    names what has no rows there. `columns` are the columns that are read: the first so many, see `widen`.
    """

    def __init__(self, board: Board, number: int, width: int, rows: Mapping[str, int]) -> None:
        self.rows = rows
        self.problems: set[str] = set()
        self.columns: list[Cells] = []
        self._board = board
        self._number = number
        self._local = LocalPlaces()
        self.widen(width)

    def widen(self, width: int) -> None:
        """Read the first `width` columns from now on; every column in use must be among them before it is written to.

        Columns once used go on being read: what their workers counted still counts.
        """
        self.columns += self._board.cells[len(self.columns) : width]

    def group(self, name: str) -> GroupState:
        """See `Places`."""
        row = self._row(name)
        if row is None:
            return self._local.group(name)
        return GroupState(self._board.common.cells, self._board.cells, self._number, row)

    def endpoint(self, group: str, spec: EndpointSpec) -> Endpoint:
        """See `Places`."""
        row = self._row(group, spec.key)
        if row is None:
            return self._local.endpoint(group, spec)
        return Endpoint(spec, self.columns, self._board.cells[self._number], row, self._board.common.cells)

    def leave(self, group: str, key: Key | None = None) -> None:
        """See `Places`."""
        self._local.leave(group, key)
        self.problems.discard(place_name(group, key))

    def _row(self, group: str, key: Key | None = None) -> int | None:
        name = place_name(group, key)
        if name not in self.rows:
            self.problems.add(name)
        # A group whose bell the others do not hear shares nothing with them.
        return self.rows.get(name) if place_name(group) in self.rows else None


class LedgerPlaces:
    """The supervisor's: allots rows to names, and takes them back from those that went. It only looks at the cells.

    Apply a snapshot to the supervisor's groups first, then call `settle` with its version, then send it to the
    workers with `take_changes`. While `frozen`, the ledger is left alone: what is new has no rows. `problems` tells
    which names have no rows, and why.
    """

    def __init__(self, board: Board, ledger: Ledger) -> None:
        self.rows: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.frozen = False
        self._changed: set[str] = set()
        self._board = board
        self._ledger = ledger
        self._local = LocalPlaces()
        self._uses: Counter[str] = Counter()
        # Of a ledger that was handed on: whoever is not asked for again is gone.
        self._left = {block.name for block in ledger if block.name.startswith(_PREFIX) and block.retired is None}

    def group(self, name: str) -> GroupState:
        """See `Places`."""
        row = self._allot(place_name(name), GroupState.SHAPE)
        if row is None:
            return self._local.group(name)
        return GroupState(_Glass(self._board.common.cells), [_Glass(self._board.common.cells)], 0, row)

    def endpoint(self, group: str, spec: EndpointSpec) -> Endpoint:
        """See `Places`."""
        # A group whose bell the others do not hear shares nothing with them.
        known = place_name(group) in self.rows
        row = self._allot(place_name(group, spec.key), Endpoint.SHAPE) if known else None
        if row is None:
            return self._local.endpoint(group, spec)
        common = _Glass(self._board.common.cells)
        return Endpoint(spec, self._board.cells, common, row, common)

    def leave(self, group: str, key: Key | None = None) -> None:
        """See `Places`."""
        self._local.leave(group, key)
        name = place_name(group, key)
        self._uses[name] -= 1
        if self._uses[name] <= 0:
            del self._uses[name]
            self.problems.pop(name, None)
            if self.rows.pop(name, None) is not None:
                self._left.add(name)
                self._changed.add(name)

    def take_changes(self) -> dict[str, int | None]:
        """Return the rows of all names that are new since the last call; None for those that went."""
        changes = {name: self.rows.get(name) for name in self._changed}
        self._changed.clear()
        return changes

    def settle(self, version: int) -> None:
        """Retire what the snapshot `version` does not have any more."""
        if self.frozen:
            return
        for name in self._left:
            self._ledger.retire(name, version)
        self._left.clear()

    def _allot(self, name: str, shape: Shape) -> int | None:
        self._uses[name] += 1
        if name not in self.rows and name not in self.problems and not self.frozen:
            try:
                self.rows[name] = self._ledger.allot(name, shape)
                self._changed.add(name)
            except BoardError as error:
                self.problems[name] = str(error)
        self._left.discard(name)
        return self.rows.get(name)


class _Glass:
    """Cells to look at: what is written is not kept."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def __getitem__(self, row: int, /) -> int:
        return self._cells[row]

    def __setitem__(self, row: int, value: int, /) -> None:
        pass


def place_name(group: str, key: Key | None = None) -> str:
    """Return the name on the board of a group, or of its endpoint with this key; no two have the same."""
    parts: Sequence[str | int] = (group,) if key is None else (group, *key)
    return _PREFIX + json.dumps(parts)
