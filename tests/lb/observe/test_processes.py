"""What is told of the processes of the workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lb.observe.processes import worker_view


def test_a_living_process_is_seen_as_it_is() -> None:
    before = worker_view(2, os.getpid(), 5.0)
    held = bytearray(os.urandom(1)) * (64 << 20)
    with open(os.devnull) as one, open(os.devnull) as two:
        assert one.fileno() != two.fileno()
        after = worker_view(2, os.getpid(), 5.0)
    assert before is not None
    assert after is not None
    assert (after.number, after.pid, after.started) == (2, os.getpid(), 5.0)
    assert after.open_fds == before.open_fds + 2
    assert after.resident_bytes - before.resident_bytes > len(held) // 2
    assert after.cpu_seconds == pytest.approx(sum(os.times()[:2]), abs=0.5)


def test_a_process_that_is_gone_is_skipped() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert worker_view(1, process.pid, 0.0) is None


def test_the_name_of_a_process_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "7" / "fd").mkdir(parents=True)
    numbers = " ".join(map(str, range(4, 53)))
    (tmp_path / "7" / "stat").write_text(f"7 (a) S 1 (b) S {numbers}\n")
    view = worker_view(1, 7, 0.0, tmp_path)
    assert view is not None
    assert view.cpu_seconds == (14 + 15) / os.sysconf("SC_CLK_TCK")
    assert view.resident_bytes == 24 * os.sysconf("SC_PAGE_SIZE")
