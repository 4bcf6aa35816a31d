"""Programs under test: started on chosen cores, waited for, their CPU time read, ended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.family import Family, all_pids, cpu_seconds, resident_bytes, session_of

OPEN_FILES = 65_536
"""Descriptors that programs may have open, where the machine lets us say so."""


class BenchmarkError(Exception):
    """A benchmark cannot run; the text names what and why."""


class Program:
    """A running program with all processes that it started, and with those that took over from it.

    They are its family, or at least of the session that it leads: nginx writes its title over the environment.
    Output goes to `log`.
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
        self._family = Family()
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), **self._family.environment},
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

    def poll(self) -> int | None:
        """Return the exit status of the process that was started, None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """Return the process ids of the program and its workers."""
        session = {pid for pid in all_pids() if session_of(pid) == self._process.pid}
        return sorted(session.union(self._family.pids()))

    def pin(self, cpus: Iterable[int]) -> None:
        """Let the program, its workers and all their threads run on `cpus` only."""
        cpus = set(cpus)
        for pid in {self._process.pid, *self.pids()}:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), cpus)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the program's living processes have used, user and system."""
        return sum(map(cpu_seconds, self.pids()))

    def resident_bytes(self) -> int:
        """Return the resident memory of the program's living processes."""
        return sum(map(resident_bytes, self.pids()))

    def stop(self) -> None:
        """End the program: politely, then not; and whatever is left of it."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._family.signal(signal.SIGKILL)
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


@contextlib.contextmanager
def staying_on(cpus: Iterable[int]) -> Iterator[None]:
    """Keep this thread, and those that it starts, on `cpus`: off the core of what is measured."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_open_files(wanted: int = OPEN_FILES) -> int:
    """Let this process and those that it starts open `wanted` files, or as many as it may; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (min(wanted, hard), hard)):
        if limits[0] > soft:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                return limits[0]
    return soft
