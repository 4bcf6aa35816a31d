"""The garbage collector walks over little at a time, and still finds what dies in a circle."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from lb.pauses import THAW_EVERY, ShortPauses


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Circle:
    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock, thresholds = Clock(), gc.get_threshold()
    pauses = ShortPauses(clock)
    yield clock
    pauses.end()
    gc.set_threshold(*thresholds)
    gc.collect()


def test_what_has_survived_once_is_not_walked_over_again(clock: Clock) -> None:
    living = [[number] for number in range(10_000)]
    gc.collect()
    assert not any(each is living[0] for each in gc.get_objects())
    assert len(gc.get_objects()) < 10_000


def test_a_circle_that_is_young_goes_at_once(clock: Clock) -> None:
    dead = weakref.ref(Circle())
    gc.collect()
    assert dead() is None


def test_a_circle_that_dies_when_it_is_old_goes_once_in_a_while(clock: Clock) -> None:
    living = Circle()
    gc.collect()
    dead = weakref.ref(living)
    del living
    clock.now += THAW_EVERY / 2
    gc.collect()
    assert dead() is not None, "it is frozen"
    clock.now += THAW_EVERY / 2
    gc.collect()
    assert dead() is None
