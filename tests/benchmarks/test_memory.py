"""What peers hold in memory: the figures, the changes made meanwhile, the clients."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.macro.changes import SERVICES, STEPS, Change, catalog_changes
from benchmarks.macro.markdown import to_markdown
from benchmarks.macro.memory import Endurance, IdleClients, Reading, reading_points
from benchmarks.macro.processes import Program
from benchmarks.macro.report import to_json
from benchmarks.macro.site import SERVICE, SMALL_REPLY
from tests.benchmarks.examples import report, row


def test_memory_of_idle_clients_is_told_for_each_of_them() -> None:
    results = [
        IdleClients(
            "idle-clients", "consul-edge", clients=1000, before=50 << 20, after=(50 << 20) + (1500 << 10), errors=0
        ),
        IdleClients(
            "idle-clients", "nginx-tuned", clients=1000, before=20 << 20, after=(20 << 20) + (500 << 10), errors=2
        ),
    ]
    table = to_markdown(report([], [], results))
    assert row(table, "| **consul-edge** | 1,000")[-3:] == ["1.50", "0", "3.00"]
    assert row(table, "| nginx-tuned | 1,000")[-3:] == ["0.50", "2", "1.00"]
    assert "idle-clients" in table
    assert "`endurance`" not in table


def test_idle_pairs_are_beside_those_of_the_stream_module() -> None:
    results = [
        IdleClients("idle-pairs", "consul-edge", clients=100, before=0, after=600 << 10, errors=0),
        IdleClients("idle-pairs", "nginx-stream", clients=100, before=0, after=200 << 10, errors=0),
        IdleClients("idle-clients", "nginx-tuned", clients=100, before=0, after=50 << 10, errors=0),
    ]
    table = to_markdown(report([], [], results))
    assert row(table, "| **consul-edge** | 100")[-3:] == ["6.00", "0", "3.00"]
    assert row(table, "| nginx-tuned | 100")[-1] == "1.00"


def test_memory_under_endurance_is_told_from_the_warm_up_on() -> None:
    resident = [40_000, 50_000, 51_000, 51_500]
    readings = [Reading(n * 50, n * 5, kibibytes << 10) for n, kibibytes in enumerate(resident)]
    result = Endurance("consul-edge", readings, seconds=9.0, errors=1, lag=0.012)
    assert (result.growth, result.late_growth) == (1500 << 10, 500 << 10)
    table = to_markdown(report([], [], [result]))
    assert "+1,500 KiB (+3.0%) from the warm-up" in table
    assert "a change at the end took effect after 12 ms" in table
    assert row(table, "| 150 | 15 |")[-1] == "+1,500"
    assert json.loads(to_json(report([], [], [result])))["memory"][0]["readings"][3]["resident"] == 51_500 << 10


def test_memory_is_read_after_the_warm_up_and_at_every_tenth() -> None:
    assert reading_points(2000) == [100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000]


def test_every_change_of_the_catalog_leaves_it_different() -> None:
    """Played against a model of the agent: what is registered with what, and which checks fail."""
    registered: dict[str, Change] = {}
    failing: set[str] = set()
    for change in islice(catalog_changes(origin_port=7000), 3 * SERVICES * STEPS):
        *_, verb, name = change.path.split("/")
        if change.body is not None:
            identity = change.body["ID"]
            assert registered.get(identity) != change
            registered[identity] = change
        elif verb == "deregister":
            del registered[name]
        else:
            assert name.removeprefix("service:") in registered
            assert (name in failing) == (verb == "pass")
            (failing.discard if verb == "pass" else failing.add)(name)
    assert not failing
    assert f"{SERVICE}-0" in registered  # the service that takes the traffic changes, too, and stays
    assert len({name.split("-")[1] for name in registered if name.startswith("changing-")}) == SERVICES


def test_resident_memory_of_a_program_is_read(tmp_path: Path) -> None:
    def resident(mebibytes: int) -> int:
        code = f"import time; held = b'x' * ({mebibytes} << 20); print('ready', flush=True); time.sleep(60)"
        log = tmp_path / str(mebibytes)
        program = Program([sys.executable, "-c", code], log=log, cpus=os.sched_getaffinity(0))
        held.callback(program.stop)
        program.wait_ready(lambda: log.read_text() == "ready\n")
        return program.resident_bytes()

    with ExitStack() as held:
        assert 31 << 20 < resident(32) - resident(0) < 34 << 20


@pytest.fixture
def server() -> Iterator[int]:
    """A server of the benchmark's small reply that ends the connection of every third client after it; its port."""
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL_REPLY)}\r\n\r\n{SMALL_REPLY}".encode()
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as held:

        def serve() -> None:
            with suppress(OSError):
                for number in range(1000):
                    connection, _ = listener.accept()
                    held.callback(connection.close)
                    connection.recv(4096)
                    connection.sendall(reply)
                    if number % 3 == 2:
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_idle_clients_tell_how_many_got_a_reply_and_how_many_stayed(server: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.macro.clients", f"127.0.0.1:{server}", "9"],
        input="", capture_output=True, text=True, timeout=30, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert [json.loads(line)["connected"] for line in done.stdout.splitlines()] == [9, 6]
