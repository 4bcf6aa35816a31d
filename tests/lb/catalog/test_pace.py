from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.catalog.pace import Backoff, Pace


def test_two_at_once_then_one_per_interval() -> None:
    pace = Pace(10.0, burst=2)
    assert pace.delay(100.0) == 0
    pace.take(100.0)
    assert pace.delay(100.0) == 0
    pace.take(100.0)
    assert pace.delay(100.0) == 10.0
    assert pace.delay(104.0) == 6.0
    pace.take(110.0)
    assert pace.delay(110.0) == 10.0


def test_the_burst_comes_back_with_time() -> None:
    pace = Pace(1.0, burst=3)
    for _ in range(3):
        pace.take(0.0)
    assert pace.delay(3.0) == 0
    for _ in range(3):
        assert pace.delay(3.0) == 0
        pace.take(3.0)
    assert pace.delay(3.0) == 1.0


def test_an_expensive_use_costs_more_than_one_interval() -> None:
    pace = Pace(1.0, burst=2)
    pace.take(0.0, cost=8.0)
    assert pace.delay(0.0) == 7.0


@given(st.lists(st.floats(0, 3), max_size=60))
def test_no_window_sees_more_than_the_burst_and_its_share(gaps: list[float]) -> None:
    pace, now, taken = Pace(1.0, burst=2), 0.0, []
    for gap in gaps:
        now += gap
        now += pace.delay(now)
        pace.take(now)
        taken.append(now)
    for start, first in enumerate(taken):
        for count, last in enumerate(taken[start:], 1):
            assert count <= 2 + (last - first) + 1e-6


def test_delays_double_up_to_the_cap_and_start_again() -> None:
    backoff = Backoff(1.0, 5.0, chance=lambda: 0.0)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 8.0), (0.5, 6.0), (1.0, 4.0)])
def test_jitter_takes_up_to_a_half_off(chance: float, delay: float) -> None:
    assert Backoff(8.0, 60.0, chance=lambda: chance).next() == delay
