"""A crew of real worker processes: started, replaced, killed when they hang, drained."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lb.board.area import Board
from lb.board.ledger import Ledger
from lb.settings import AccessLogSettings, Address, HttpSettings, Settings
from lb.sockets import Place, SharedSockets, listen
from lb.workers import crew as module
from lb.workers import member as members
from lb.workers.crew import CannotWork, Crew
from lb.workers.member import Member

PLACE = Place("http", Address("127.0.0.1", 0))


def settings(workers: int = 2, **changes: Any) -> Settings:
    """A node that balances HTTP and nothing else."""
    return Settings(
        **{"http": HttpSettings(listen=(PLACE.address,)), "tcp": None, "dns": None, "workers": workers, **changes}
    )


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


@contextlib.asynccontextmanager
async def serving(given: Settings | None = None) -> AsyncIterator[tuple[Crew, Address]]:
    """A crew that serves on one address, and is drained at the end."""
    given = given or settings()
    board = Board.create(4 * given.workers, 1024)
    crew = Crew(given, board, Ledger(board))
    socks = listen(PLACE, given.workers)
    shared = SharedSockets(Place("http", Address(*socks[0].getsockname())), socks)
    try:
        await crew.start([shared])
        yield crew, shared.place.address
    finally:
        shared.close()
        for member in crew.members.values():
            os.kill(member.pid, signal.SIGCONT)
        await crew.drain(0.0)


async def until(probe: Callable[[], object]) -> None:
    """Wait until the probe is true."""
    while not probe():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def answers(address: Address) -> bool:
    """Tell whether a request is answered."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 404")


def replaced(crew: Crew, member: Member) -> bool:
    return crew.serving and len(crew.members) == crew.size and crew.members[member.number] is not member


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, object]]:
    """The fields of the messages with this text."""
    return [record.__dict__["edge_fields"] for record in caplog.records if record.getMessage() == text]


# Workers that hang


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(module, "HANG_TIMEOUT", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_hangs_is_killed_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as (crew, address):
            victim, other = crew.members[0], crew.members[1]
            os.kill(victim.pid, signal.SIGSTOP)
            await until(lambda: replaced(crew, victim))
            assert crew.members[1] is other, "who answers is left alone"
            assert crew.restarts == 1
            for _ in range(10):
                assert await answers(address)
            (told,) = messages(caplog, "worker hangs and is killed")
            assert (told["worker"], told["pid"]) == (0, victim.pid)

    run(test)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_only_rests_is_left_alone() -> None:
    async def test() -> None:
        async with serving() as (crew, _):
            before = dict(crew.members)
            os.kill(before[0].pid, signal.SIGSTOP)
            await asyncio.sleep(0.3)
            os.kill(before[0].pid, signal.SIGCONT)
            await asyncio.sleep(1.0)
            assert crew.members == before

    run(test)


@pytest.mark.usefixtures("impatient")
def test_a_supervisor_that_was_stopped_itself_blames_no_worker() -> None:
    async def test() -> None:
        async with serving() as (crew, _):
            before = dict(crew.members)
            time.sleep(1.5)  # noqa: ASYNC251  the loop stands still, as after SIGSTOP
            await asyncio.sleep(0.5)
            assert crew.members == before

    run(test)


# Workers that die


def test_a_worker_that_dies_at_once_is_replaced_after_a_growing_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_FIRST", 0.05)
    starts: list[float] = []

    class Timed(Member):
        def __init__(self, *given: Any) -> None:
            starts.append(time.monotonic())
            super().__init__(*given)

    async def test() -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        given = settings(1, access_log=AccessLogSettings(path=str(folder / "access.log")))
        async with serving(given) as (crew, address):
            monkeypatch.setattr(module, "Member", Timed)
            moved = folder.rename(tmp_path / "moved")  # without it no worker can start
            crew.members[0].kill()
            await until(lambda: len(starts) == 4)
            moved.rename(folder)
            await until(lambda: crew.serving)
            assert await answers(address)
            assert crew.restarts == len(starts)

    run(test)
    pauses = [second - first for first, second in itertools.pairwise(starts)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=False):
        assert pause >= least


def test_a_worker_that_cannot_be_started_is_told_of_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RESTART_LONGEST", 0.05)
    spawn, refusals = members._spawn, [OSError(11, "Resource temporarily unavailable")] * 3

    def refuse(*given: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return spawn(*given)

    async def test() -> None:
        async with serving() as (crew, address):
            monkeypatch.setattr(members, "_spawn", refuse)
            victim = crew.members[1]
            victim.kill()
            await until(lambda: replaced(crew, victim))
            assert refusals == []
            for _ in range(10):
                assert await answers(address)
        told = messages(caplog, "worker cannot be started")
        assert [(each["worker"], each["reason"]) for each in told] == [
            (1, "[Errno 11] Resource temporarily unavailable")
        ] * 3

    run(test)


def test_workers_that_cannot_serve_at_all_are_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        given = settings(access_log=AccessLogSettings(path=str(tmp_path / "nowhere" / "access.log")))
        with pytest.raises(CannotWork, match=r"worker \d ended with status 1 at its start"):
            async with serving(given):
                pass

    run(test)


def test_a_worker_is_not_started_twice_when_an_upgrade_fails_as_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was to be replaced in a moment when its program wanted to leave; then it stays, and replaces it itself."""
    monkeypatch.setattr(module, "RESTART_FIRST", 0.2)
    started: list[Member] = []

    class Noted(Member):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            started.append(self)

    async def test() -> None:
        async with serving() as (crew, _):
            monkeypatch.setattr(module, "Member", Noted)
            victim = crew.members[0]
            victim.kill()
            await until(lambda: 0 not in crew.members)
            crew.hand_over()
            crew.take_back()
            await until(lambda: replaced(crew, victim))
            await asyncio.sleep(0.4)
            assert started == [crew.members[0]]

    run(test)


# Asking and ending


def test_a_report_of_a_worker_that_dies_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_TIMEOUT", 15.0)

    async def test() -> None:
        async with serving() as (crew, _):
            os.kill(crew.members[0].pid, signal.SIGSTOP)
            asked = asyncio.ensure_future(crew.refresh())
            await asyncio.sleep(0.1)
            assert not asked.done(), "it hangs: an answer may still come"
            crew.members[0].kill()
            async with asyncio.timeout(5):
                await asked
                await crew.refresh()  # it is dead, and nobody has taken its place yet

    run(test)


def test_a_worker_that_does_not_answer_holds_a_report_up_for_a_moment_only() -> None:
    async def test() -> None:
        async with serving() as (crew, _):
            os.kill(crew.members[0].pid, signal.SIGSTOP)
            start = time.monotonic()
            await crew.refresh()
            assert module.REPORT_TIMEOUT <= time.monotonic() - start < module.REPORT_TIMEOUT + 2

    run(test)


def test_a_worker_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "KILL_AFTER", 0.2)

    async def test() -> None:
        async with serving() as (crew, _):
            stopped = crew.members[0].pid
            os.kill(stopped, signal.SIGSTOP)
            async with asyncio.timeout(5):
                await crew.drain(0.1)
            assert crew.members == {}
            (told,) = messages(caplog, "worker does not end and is killed")
            assert told["pid"] == stopped

    run(test)
