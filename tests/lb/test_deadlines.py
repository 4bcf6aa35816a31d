"""Deadlines on a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from lb.deadlines import NEVER, Deadlines, Timed

TICK = 1.0


class Timer:
    """What the clock's `call_later` returns."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """As much of an event loop as deadlines need; time moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.errors: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        """Let time pass and timers fire on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.waiting() if timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = end


class Connection:
    """Notes when its deadline came, and does what the test wants then."""

    def __init__(self, clock: Clock, then: Callable[[], object] = lambda: None) -> None:
        self.deadline = NEVER
        self.filed = NEVER
        self.bucket: set[Timed] | None = None
        self.calls: list[float] = []
        self._clock = clock
        self._then = then

    def on_deadline(self) -> None:
        self.calls.append(self._clock.now)
        self._then()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadlines(clock: Clock) -> Deadlines:
    return Deadlines(cast(asyncio.AbstractEventLoop, clock), TICK)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.999, 1, 1.5, 2, 59.9, 60, 3600])
def test_a_deadline_comes_once_never_early_and_at_most_two_ticks_late(
    clock: Clock, deadlines: Deadlines, seconds: float
) -> None:
    clock.advance(0.3)
    connection = Connection(clock)
    due = clock.now + seconds
    deadlines.set(connection, seconds)
    clock.advance(seconds + 10)
    assert len(connection.calls) == 1
    assert due <= connection.calls[0] <= due + 2 * TICK
    assert connection.deadline == NEVER


def test_a_deadline_that_moves_away_comes_at_its_new_time(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock)
    for _ in range(20):
        deadlines.set(connection, 5)
        clock.advance(3)
    assert connection.calls == []
    due = clock.now + 2
    clock.advance(10)
    assert len(connection.calls) == 1
    assert due <= connection.calls[0] <= due + 2 * TICK


def test_a_deadline_that_moves_near_comes_at_its_new_time(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock)
    deadlines.set(connection, 60)
    deadlines.set(connection, 2)
    due = clock.now + 2
    clock.advance(100)
    assert len(connection.calls) == 1
    assert due <= connection.calls[0] <= due + 2 * TICK


def test_a_cancelled_deadline_never_comes(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock)
    deadlines.set(connection, 2)
    clock.advance(1)
    deadlines.cancel(connection)
    deadlines.cancel(connection)
    clock.advance(100)
    assert connection.calls == []


def test_a_cancelled_deadline_can_be_set_again(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock)
    deadlines.set(connection, 2)
    deadlines.cancel(connection)
    deadlines.set(connection, 4)
    clock.advance(3.9)
    assert connection.calls == []
    clock.advance(3)
    assert len(connection.calls) == 1


def test_one_timer_serves_all_and_none_runs_when_nothing_waits(clock: Clock, deadlines: Deadlines) -> None:
    connections = [Connection(clock) for _ in range(1000)]
    for number, connection in enumerate(connections):
        deadlines.set(connection, number % 50)
    assert len(clock.waiting()) == 1
    clock.advance(60)
    assert all(len(connection.calls) == 1 for connection in connections)
    assert clock.waiting() == []


def test_it_works_again_after_a_time_without_deadlines(clock: Clock, deadlines: Deadlines) -> None:
    first, second = Connection(clock), Connection(clock)
    deadlines.set(first, 1)
    clock.advance(1_000_000)
    deadlines.set(second, 1)
    due = clock.now + 1
    clock.advance(5)
    assert due <= second.calls[0] <= due + 2 * TICK


def test_a_deadline_set_by_a_deadline_comes_later(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock, lambda: deadlines.set(connection, 0))
    deadlines.set(connection, 0)
    clock.advance(10)
    assert 4 <= len(connection.calls) <= 10
    assert len(set(connection.calls)) == len(connection.calls)


def test_one_deadline_may_cancel_another_that_is_due(clock: Clock, deadlines: Deadlines) -> None:
    def cancel_all() -> None:
        for connection in connections:
            deadlines.cancel(connection)

    connections = [Connection(clock, cancel_all) for _ in range(3)]
    for connection in connections:
        deadlines.set(connection, 1)
    clock.advance(10)
    assert sum(len(connection.calls) for connection in connections) == 1


def test_a_failing_deadline_is_reported_and_stops_no_other(clock: Clock, deadlines: Deadlines) -> None:
    fault = RuntimeError("a fault of one connection")

    def fail() -> None:
        raise fault

    connections = [Connection(clock, fail) for _ in range(3)] + [Connection(clock)]
    for connection in connections:
        deadlines.set(connection, 1)
    later = Connection(clock)
    deadlines.set(later, 5)
    clock.advance(10)
    assert all(len(connection.calls) == 1 for connection in [*connections, later])
    assert [error["exception"] for error in clock.errors] == [fault] * 3


def test_a_stalled_loop_is_caught_up_with(clock: Clock, deadlines: Deadlines) -> None:
    connections = [Connection(clock) for _ in range(5)]
    for number, connection in enumerate(connections):
        deadlines.set(connection, number)
    (timer,) = clock.waiting()
    timer.when = clock.now + 100  # the loop is busy: the timer fires late
    clock.advance(100)
    assert all(len(connection.calls) == 1 for connection in connections)


def test_closing_forgets_everything(clock: Clock, deadlines: Deadlines) -> None:
    connection = Connection(clock)
    deadlines.set(connection, 1)
    deadlines.close()
    assert clock.waiting() == []
    clock.advance(10)
    assert connection.calls == []
    deadlines.set(connection, 1)  # and it can be used again
    clock.advance(10)
    assert len(connection.calls) == 1


def test_any_sequence_keeps_the_promise(clock: Clock, deadlines: Deadlines) -> None:
    chance = random.Random(3)
    connections = [Connection(clock) for _ in range(20)]
    due: dict[Connection, float] = {}
    for _ in range(3000):
        connection = chance.choice(connections)
        match chance.randrange(4):
            case 0 | 1:
                seconds = chance.choice([0, 0.5, 1, 2.5, 10, 100])
                deadlines.set(connection, seconds)
                due[connection] = clock.now + seconds
            case 2:
                deadlines.cancel(connection)
                due.pop(connection, None)
            case _:
                clock.advance(chance.random() * 3)
        for called in connections:
            if called.calls:
                when = due.pop(called)
                assert when <= called.calls.pop() <= when + 2 * TICK
                assert not called.calls
        assert all(clock.now <= when + 2 * TICK for when in due.values())
