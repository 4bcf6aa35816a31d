"""Plays a vector's script on a bare `Group`, as a proxy with nginx's rules for retries uses it.

Or on the groups of several workers: each request comes to the next worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group, Outcome
from lb.routing.options import EndpointOptions
from tests.lb.balance.workers import Workers
from tests.support.peers import Behaviour, Plane
from tests.support.vectors import CLIENT, Vector

FAILURES: dict[Plane, dict[Behaviour, int]] = {
    "http": {"close": 502, "reset": 502, "refuse": 502, "hang": 504, "stall": 504},
    "tcp": {"refuse": 502, "stall": 504},
}
INVISIBLE: frozenset[Behaviour] = frozenset({"refuse", "stall"})


class GroupDriver:
    """The groups of a vector's peers, a clock, and what the peers would do."""

    def __init__(self, vector: Vector, plane: Plane, workers: Workers | None = None) -> None:
        self._plane = plane
        self._behaviours: dict[str, Behaviour] = dict.fromkeys(vector.weights, "answer")
        self._held: dict[str, list[tuple[Group, Endpoint]]] = {name: [] for name in vector.weights}
        self._now = 1_000_000
        specs = [
            EndpointOptions(
                ("node", name, name, 80),
                name,
                80,
                weight=weight,
                max_fails=vector.max_fails,
                fail_timeout=vector.fail_timeout,
                max_conns=vector.max_conns,
            )
            for name, weight in vector.weights.items()
        ]
        if workers is None:
            group = Group(vector.name)
            group.reconcile(specs, vector.policy)
            self._groups: Iterator[Group] = cycle([group])
        else:
            workers.reconcile(specs, vector.policy)
            self._groups = cycle(workers.groups)

    def ask(self, client: str) -> str:
        group = next(self._groups)
        endpoint, trace = self._attempts(group, client)
        if endpoint is not None:
            group.release(endpoint, Outcome.SUCCESS, self._now)
        return trace

    def hold(self) -> str:
        group = next(self._groups)
        endpoint, trace = self._attempts(group, CLIENT)
        if endpoint is not None:
            self._held[endpoint.host].append((group, endpoint))
        return trace

    def end(self, peer: str) -> None:
        for group, endpoint in self._held[peer]:
            group.release(endpoint, Outcome.SUCCESS, self._now)
        self._held[peer].clear()

    def behave(self, peer: str, behaviour: Behaviour) -> None:
        self._behaviours[peer] = behaviour

    def wait(self, seconds: int) -> None:
        self._now += seconds

    def _attempts(self, group: Group, client: str) -> tuple[Endpoint | None, str]:
        """Try one endpoint after the other; return the one that took the request, and the trace."""
        failures = FAILURES[self._plane]
        tried: set[Endpoint] = set()
        seen = ""
        status = 502
        while (endpoint := group.acquire(tried, self._now, client)) is not None:
            tried.add(endpoint)
            behaviour = self._behaviours[endpoint.host]
            if behaviour not in INVISIBLE:
                seen += endpoint.host
            if behaviour not in failures:
                if self._plane == "tcp":
                    group.credit(endpoint)
                return endpoint, seen if behaviour == "answer" else f"{seen}:eof"
            status = failures[behaviour]
            group.release(endpoint, Outcome.FAILURE, self._now)
        if len(tried) < len(self._behaviours):
            status = 502  # not all were asked: the last word is "no live upstream"
        return None, f"{seen}:{status if self._plane == 'http' else 'eof'}"
