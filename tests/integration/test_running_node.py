"""What tests rely on: a node that leaves a process behind fails its test, and nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def test_a_process_that_is_left_behind_fails_the_test_and_is_ended(
    consul: Consul, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.node.PATIENCE", 1.0)
    left: list[subprocess.Popen[bytes]] = []

    def leave_one() -> None:
        with running_node(tmp_path, consul.url) as node:
            left.append(member(node, STUBBORN))
            assert {node.process.pid, left[0].pid} < set(node.family.pids())

    with pytest.raises(AssertionError, match=r"still running: .*SIG_IGN"):
        leave_one()
    with left[0] as process:
        assert process.wait(5) == -signal.SIGKILL


def member(node: EdgeNode, code: str) -> subprocess.Popen[bytes]:
    """Start a process that says `ready`, as if it were one of the node's own."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **node.family.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_memory_is_that_of_all_processes(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url) as node:
        before = node.memory()
        with member(node, "held = b'x' * (32 << 20); print('ready', flush=True); input()") as more:
            assert node.memory() - before > 32 << 20
            more.communicate(b"\n")
