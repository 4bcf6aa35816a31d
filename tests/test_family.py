"""The helper that finds all processes of a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.family import Family, open_files, parent_of, resident_bytes
from tests.support.process import wait_until

LEAVE = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, start_new_session=True)
print(child.pid, flush=True)
"""


def test_a_successor_whose_parent_has_ended_still_belongs_to_the_family() -> None:
    family, other = Family(), Family()
    first = subprocess.Popen(
        [sys.executable, "-c", LEAVE], env={**os.environ, **family.environment}, stdout=subprocess.PIPE, text=True
    )
    try:
        left = int(first.communicate(timeout=20)[0])
        assert first.returncode == 0
        assert family.pids() == [left]
        assert other.pids() == []
        assert parent_of(left) != first.pid
        wait_until(lambda: resident_bytes(left) > 1 << 20, what="the successor has memory")
        assert open_files(left) >= 3
    finally:
        family.signal(signal.SIGKILL)
    wait_until(lambda: not family.pids(), what="all are gone")
    assert resident_bytes(left) == 0
    assert open_files(left) == 0
