"""The soak: what failures are put down to, what counts as growth, and that its clients notice what goes wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import clients
from benchmarks.soak.clients import Client, ConnectingClient, EchoClient, HttpClient, Stream, TransferClient
from benchmarks.soak.disturb import Admin, Disturber
from benchmarks.soak.judgement import MIB, Reading, complaints, floors, summary
from benchmarks.soak.ledger import Failure, Ledger
from tests.support.process import free_port, port_open, running, wait_until

ROOT = Path(__file__).parents[1]


def readings(
    seconds: int, resident: Callable[[int], float], files: Callable[[int], int] = lambda _: 300, processes: int = 3
) -> list[Reading]:
    """A reading a second; `resident` is in MiB. For 20 s after each upgrade, every 30 s, everything is there twice."""
    found = []
    for at in range(seconds):
        double = 2 if at >= 30 and at % 30 < 20 else 1
        found.append(Reading(at, int(resident(at) * MIB) * double, files(at) * double, processes * double))
    return found


def healthy() -> Ledger:
    ledger = Ledger(drain_timeout=20)
    ledger.succeed("tcp echo")
    return ledger


def test_two_programs_during_a_drain_are_no_growth() -> None:
    lows = floors(readings(301, resident=lambda _: 100), 30)
    assert [low.at for low in lows] == [30.0 * number for number in range(1, 11)]
    assert {(low.resident, low.files, low.processes) for low in lows} == {(100 * MIB, 300, 3)}
    assert complaints(lows, healthy()) == []


def test_growth_in_the_second_half_alone_is_a_complaint() -> None:
    early = floors(readings(301, resident=lambda at: min(at, 100)), 30)
    assert complaints(early, healthy()) == []
    late = floors(readings(301, resident=lambda at: 60 + max(0, at - 150) * 0.2), 30)
    assert complaints(late, healthy()) == ["memory grew by 28.6 MiB in the second half"]


def test_descriptors_and_processes_left_behind_are_a_complaint() -> None:
    files = floors(readings(301, resident=lambda _: 100, files=lambda at: 300 + at), 30)
    assert complaints(files, healthy()) == ["descriptors grew by 150 in the second half"]
    half = readings(151, resident=lambda _: 100)
    more = [reading._replace(at=reading.at + 150, processes=reading.processes + 1) for reading in half]
    assert complaints(floors(half[:-1] + more, 30), healthy()) == ["processes grew from 3 to 4 in the second half"]


def test_a_short_run_is_judged_by_its_errors_alone() -> None:
    lows = floors(readings(100, resident=lambda at: 50 + at), 30)
    assert complaints(lows, healthy()) == []
    assert floors([], 30) == []
    ledger = healthy()
    ledger.fail(Failure("tcp echo", "reset", 5.0, 5.0))
    assert complaints(lows, ledger) == ["1 errors that no kill and no drain explains"]


def test_a_client_for_which_nothing_goes_well_is_a_complaint() -> None:
    ledger = healthy()
    ledger.kill(5.0)
    ledger.fail(Failure("dns udp", "timed out", 4.0, 6.0))
    assert complaints([], ledger) == ["nothing went well for: dns udp"]


@pytest.mark.parametrize(
    ("began", "ended", "cause"),
    [
        (99.0, 99.9, ""),  # over before the kill
        (99.0, 100.0, "kill"),  # under way
        (100.9, 103.0, "kill"),  # begun while the worker was missing
        (101.1, 101.2, ""),
    ],
)
def test_what_was_under_way_at_a_kill_may_be_lost(began: float, ended: float, cause: str) -> None:
    ledger = Ledger(drain_timeout=20)
    ledger.kill(100.0)
    ledger.fail(Failure("http busy", "reset", began, ended))
    assert [why for _, _, why in ledger.failed] == [cause]
    assert ledger.errors() == (0 if cause else 1)


def test_only_kept_connections_may_end_with_a_drain_and_only_at_its_end() -> None:
    ledger = Ledger(drain_timeout=20)
    ledger.upgrade(100.0)
    ledger.fail(Failure("tcp echo", "closed", 122.0, 122.0), kept=True)
    assert ledger.errors() == 0
    ledger.fail(Failure("tcp echo", "closed", 110.0, 110.0), kept=True)
    ledger.fail(Failure("tcp echo", "closed", 131.0, 131.0), kept=True)
    ledger.fail(Failure("http busy", "closed", 122.0, 122.0))
    assert ledger.errors() == 3
    assert ledger.failures_of("tcp echo", "drain") == {"closed": 1}


def test_the_summary_tells_errors_apart() -> None:
    ledger = healthy()
    ledger.kill(10.0)
    ledger.fail(Failure("tcp echo", "reset", 10.0, 10.1))
    ledger.fail(Failure("tcp echo", "mismatch", 50.0, 50.2))
    ledger.lag("virtual hosts came", 0.020)
    ledger.note("no upgrades")
    ledger.note("no upgrades")
    text = summary(floors(readings(301, resident=lambda _: 100), 30), ledger)
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["resident MiB"][2:] == ["100.0", "100.0", "100.0"]
    assert lines["after seconds"][2:] == ["30", "150", "300"]
    assert lines["tcp echo"][2:] == ["1", "1", "mismatch", "1", "reset", "-"]
    assert lines["echo mismatches"][2:] == ["1"]
    assert lines["virtual hosts came after"][4:6] == ["20", "ms"]
    assert "tcp echo: mismatch, 50.00 - 50.20 s" in text
    assert text.count("note: no upgrades") == 1


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A sample instance: its port and its process."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.soak.instances", str(port)]
    with running(argv, log=tmp_path / "log", env={"PYTHONPATH": str(ROOT)}) as process:
        wait_until(lambda: port_open(port), what="the instance listens")
        yield port, process


def make_clients(ledger: Ledger, port: int) -> list[Client]:
    return [
        HttpClient("busy", ledger, port),
        HttpClient("paced", ledger, port, pause=0.01),
        EchoClient("echo", ledger, port, pause=0.01),
        EchoClient("tunnel", ledger, port, pause=0.01, tunnel=True),
        TransferClient("transfer", ledger, port),
    ]


async def work_until(tasks: list[Coroutine[Any, Any, None]], done: Callable[[], bool]) -> None:
    """Run until `done`."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        async with asyncio.timeout(30):
            while not done():
                assert not any(task.done() for task in running)
                await asyncio.sleep(0.005)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def test_clients_find_nothing_wrong_with_a_good_server_and_notice_that_it_dies(
    instance: tuple[int, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PIECE_PAUSE", 0.0)
    port, process = instance
    ledger = Ledger(drain_timeout=20)
    names = {client.name for client in make_clients(ledger, port)}

    async def scenario() -> None:
        tasks = [client.run() for client in make_clients(ledger, port)]

        def killed_and_noticed() -> bool:
            if process.poll() is None:
                if set(ledger.done) == names and not ledger.failed:
                    process.kill()
                return False
            return {client for client, kind, _ in ledger.failed if kind == "refused"} == names

        await work_until(tasks, killed_and_noticed)

    asyncio.run(scenario())
    lost = {kind for client, kind, _ in ledger.failed if client in ("echo", "tunnel")}
    assert lost & {"closed", "reset"}


def test_a_connection_that_is_not_closed_after_the_reply_is_noticed(
    instance: tuple[int, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PATIENCE", 0.2)
    ledger = Ledger(drain_timeout=20)
    asyncio.run(work_until([ConnectingClient("new", ledger, instance[0], 0.0).run()], lambda: ledger.errors() > 0))
    assert ledger.failures_of("new", "") == {"not closed": 1}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "status 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n/own", "mismatch"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n/o", "closed"),
        (b"", "closed"),
    ],
)
def test_wrong_replies_are_failures(reply: bytes, kind: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def scenario() -> Ledger:
        ledger = Ledger(drain_timeout=20)
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await work_until([HttpClient("http", ledger, port).run()], lambda: ledger.errors() > 0)
        return ledger

    assert asyncio.run(scenario()).failures_of("http", "") == {kind: 1}


def test_an_echo_that_comes_back_changed_is_a_mismatch() -> None:
    async def change(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data.swapcase().replace(b"0", b"1"))

    async def scenario() -> Ledger:
        ledger = Ledger(drain_timeout=20)
        server = await asyncio.start_server(change, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await work_until([EchoClient("echo", ledger, port, 1.0).run()], lambda: ledger.errors() > 0)
        return ledger

    assert set(asyncio.run(scenario()).failures_of("echo", "")) == {"mismatch"}


class StandIn(Admin):
    """A supervisor with one worker, a process that does nothing; it is replaced or not."""

    def __init__(self, *, replaces: bool) -> None:
        super().__init__(0)
        self.replaces = replaces
        self.process = self._start()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    async def status(self) -> dict[str, Any]:
        if self.replaces and self.process.poll() is not None:
            self.process = self._start()
        return {"pid": self.process.pid, "workers": [{"number": 0, "pid": self.process.pid}]}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("replaces", [True, False])
def test_a_killed_worker_must_be_replaced(replaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.soak.disturb.TAKEOVER_PATIENCE", 1.5)
    ledger = Ledger(drain_timeout=20)
    admin = StandIn(replaces=replaces)
    try:
        first = admin.process
        asyncio.run(Disturber(admin, ledger).kill())
        assert first.poll() == -signal.SIGKILL
    finally:
        admin.stop()
    assert ledger.kills == 1
    assert ledger.failures_of("supervisor", "") == ({} if replaces else {"replaced late": 1})


@pytest.mark.parametrize("replaces", [True, False])
def test_an_upgrade_must_change_who_has_the_say(replaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.soak.disturb.TAKEOVER_PATIENCE", 0.5)
    ledger = Ledger(drain_timeout=20)
    admin = StandIn(replaces=replaces)
    try:
        asyncio.run(Disturber(admin, ledger).upgrade())
    finally:
        admin.stop()
    assert ledger.upgrades == 1
    assert ledger.failures_of("supervisor", "") == ({} if replaces else {"no takeover": 1})


def test_a_program_that_names_no_processes_is_left_alone() -> None:
    class Silent(Admin):
        async def status(self) -> dict[str, Any]:
            return {}

    ledger = Ledger(drain_timeout=20)
    disturber = Disturber(Silent(0), ledger)
    asyncio.run(disturber.kill())
    asyncio.run(disturber.upgrade())
    assert (ledger.kills, ledger.upgrades, ledger.errors()) == (0, 0, 0)
    assert len(ledger.notes) == 2


def test_an_idle_connection_tells_at_once_that_it_was_closed() -> None:
    async def close_soon(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def scenario() -> tuple[bool, bool]:
        server = await asyncio.start_server(close_soon, "127.0.0.1", 0)
        async with server:
            with await Stream().open(server.sockets[0].getsockname()[1]) as stream:
                before = await stream.idle(0.01)
                stream.send(b"x")
                return before, await stream.idle(10.0)

    assert asyncio.run(scenario()) == (True, False)
