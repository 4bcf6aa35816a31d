"""Smooth weighted round robin, known in advance.

As long as no endpoint fails and every weight is in force in full, the picks repeat: in as many turns as the weights
sum to, the weights of the group are back where they were. Then a turn is one look into a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from lb.balance.endpoint import Endpoint
from lb.balance.policies import take_turns

LONGEST = 1024
"""Turns in a round; a group whose round is longer is left to `take_turns`."""


class Turns:
    """One round of a group's turns, over and over: the picks that `take_turns` would make.

    `order` is the round, `place` the next turn in it. `end` brings the endpoints to where the turns have led them.
    """

    __slots__ = ("_endpoints", "_start", "order", "place")

    def __init__(self, endpoints: Sequence[Endpoint], start: list[int], order: list[Endpoint]) -> None:
        self._endpoints = endpoints
        self._start = start
        self.order = order
        self.place = 0

    def end(self) -> None:
        """Leave it to `take_turns` again."""
        for endpoint, current in zip(self._endpoints, self._start, strict=True):
            endpoint.current = current
        for _ in range(self.place):
            take_turns(self._endpoints)


def round_length(endpoints: Sequence[Endpoint]) -> int:
    """How many turns a round has."""
    return sum(endpoint.weight for endpoint in endpoints) // gcd(*(endpoint.weight for endpoint in endpoints))


def foresee(endpoints: Sequence[Endpoint]) -> Turns | None:
    """Return the turns of these endpoints from where they stand now, or None while they do not repeat."""
    if any(endpoint.effective != endpoint.weight for endpoint in endpoints):
        return None
    length = round_length(endpoints)
    if length > LONGEST:
        return None
    start = [endpoint.current for endpoint in endpoints]
    order = [take_turns(endpoints) for _ in range(length)]
    if [endpoint.current for endpoint in endpoints] == start:
        return Turns(endpoints, start, order)
    for endpoint, current in zip(endpoints, start, strict=True):
        endpoint.current = current
    return None
