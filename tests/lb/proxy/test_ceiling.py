"""The bound on clients: who makes room, when the doors shut, and when they open again."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from lb.deadlines import NEVER
from lb.proxy.ceiling import Ceiling, Seldom, descriptor_limit
from lb.proxy.http_session import HttpSession
from tests.support.edge import eventually, get, scenario, web


@dataclass(eq=False)
class FakeDoor:
    """A listener whose queue has clients: open, it lets one in for each `knock`."""

    open: bool = True
    calls: list[str] = field(default_factory=list)

    def pause(self) -> None:
        self.open = False
        self.calls.append("pause")

    def resume(self) -> None:
        self.open = True
        self.calls.append("resume")


@dataclass(eq=False)
class FakeClient:
    """A client that has been silent since a time; it may have `spoken` a moment ago, unheard."""

    crowd: set[FakeClient]
    silent_since: float = NEVER
    spoken: bool = False

    def close_silent(self) -> bool:
        assert self.silent_since < NEVER
        if not self.spoken:
            self.crowd.discard(self)
        return not self.spoken


class House:
    """A ceiling over two doors and two crowds."""

    def __init__(self, limit: int) -> None:
        self.doors = [FakeDoor(), FakeDoor()]
        self.crowds: list[set[FakeClient]] = [set(), set()]
        self.instances = 0
        self.ceiling = Ceiling(
            asyncio.get_running_loop(), limit, lambda: self.doors, lambda: self.crowds, lambda: self.instances
        )

    @property
    def count(self) -> int:
        return sum(len(crowd) for crowd in self.crowds)

    async def come(self, count: int, *, silent_since: float = NEVER, spoken: bool = False) -> list[FakeClient]:
        """Let clients in, one in a turn of the loop, as long as the doors are open."""
        came = []
        for number in range(count):
            if self.doors[0].open:
                crowd = self.crowds[number % 2]
                self.ceiling.admit()
                crowd.add(client := FakeClient(crowd, silent_since, spoken))
                came.append(client)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        return came

    def leave(self, *clients: FakeClient) -> None:
        for client in clients:
            client.crowd.discard(client)

    async def opened(self) -> None:
        """Wait until the doors are open."""
        await eventually(lambda: all(door.open for door in self.doors), "the doors open")


@scenario
async def test_below_the_limit_nothing_happens() -> None:
    house = House(100)
    assert len(await house.come(90)) == 90
    assert (house.ceiling.pauses, house.ceiling.shed, house.ceiling.paused) == (0, 0, False)
    assert [door.calls for door in house.doors] == [[], []]


@scenario
async def test_at_the_limit_all_doors_shut_and_open_when_there_is_room_again() -> None:
    house = House(100)
    busy = await house.come(1000)
    assert 100 <= len(busy) <= 102
    assert (house.ceiling.pauses, house.ceiling.paused) == (1, True)
    assert [door.calls for door in house.doors] == [["pause"], ["pause"]]
    house.leave(*busy[:4])
    await asyncio.sleep(0.1)
    assert house.ceiling.paused  # one who leaves is not yet room
    house.leave(*busy[4:12])
    await house.opened()
    assert not house.ceiling.paused
    assert await house.come(1000)
    assert (house.ceiling.pauses, house.ceiling.paused) == (2, True)
    house.ceiling.close()


@scenario
async def test_the_limit_holds_however_clients_come_and_go() -> None:
    house = House(40)
    for _ in range(30):
        came = await house.come(25)
        assert house.count <= 42
        house.leave(*came[::2])
        if not house.doors[0].open:
            house.leave(*[client for crowd in house.crowds for client in list(crowd)][:20])
            await house.opened()
    assert house.ceiling.pauses
    house.ceiling.close()


@pytest.mark.parametrize("limit", [1, 2, 5])
@scenario
async def test_the_smallest_limits_let_somebody_in(limit: int) -> None:
    house = House(limit)
    for _ in range(5):
        came = await house.come(10)
        assert limit <= len(came) <= limit + 2
        house.leave(*came)
        await house.opened()
    house.ceiling.close()


@scenario
async def test_those_who_have_been_silent_for_longest_make_room_until_all_are_busy() -> None:
    house = House(160)
    recent = await house.come(70, silent_since=200.0)
    old = await house.come(10, silent_since=100.0)
    busy: list[FakeClient] = []
    while len(busy) < 90:
        busy += await house.come(10)
        await house.opened()
    assert house.ceiling.shed == 80 - sum(client in client.crowd for client in recent + old)
    assert not any(client in client.crowd for client in old)
    assert any(client in client.crowd for client in recent)
    while len(busy) < 150:
        busy += await house.come(1)
        await house.opened()
    assert not any(client in client.crowd for client in recent)
    assert all(client in client.crowd for client in busy)


@scenario
async def test_a_few_at_a_time_make_room() -> None:
    house = House(160)
    assert len(await house.come(155, silent_since=1.0)) == 155
    assert 0 < house.ceiling.shed <= 10
    assert not house.ceiling.paused


@scenario
async def test_whose_request_has_just_come_is_not_closed() -> None:
    house = House(32)
    spoken = await house.come(100, silent_since=1.0, spoken=True)
    assert house.ceiling.paused
    assert house.ceiling.shed == 0
    assert all(client in client.crowd for client in spoken)
    house.ceiling.close()


@scenario
async def test_closed_it_leaves_the_doors_alone() -> None:
    house = House(10)
    busy = await house.come(20)
    assert house.ceiling.paused
    house.ceiling.close()
    house.leave(*busy)
    await asyncio.sleep(0.1)
    assert not any(door.open for door in house.doors)
    for door in house.doors:
        door.open = True
    await house.come(30)
    assert [door.calls for door in house.doors] == [["pause"], ["pause"]]


@scenario
async def test_it_is_said_once_in_a_while_with_the_limits(caplog: pytest.LogCaptureFixture) -> None:
    house = House(10)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            house.leave(*await house.come(20))
            await house.opened()
    record, over = caplog.records
    assert (record.levelno, over.getMessage()) == (logging.ERROR, "connections are accepted again")
    assert record.__dict__["edge_fields"]["limit"] == 10
    assert record.__dict__["edge_fields"]["descriptors"] == descriptor_limit()
    assert house.ceiling.pauses == 3


def test_what_may_be_said_seldom_is_due_again_later() -> None:
    seldom = Seldom()
    assert [seldom.due(now) for now in (5.0, 5.1, 14.9, 15.0, 15.1)] == [True, False, False, True, False]


@scenario
async def test_connections_to_instances_take_descriptors_too() -> None:
    house = House(16)
    house.instances = 8
    await house.come(7)
    assert not house.ceiling.paused
    await house.come(1)
    assert house.ceiling.paused
    house.instances = 0
    await house.opened()


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = "from lb.proxy.ceiling import *; print(descriptor_limit(), raise_limit(), descriptor_limit(), raise_limit())"

    def low() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=low, capture_output=True, text=True, check=True)
    assert done.stdout == "100 200 200 200\n"


@scenario
async def test_http_clients_tell_since_when_they_are_silent_and_may_be_closed() -> None:
    async with web() as (edge_, _):
        assert edge_.plane._http is not None
        (context,) = edge_.plane._http._contexts
        loop = asyncio.get_running_loop()
        fresh, idle, partial = [await edge_.client() for _ in range(3)]
        await eventually(lambda: len(context.sessions) == 3, "they are accepted")
        await idle.ask(get())
        await partial.send(get()[:10])
        await asyncio.sleep(0.05)
        since = sorted(session.silent_since for session in context.sessions)
        assert since[2] == NEVER
        assert loop.time() - 1 < since[0] < since[1] < loop.time()
        for session in list(context.sessions):
            if session.silent_since < NEVER:
                assert session.close_silent()
        assert (await fresh.rest(), await idle.rest()) == (b"", b"")
        await partial.send(get()[10:])
        assert (await partial.reply()).status == 200


@scenario
async def test_a_request_that_is_here_already_is_served_before_its_connection_is_closed() -> None:
    async with web() as (edge_, _):
        assert edge_.plane._http is not None
        (context,) = edge_.plane._http._contexts
        client = await edge_.client()
        await client.ask(get())
        (session,) = context.sessions
        assert isinstance(session, HttpSession)
        # Both without a turn of the loop in between: the octets are in the kernel, and nobody has read them.
        os.write(client.writer.get_extra_info("socket").fileno(), get())
        assert not session.close_silent()
        assert (await client.reply()).status == 200
        assert session.close_silent()
        assert await client.rest() == b""
