"""The vectors against bare groups: they pick as nginx was seen to (`tests/integration/test_nginx_vectors.py`)."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.lb.balance.workers import Workers
from tests.support.group_driver import GroupDriver
from tests.support.peers import Plane
from tests.support.vectors import CASE_NAMES, CASES, Ask, Behave, Hold, Vector, play

WORKERS = 4


@pytest.mark.parametrize(("vector", "plane"), CASES, ids=CASE_NAMES)
def test_a_group_picks_as_nginx_does(vector: Vector, plane: Plane) -> None:
    assert play(vector, GroupDriver(vector, plane)) == vector.expected(plane)


@pytest.mark.parametrize(("vector", "plane"), CASES, ids=CASE_NAMES)
def test_four_workers_pick_as_nginx_does(vector: Vector, plane: Plane) -> None:
    with Workers(WORKERS) as workers:
        assert play(vector, GroupDriver(vector, plane, workers)) == vector.expected(plane)


def counts(vector: Vector, plane: Plane) -> Counter[str]:
    """Play a vector over four workers and count which peer ended how many requests."""
    with Workers(WORKERS) as workers:
        return Counter(each[-1] for each in play(vector, GroupDriver(vector, plane, workers)))


TWO = {"a": 1, "b": 1}


def test_thirty_requests_are_balanced_over_four_workers() -> None:
    assert counts(Vector("balanced", TWO, (Ask(30),), ""), "http") == {"a": 15, "b": 15}


def test_three_failures_in_all_are_enough_for_all_workers() -> None:
    with Workers(WORKERS) as workers:
        vector = Vector("failing", TWO, (Behave("b", "close"), Ask(30)), "")
        attempts = Counter("".join(play(vector, GroupDriver(vector, "http", workers))))
    assert attempts == {"a": 30, "b": 3}


def test_four_workers_balance_connections_as_one() -> None:
    assert counts(Vector("idle", TWO, (Hold(10),), "", policy="least_conn"), "tcp") == {"a": 5, "b": 5}


def test_four_workers_spare_the_busy_one() -> None:
    vector = Vector("busy", TWO, (Hold(1), Ask(10)), "", policy="least_conn")
    assert counts(vector, "tcp") == {"a": 1, "b": 10}
