"""Several workers that have one group over a board, and the supervisor that allots its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from types import TracebackType

from lb.balance.group import Group
from lb.balance.places import BoardPlaces, LedgerPlaces
from lb.board.area import Board
from lb.board.ledger import Ledger
from lb.routing.options import EndpointOptions


class Workers:
    """The group `web` of each of so many workers; a change of its endpoints reaches one after the other."""

    def __init__(self, count: int, *, rows: int = 1000) -> None:
        self.board = Board.create(count, rows)
        self.ledger = Ledger(self.board)
        self.places = LedgerPlaces(self.board, self.ledger)
        self.supervisor = Group("web", places=self.places)
        self.groups: list[Group] = []
        self._columns: list[int] = []
        self._places: list[BoardPlaces] = []
        self._version = 0
        self._last: tuple[Sequence[EndpointOptions], str] = ((), "round_robin")
        for number in range(count):
            self.start(number)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with closing(self.board):
            self.groups.clear()

    def start(self, number: int) -> None:
        """Start a worker, which applies the present list."""
        column = self.ledger.take_column()
        places = BoardPlaces(self.board, column, len(self.board.columns), self.places.rows)
        self._columns.insert(number, column)
        self.groups.insert(number, Group("web", places=places))
        self._places.insert(number, places)
        self.apply(number)

    def places_of(self, number: int) -> BoardPlaces:
        """Return what a worker's cells come from."""
        return self._places[number]

    def kill(self, number: int) -> None:
        """End a worker, with all it had under way."""
        del self.groups[number], self._places[number]
        self.ledger.vacate(self._columns.pop(number))

    def publish(self, specs: Sequence[EndpointOptions], policy: str = "round_robin") -> None:
        """Allot rows for a new list and send it; the workers do not apply it yet."""
        self.ledger.sweep()
        self._version += 1
        self._last = (specs, policy)
        self.supervisor.reconcile(specs, policy)
        self.places.settle(self._version)

    def apply(self, number: int) -> None:
        """Let a worker apply what was published last."""
        self._places[number].rows = dict(self.places.rows)
        self.groups[number].reconcile(*self._last)
        self.board.columns[self._columns[number]].acknowledge(self._version)

    def reconcile(
        self, specs: Sequence[EndpointOptions], policy: str = "round_robin", order: Iterable[int] = ()
    ) -> None:
        """Publish a list and let all workers apply it, in that order."""
        self.publish(specs, policy)
        for number in order or range(len(self.groups)):
            self.apply(number)
