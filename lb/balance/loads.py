"""The least busy endpoint, found quickly.

As long as no endpoint fails, has a limit, or has a weight that is not in force in full, `least_conn` depends on nothing
but cells of the same columns. Then the cells of all endpoints are read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm
from operator import add, itemgetter, mul

from lb.balance.endpoint import CURRENT, LACK, Endpoint
from lb.board.area import Cells


class Loads:
    """What `least_conn` would pick of these endpoints, two at least, as long as the bell's value is `rung`."""

    __slots__ = ("_active", "_columns", "_endpoints", "_factors", "_others", "_own", "_turns", "_width", "rung")

    def __init__(self, rung: int, endpoints: Sequence[Endpoint]) -> None:
        self.rung = rung
        self._endpoints = endpoints
        self._own = endpoints[0].cells
        self._columns = endpoints[0].columns
        self._look()
        self._active: Callable[[Cells], Sequence[int]] = itemgetter(*(endpoint.row for endpoint in endpoints))
        weights = [endpoint.weight for endpoint in endpoints]
        # What makes connections for their weight comparable without a division.
        self._factors = [lcm(*weights) // weight for weight in weights] if len(set(weights)) > 1 else None
        self._turns = [(endpoint, endpoint.row + CURRENT, endpoint.weight) for endpoint in endpoints]

    def _look(self) -> None:
        """Take note of the columns of other workers: there may be more of them than there were."""
        self._width = len(self._columns)
        self._others = [cells for cells in self._columns if cells is not self._own]

    def take(self) -> Endpoint:
        """Return the one with the fewest connections for its weight; those that tie take turns among themselves."""
        if len(self._columns) != self._width:
            self._look()
        loads = self._active(self._own)
        for cells in self._others:
            loads = [*map(add, loads, self._active(cells))]
        if self._factors is not None:
            loads = [*map(mul, loads, self._factors)]
        least = min(loads)
        ties = loads.count(least)
        if ties == 1:
            return self._endpoints[loads.index(least)]
        turns = self._turns
        if ties < len(turns):
            turns = [turn for turn, load in zip(turns, loads, strict=True) if load == least]
        return self._take_turns(turns)

    def _take_turns(self, tied: Sequence[tuple[Endpoint, int, int]]) -> Endpoint:
        """As `lb.balance.policies.take_turns`, all weights being in force."""
        own, others = self._own, self._others
        best, best_row, _ = tied[0]
        highest: int | None = None
        total = 0
        for endpoint, row, weight in tied:
            total += weight
            own[row] = current = own[row] + weight
            for cells in others:
                current += cells[row]
            if highest is None or current > highest:
                highest, best, best_row = current, endpoint, row
        own[best_row] -= total
        return best


def are_readable_at_once(endpoints: Sequence[Endpoint]) -> bool:
    """Tell whether the cells of these endpoints, two at least, are in the same columns, all in one list of them."""
    columns = endpoints[0].columns
    return all(endpoint.columns is endpoint.standings is columns for endpoint in endpoints)


def weigh(rung: int, endpoints: Sequence[Endpoint]) -> Loads | None:
    """Return the loads of endpoints that are readable at once; None while a weight is not in force in full."""
    if any(endpoint.common[endpoint.row + LACK] for endpoint in endpoints):
        return None
    return Loads(rung, endpoints)
