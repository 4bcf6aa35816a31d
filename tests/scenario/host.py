"""A host: network, name, mounts and processes of its own, on this machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.scenario.needs import Unavailable
from tests.support.family import all_pids, parent_of
from tests.support.process import wait_until

FIRST = Path(__file__).with_name("first.py")
UNSHARE = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child")
PATIENCE = 60.0
"""Seconds for a command that should take moments."""


class CommandError(AssertionError):
    """A command on a host failed; the message has the command and what it said."""


class Program:
    """A program that was started on a host; it ends with the host at the latest."""

    def __init__(self, host: Host, name: str, entered: subprocess.Popen[bytes], log: Path) -> None:
        self.host = host
        self.name = name
        self.log = log
        self._entered = entered

    @property
    def pid(self) -> int:
        """Its process as seen from outside; 0 when it has not begun or is gone."""
        return next((pid for pid in all_pids() if parent_of(pid) == self._entered.pid), 0)

    def running(self) -> bool:
        """Tell whether it runs."""
        return self._entered.poll() is None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, by default the one that a crash is like, and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self._entered.pid, number)
        try:
            self._entered.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{self.host.name}: {self.name} does not end after {number.name}") from None

    def tail(self, size: int = 2000) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(errors="replace")[-size:]

    def require_running(self) -> None:
        """Raise `CommandError` with the end of its log unless it runs."""
        if not self.running():
            status = self._entered.returncode
            raise CommandError(f"{self.host.name}: {self.name} has ended with status {status}:\n{self.tail()}")


class Host:
    """One host. `pid` is its first process as seen from outside, `directory` is for its files."""

    def __init__(self, name: str, address: str, directory: Path, pid: int) -> None:
        self.name = name
        self.address = address
        self.directory = directory
        self.pid = pid

    def __repr__(self) -> str:
        return self.name

    def enter(self, *argv: str) -> list[str]:
        """Return the command that runs another one on this host."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--pid", *argv]

    def attempt(
        self, *argv: str, stdin: bytes | None = None, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the host to its end, whatever its status."""
        try:
            return subprocess.run(
                self.enter(*argv), input=stdin or b"", capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise CommandError(f"{self.name}: {shlex.join(argv)}: not within {timeout} s") from None

    def run(self, *argv: str, stdin: bytes | None = None, timeout: float = PATIENCE) -> str:
        """Run a command on the host and return what it prints; raises `CommandError` when it fails."""
        done = self.attempt(*argv, stdin=stdin, timeout=timeout)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise CommandError(f"{self.name}: {shlex.join(argv)}: status {done.returncode} {said}")
        return done.stdout.decode(errors="replace")

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Program:
        """Start a program; its output is appended to `<name>.log` among the host's files."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as out:
            entered = subprocess.Popen(
                self.enter(*map(str, argv)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return Program(self, name, entered, log)


@contextlib.contextmanager
def running_host(name: str, address: str, nameservers: Sequence[str], directory: Path) -> Iterator[Host]:
    """Make a host without a cable; when the block ends, every process, mount and container of it is gone.

    Raises `Unavailable`.
    """
    directory.mkdir(parents=True)
    resolv_conf = directory / "resolv.conf"
    resolv_conf.write_text("".join(f"nameserver {each}\n" for each in nameservers))
    process = subprocess.Popen(
        [*UNSHARE, sys.executable, "-S", str(FIRST), name, str(resolv_conf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise Unavailable(f"no host can be made here: unshare ended with status {process.wait(PATIENCE)}")
        yield Host(name, address, directory, int(line))
    finally:
        process.stdin.close()
        process.stdout.close()
        wait_until(lambda: process.poll() is not None, timeout=PATIENCE, what=f"{name} is gone with all its processes")
