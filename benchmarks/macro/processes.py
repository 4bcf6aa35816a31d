"""Programs under test: started on chosen cores, waited for, their CPU time read, ended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

OPEN_FILES = 65_536
"""Descriptors that programs may have open, where the machine lets us say so."""


class BenchmarkError(Exception):
    """A benchmark cannot run; the text names what and why."""


class Program:
    """A running program with all its worker processes.

    It leads a session of its own, so its processes are those of that session. Output goes to `log`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cpus: Iterable[int],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        cpus = set(cpus)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.pin(cpus)

    def wait_ready(self, probe: Callable[[], bool], timeout: float = 30.0) -> None:
        """Return once `probe` is true; raise `BenchmarkError` if the program ends or `timeout` seconds pass.

        Connection errors of the probe count as "not yet". A program that was not ready in time is ended.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if (status := self._process.poll()) is not None:
                raise BenchmarkError(f"{self.argv[0]} ended with status {status}: {self._log_tail()}")
            with contextlib.suppress(OSError):
                if probe():
                    return
            time.sleep(0.05)
        self.stop()
        raise BenchmarkError(f"{self.argv[0]} was not ready within {timeout:.0f} s: {self._log_tail()}")

    def pids(self) -> list[int]:
        """Return the process ids of the program and its workers."""
        session = str(self._process.pid)
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in processes if _stat(entry)[3:4] == [session]]

    def pin(self, cpus: Iterable[int]) -> None:
        """Let the program, its workers and all their threads run on `cpus` only."""
        cpus = set(cpus)
        for pid in {self._process.pid, *self.pids()}:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), cpus)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the program's living processes have used, user and system."""
        ticks = 0
        for pid in self.pids():
            if fields := _stat(Path(f"/proc/{pid}")):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Return the resident memory of the program's living processes."""
        return sum(_resident_bytes(Path(f"/proc/{pid}")) for pid in self.pids())

    def stop(self) -> None:
        """End the program: politely, then not."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _log_tail(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:]) or "it printed nothing"


def output_of(command: Sequence[str], cpus: Iterable[int], timeout: float) -> str:
    """Run a command on `cpus`, for `timeout` seconds at most, and return what it printed.

    Raises `BenchmarkError` when it fails or does not end in time.
    """
    try:
        done = subprocess.run(on_cpus(command, cpus), capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise BenchmarkError("taskset (Debian: util-linux) is not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{command[0]} did not end within {timeout:.0f} s") from error
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-300:]!r}")
    return done.stdout


def on_cpus(command: Sequence[str], cpus: Iterable[int]) -> list[str]:
    """Return the command that runs `command` on `cpus` only."""
    return ["taskset", "-c", ",".join(str(cpu) for cpu in sorted(cpus)), *command]


def allow_open_files(wanted: int = OPEN_FILES) -> int:
    """Let this process and those that it starts open `wanted` files, or as many as it may; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (min(wanted, hard), hard)):
        if limits[0] > soft:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                return limits[0]
    return soft


def _resident_bytes(process: Path) -> int:
    """Return a process's resident memory, 0 when it is gone.

    `smaps_rollup` counts pages; `status`, for kernels without it, may be off by some hundred KiB (proc(5)).
    """
    for file, field in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in (process / file).read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) << 10
    return 0


def _stat(process: Path) -> list[str]:
    """Return the fields of proc(5) `stat` from the third (state) on, empty when the process is gone.

    The second field, the name in parentheses, may hold blanks.
    """
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
