"""The pool of idle connections, with transports that only note what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from lb.deadlines import Deadlines
from lb.settings import UpstreamSettings
from lb.upstream.connection import NOBODY, UpstreamConnection
from lb.upstream.idle import IdlePool


class Transport(asyncio.Transport):
    """Open until it is aborted."""

    aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Handle(asyncio.TimerHandle):
    """Of a timer that is never cancelled here."""

    def __init__(self) -> None:
        """Without a loop."""


class Timer:
    """A loop whose time is set by hand, and whose timers run when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, _delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._due.append(callback)
        return Handle()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self._due = self._due, []
        for callback in due:
            callback()


@pytest.fixture
def timer() -> Timer:
    return Timer()


def pool_of(timer: Timer, **settings: float) -> IdlePool:
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, timer))
    return IdlePool(UpstreamSettings(**settings), deadlines)  # type: ignore[arg-type]


def connection() -> UpstreamConnection:
    one = UpstreamConnection(lambda _: None)
    one.connection_made(Transport())
    one.requests = 1
    return one


def closed(one: UpstreamConnection) -> bool:
    return one.transport.is_closing()


def test_the_last_used_is_taken_first(timer: Timer) -> None:
    pool = pool_of(timer)
    one, two = connection(), connection()
    pool.give(one)
    pool.give(two)
    assert [pool.take(), pool.take(), pool.take()] == [two, one, None]


def test_the_oldest_makes_room(timer: Timer) -> None:
    pool = pool_of(timer, keepalive_connections=2)
    one, two, three = connection(), connection(), connection()
    for each in (one, two, three):
        pool.give(each)
    assert repr(pool) == "<IdlePool 2 idle>"
    assert [closed(each) for each in (one, two, three)] == [True, False, False]


def test_none_is_kept_where_none_may_be(timer: Timer) -> None:
    pool = pool_of(timer, keepalive_connections=0)
    one = connection()
    pool.give(one)
    assert (len(pool), closed(one)) == (0, True)


def test_one_that_was_used_often_enough_is_closed(timer: Timer) -> None:
    pool = pool_of(timer, keepalive_requests=3)
    one = connection()
    one.requests = 2
    pool.give(one)
    assert pool.take() is one
    one.requests = 3
    pool.give(one)
    assert (pool.take(), closed(one)) == (None, True)


def test_idle_time_ends_it_and_starts_anew_with_each_use(timer: Timer) -> None:
    pool = pool_of(timer, keepalive_timeout=10)
    one, two = connection(), connection()
    pool.give(one)
    pool.give(two)
    timer.advance(8)
    assert pool.take() is two
    pool.give(two)
    timer.advance(4)
    assert [closed(one), closed(two)] == [True, False]
    assert pool.take() is two
    timer.advance(60)
    assert not closed(two)


def test_what_an_idle_connection_says_ends_it(timer: Timer) -> None:
    pool = pool_of(timer)
    speaking, ending, lost = connection(), connection(), connection()
    for each in (speaking, ending, lost):
        pool.give(each)
    speaking.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    ending.eof_received()
    lost.connection_lost(ConnectionResetError())
    assert len(pool) == 0
    assert closed(speaking)
    assert closed(ending)


def test_one_that_is_closing_is_neither_taken_nor_kept(timer: Timer) -> None:
    pool = pool_of(timer)
    one, two = connection(), connection()
    pool.give(one)
    one.abort()
    assert pool.take() is None
    two.abort()
    pool.give(two)
    assert len(pool) == 0


def test_one_whose_instance_has_said_all_is_not_kept(timer: Timer) -> None:
    pool = pool_of(timer)
    one = connection()
    one.eof_received()
    pool.give(one)
    assert (len(pool), closed(one)) == (0, True)


def test_closed_pool_closes_what_it_has_and_what_it_gets(timer: Timer) -> None:
    pool = pool_of(timer)
    idle, busy = connection(), connection()
    pool.give(idle)
    pool.close()
    pool.give(busy)
    assert closed(idle)
    assert closed(busy)
    assert repr(pool) == "<IdlePool 0 idle, closed>"


def test_dismissed_connection_tells_nobody_any_more(timer: Timer) -> None:
    pool = pool_of(timer)
    one = connection()
    pool.dismiss(one)
    assert one.user is NOBODY
    one.data_received(b"late")
    one.pause_writing()
    one.resume_writing()
    one.eof_received()
    one.connection_lost(None)
    assert len(pool) == 0


def test_room_is_made_by_what_has_been_idle_for_longest_in_each_of_all_pools(timer: Timer) -> None:
    pools: list[IdlePool] = []
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, timer))
    for _ in range(18):
        pools.append(IdlePool(UpstreamSettings(), deadlines, pools))
    kept: dict[IdlePool, list[UpstreamConnection]] = {pool: [] for pool in pools}
    for _ in range(2):
        for pool in pools[:17]:
            kept[pool].append(one := connection())
            pool.give(one)
            timer.now += 0.001
    # Asked through one that has nothing itself; sixteen give something, the youngest of seventeen does not.
    assert pools[17].make_room()
    assert [[one.transport.is_closing() for one in kept[pool]] for pool in pools] == [[True, False]] * 16 + [
        [False, False],
        [],
    ]
    assert pools[17].make_room()
    assert [len(pool) for pool in pools] == [0] * 15 + [1, 1, 0]
    assert pools[17].make_room()
    assert not any(pools)
    assert not pools[17].make_room()
