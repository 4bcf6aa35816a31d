"""A program with all processes that it started, found in proc(5): workers, and whoever took over from it.

Parents do not tell: a worker whose supervisor died is a child of init, and so is a program that took over from one that
ended. What is inherited is the environment. So a family has a mark there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

_NAME = "PROCESS_FAMILY"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Family:
    """Processes with a common mark: start the first one with `environment` added to its own."""

    def __init__(self) -> None:
        self.environment = {_NAME: uuid.uuid4().hex}
        self._entry = f"{_NAME}={self.environment[_NAME]}".encode()

    def pids(self) -> list[int]:
        """Return the process ids of the living members, oldest first."""
        return sorted((pid for pid in all_pids() if self._entry in _environment(pid)), key=_started)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every member."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def all_pids() -> Iterator[int]:
    """Yield the ids of all processes of the machine."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def session_of(pid: int) -> int:
    """Return the session of a process, 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[3]) if fields else 0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system, 0 when it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND if fields else 0.0


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 when it is gone.

    `smaps_rollup` counts pages; `status`, for kernels without it, may be off by some hundred KiB (proc(5)).
    """
    for file, field in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) << 10
    return 0


def command_of(pid: int) -> str:
    """Return the command line of a process, empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def open_files(pid: int) -> int:
    """Return how many descriptors a process has open, 0 when it is gone."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _environment(pid: int) -> list[bytes]:
    """Return the environment that a process began with; empty when it is gone, a zombie, or another user's."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _started(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) `stat` from the third (state) on, empty when the process is gone.

    The second field, the name in parentheses, may hold blanks.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
