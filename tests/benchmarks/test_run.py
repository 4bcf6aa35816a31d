"""Who is measured, in which order, and what is made of it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.macro.__main__ import anonymous
from benchmarks.macro.dnsload import ChangesDnsLoad
from benchmarks.macro.httpload import PacedLoad
from benchmarks.macro.load import Count
from benchmarks.macro.loads import LOADS, PACEMAKER
from benchmarks.macro.markdown import PACED_BASELINES
from benchmarks.macro.memory import make_checks
from benchmarks.macro.peer import Peer
from benchmarks.macro.peers import PEERS
from benchmarks.macro.processes import BenchmarkError, staying_on
from benchmarks.macro.report import BASELINES
from benchmarks.macro.run import Plan, choose, missing_lines, rate, schedule
from tests.benchmarks.examples import BULK, HOT, PACED, SMALL, peer


def test_rounds_are_interleaved_and_begin_with_another_peer_each() -> None:
    peers = [peer("a", "http"), peer("b", "http", "dns"), peer("c", "dns")]
    plan = Plan(peers=peers, loads=[SMALL, HOT], checks=(), rounds=1, seconds=1)
    order = [(number, load.name, peer.name) for number, load, peer in schedule(plan)]
    assert order == [
        (0, "http-small", "b"), (0, "http-small", "a"), (0, "dns-hot", "c"), (0, "dns-hot", "b"),
        (1, "http-small", "a"), (1, "http-small", "b"), (1, "dns-hot", "b"), (1, "dns-hot", "c"),
    ]  # fmt: skip


def test_peers_and_loads_may_name_those_they_fit() -> None:
    peers = [peer("consul-edge", "http"), peer("other", "http"), peer("log", "http", loads=frozenset({"http-small"}))]
    plan = Plan(peers=peers, loads=[SMALL, BULK, PACED], checks=(), rounds=1, seconds=1)
    order = [(load.name, peer.name) for number, load, peer in schedule(plan) if number]
    assert order == [
        ("http-small", "consul-edge"), ("http-small", "other"), ("http-small", "log"),
        ("http-bulk", "consul-edge"), ("http-bulk", "other"),
        ("http-paced", "consul-edge"),
    ]  # fmt: skip


def test_only_chooses_peers_loads_checks_or_some_of_each() -> None:
    peers = [peer("consul-edge", "http"), peer("b", "dns")]

    def names(*only: str) -> tuple[list[str], list[str]]:
        choice = choose(peers, [SMALL, HOT], make_checks(), only)
        asked = [load.name for load in choice.loads] + [check.name for check in choice.checks]
        return [p.name for p in choice.peers], asked

    assert names() == (["consul-edge", "b"], ["http-small", "dns-hot", "idle-clients", "idle-pairs", "endurance"])
    assert names("dns-hot") == (["b"], ["dns-hot"])
    assert names("b") == (["b"], ["dns-hot"])
    assert names("endurance") == (["consul-edge"], ["endurance"])
    assert names("consul-edge", "idle-clients", "dns-hot") == (["consul-edge"], ["idle-clients"])
    with pytest.raises(BenchmarkError, match="unknown: nonsense"):
        names("nonsense")


def test_a_rate_is_per_second_or_per_second_of_cpu() -> None:
    count = Count(work=600.0, seconds=3.0, errors=0, p99_ms=None)
    assert rate(SMALL, count, cpu=1.5) == 200.0
    assert rate(BULK, count, cpu=1.5) == 400.0
    assert rate(BULK, count, cpu=0.0) == 0.0


def test_results_name_no_folder_and_no_port_of_the_machine() -> None:
    command = "/home/u/.venv/bin/python -m lb.cli --http 127.0.0.1:8123 --state-dir /dev/shm/x/state -http-port=8500"
    assert anonymous(command, {"/home/u/.venv/bin/python": "python", "/dev/shm/x": "DIR"}) == (
        "python -m lb.cli --http 127.0.0.1:PORT --state-dir DIR/state -http-port=PORT"
    )


def test_names_are_unique_and_every_name_that_is_referred_to_exists() -> None:
    names = [p.name for p in PEERS] + [load.name for load in LOADS] + [check.name for check in make_checks()]
    assert len(names) == len(set(names))
    kinds = {p.name: p.kinds for p in PEERS}
    for kind, baselines in BASELINES.items():
        assert all(kind in kinds[name] for name in baselines)
    for p in PEERS:
        assert not p.base or p.base in kinds
        assert p.loads <= {load.name for load in LOADS}
    takers = {check.name: check.peers for check in make_checks()}
    takers |= {load.name: load.peers for load in LOADS if isinstance(load, PacedLoad | ChangesDnsLoad)}
    for peers in takers.values():
        assert peers <= kinds.keys()
    assert "http" in kinds[PACEMAKER]
    for load in LOADS:
        assert load.result == "rate" or PACED_BASELINES[load.kind] in kinds


def test_a_peer_that_is_not_installed_says_what_is_missing() -> None:
    absent = Peer(
        name="absent", about="", kinds=frozenset({"http"}), start=PEERS[0].start, commands=("no-such-program",)
    )
    assert absent.missing() == "no-such-program is not on the PATH"


def test_lines_that_an_access_log_lacks_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("line\n" * 7)
    assert missing_lines(log, 7, patience=10.0) == 0
    assert missing_lines(log, 10, patience=0.05) == 3


def test_lines_that_are_written_a_little_later_are_not_missing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("line\n" * 7)

    def append() -> None:
        with log.open("a") as file:
            file.write("line\n" * 3)

    later = threading.Timer(0.1, append)
    later.start()
    assert missing_lines(log, 10, patience=10.0) == 0
    later.join()


def test_the_benchmark_keeps_off_the_core_of_what_is_measured_for_as_long_as_it_is() -> None:
    before = os.sched_getaffinity(0)
    one = {min(before)}
    with suppress(BenchmarkError), staying_on(one):
        assert os.sched_getaffinity(0) == one
        raise BenchmarkError
    assert os.sched_getaffinity(0) == before
