"""The vectors against a bare group: it picks as nginx was seen to (`tests/integration/test_nginx_vectors.py`)."""

from __future__ import annotations

import pytest

from tests.support.group_driver import GroupDriver
from tests.support.peers import Plane
from tests.support.vectors import CASE_NAMES, CASES, Vector, play


@pytest.mark.parametrize(("vector", "plane"), CASES, ids=CASE_NAMES)
def test_a_group_picks_as_nginx_does(vector: Vector, plane: Plane) -> None:
    assert play(vector, GroupDriver(vector, plane)) == vector.expected(plane)
