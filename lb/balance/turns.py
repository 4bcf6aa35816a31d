"""Smooth weighted round robin, known in advance.

As long as no endpoint fails and every weight is in force in full, the picks repeat: in as many turns as the weights
sum to (divided by what they have in common), the endpoints are back where they were. Then a turn is one look into a
list, and all that changes is how many turns were taken. That is one cell, which all workers count on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd
from operator import add

from lb.balance.endpoint import LACK, Endpoint
from lb.board.group_state import GroupState, first_turn

MOST_STEPS = 1 << 15
"""Turns of a round, times endpoints: what one look ahead may cost, about 2 ms. Rounds beyond are not looked into."""


class Turns:
    """One round of a group's turns, over and over: the picks that `take_turns` would make after the ring `rung`.

    The turn that the cell of turns numbers n is `order[n % length]`. What `GroupState` names is here once more,
    because it is looked at for each pick.
    """

    __slots__ = ("_endpoints", "_order", "bell_row", "cells", "length", "order", "rung", "turn_row")

    def __init__(self, state: GroupState, rung: int, endpoints: Sequence[Endpoint], order: list[int]) -> None:
        self.cells = state.cells
        self.bell_row = state.bell_row
        self.turn_row = state.turn_row
        self.rung = rung
        self._endpoints = endpoints
        self._order = order
        self.length = len(order)
        shift = self.length - first_turn(rung) % self.length
        self.order = [endpoints[place] for place in (*order[shift:], *order[:shift])]

    def take(self) -> Endpoint:
        """Take the next turn. Of two that take one at the same time, both may get the same."""
        turn = self.cells[self.turn_row]
        self.cells[self.turn_row] = turn + 1
        return self.order[turn % self.length]

    def end(self, turns: int) -> None:
        """Bring the endpoints to where so many turns have led them; the bell must be rung then."""
        taken = turns % self.length
        total = sum(endpoint.weight for endpoint in self._endpoints)
        for endpoint in self._endpoints:
            endpoint.move(taken * endpoint.weight)
        for place in self._order[:taken]:
            self._endpoints[place].move(-total)


def round_length(weights: Sequence[int]) -> int:
    """How many turns a round has."""
    return sum(weights) // gcd(*weights)


def is_foreseeable(weights: Sequence[int]) -> bool:
    """Tell whether a look at a whole round ahead costs little enough. Equal weights need no more than sorting."""
    return round_length(weights) * len(weights) <= MOST_STEPS or len(set(weights)) == 1


def foresee(state: GroupState, rung: int, endpoints: Sequence[Endpoint]) -> Turns | None:
    """Return the turns of these endpoints from where they stand after the ring `rung`; None while they do not repeat.

    Nothing is changed.
    """
    if any(endpoint.common[endpoint.row + LACK] for endpoint in endpoints):
        return None
    weights = [endpoint.weight for endpoint in endpoints]
    starts = [endpoint.current for endpoint in endpoints]
    order = order_of(weights, starts)
    return None if order is None else Turns(state, rung, endpoints, order)


def order_of(weights: list[int], starts: list[int]) -> list[int] | None:
    """Return the places of one round's turns, None if endpoints that begin at `starts` are not there again after it."""
    if len(set(weights)) == 1:
        # All rise alike, so the highest is next, and is the lowest then: they come in order.
        if max(starts) - min(starts) >= sum(weights):
            return None
        return sorted(range(len(weights)), key=lambda place: -starts[place])
    currents = starts.copy()
    turns = _turns_of(weights, currents)
    order = [next(turns) for _ in range(round_length(weights))]
    return order if currents == starts else None


def _turns_of(weights: list[int], currents: list[int]) -> Iterator[int]:
    """Move `currents` on turn by turn, all weights being in force, and yield whose turn it is: see `take_turns`."""
    total = sum(weights)
    while True:
        currents[:] = map(add, currents, weights)
        best = currents.index(max(currents))
        currents[best] -= total
        yield best
