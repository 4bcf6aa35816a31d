"""A running `consul-edge run` for tests: a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.family import Family, command_of, parent_of, resident_bytes
from tests.support.process import free_ports, running, wait_until

DOMAIN = "test"

PATIENCE = 10.0
"""Seconds in which all processes must have ended after a signal."""


class EdgeNode:
    """The process, those that it started or that took over from it, and where they listen, all on 127.0.0.1.

    `process` is the one that was started; after an upgrade another one has the say.
    """

    def __init__(
        self, directory: Path, process: subprocess.Popen[bytes], family: Family, http: int, dns: int, admin: int
    ) -> None:
        self.process = process
        self.family = family
        self.log = directory / "edge.log"
        self.http = http
        self.dns = dns
        self.admin = admin

    def api(self, path: str) -> Any:
        """GET a path of the admin server and decode its JSON, whatever the status."""
        return json.loads(self._admin(path)[1])

    def ready(self) -> bool:
        """Ask `/health/ready`."""
        return self._admin("/health/ready")[0] == 200

    def status(self) -> dict[str, Any]:
        """Ask `/api/status`."""
        status: dict[str, Any] = self.api("/api/status")
        return status

    def pid(self) -> int:
        """Return the process that has the say, as it tells itself."""
        pid: int = self.status()["pid"]
        return pid

    def worker_pids(self) -> list[int]:
        """Return the workers' processes in the order of their numbers; none where one process does everything."""
        workers = self.status()["workers"] or []
        return [worker["pid"] for worker in sorted(workers, key=lambda worker: int(worker["number"]))]

    def upgrade(self, patience: float = 20.0) -> int:
        """Send SIGHUP and return the process that has taken over, once it says so."""
        before = self.pid()
        os.kill(before, signal.SIGHUP)
        return wait_until(
            lambda: self._successor(before), timeout=patience, what=f"another one took over from {before}"
        )

    def _successor(self, before: int) -> int:
        """Return who has the say and is ready, 0 while that is the one before."""
        with contextlib.suppress(http.client.HTTPException, json.JSONDecodeError):
            pid = self.pid()
            return pid if pid != before and self.ready() else 0
        return 0

    def metrics(self) -> dict[str, float]:
        """Scrape: sample name with labels, as it stands in the text, to its value."""
        samples = {}
        for line in self._admin("/metrics")[1].decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def _admin(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def get(self, service: str, path: str = "/", domain: str = DOMAIN) -> tuple[int, str]:
        """GET through the HTTP listener, on a connection of its own; returns status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": f"{service}.{domain}"})
            response = connection.getresponse()
            return response.status, response.read().decode()

    def wait_for(self, service: str, text: str) -> None:
        """Wait until the service answers with that text at least once."""
        wait_until(lambda: self.get(service) == (200, text), what=f"{service} answers {text!r}")

    def wait_gone(self, service: str) -> None:
        """Wait until no service of that name is known."""
        wait_until(lambda: self.get(service)[0] == 404, what=f"{service} is gone")

    def instances(self, service: str) -> dict[str, str]:
        """Health by instance ID, as the node sees it."""
        for entry in self.api("/api/services"):
            if entry["service"] == service:
                return {instance["id"]: instance["health"] for instance in entry["instances"]}
        return {}

    def terminate(self, patience: float = 10.0) -> int:
        """Send SIGTERM to the process that was started and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def stop(self) -> None:
        """End all processes in order, without waiting for clients; fail when one of them is left, and name it.

        A worker must end with its supervisor: it is told by nobody else.
        """
        for _ in range(2):  # the second signal ends the draining
            for pid in self._leaders():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(AssertionError):
                wait_until(self._gone, timeout=PATIENCE, what="all processes have ended")
                return
        left = {pid: command_of(pid) for pid in self.family.pids()}
        assert not left, f"still running: {left}"

    def _leaders(self) -> set[int]:
        """Return who has the say, and every member that was not started by another one."""
        members = set(self.family.pids())
        leaders = {pid for pid in members if parent_of(pid) not in members}
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError, KeyError):
            leaders.add(self.pid())
        return leaders & members

    def _gone(self) -> bool:
        self.process.poll()  # so that it is no zombie
        return not self.family.pids()

    def memory(self) -> int:
        """Resident octets of all processes."""
        return sum(map(resident_bytes, self.family.pids()))


@contextlib.contextmanager
def running_node(
    directory: Path,
    *consuls: str,
    flags: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    ready: bool = True,
    program: Sequence[str] = ("-m", "lb.cli"),
    command: str = "run",
) -> Iterator[EdgeNode]:
    """Run `consul-edge run` on free ports, following the agents of those URLs, until the `with` block ends.

    A block that ends well fails all the same when a process of it is left then; workers and successors are included.
    With `ready` it has a catalog when the block begins. Later flags win over the usual ones.
    `program` is what Python is started with, `command` another part of consul-edge.
    """
    directory.mkdir(parents=True, exist_ok=True)
    http, dns, admin = free_ports(3)
    usual = {
        "--domain": DOMAIN,
        "--http": f"127.0.0.1:{http}",
        "--tcp": "127.0.0.1",
        "--dns": f"127.0.0.1:{dns}",
        "--recursor": "off",
        "--admin": f"127.0.0.1:{admin}",
        "--state-dir": "off",
    }
    argv: list[str | Path] = [sys.executable, *program, command]
    for url in consuls:
        argv += ["--consul", url]
    for flag, value in usual.items():
        if flag not in flags:
            argv += [flag, value]
    family = Family()
    environment = {**(env or {}), **family.environment}
    with running([*argv, *flags], log=directory / "edge.log", env=environment) as process:
        node = EdgeNode(directory, process, family, http, dns, admin)
        try:
            if ready:
                wait_until(lambda: _alive(node) and node.ready(), timeout=20, what="consul-edge is ready")
            yield node
            node.stop()
        finally:
            family.signal(signal.SIGKILL)


def _alive(node: EdgeNode) -> bool:
    status = node.process.poll()
    if status is not None:
        raise RuntimeError(f"consul-edge ended with status {status}:\n{node.log.read_text()[-3000:]}")
    return True


def seconds_until(probe: Any, limit: float = 10.0) -> float:
    """Call `probe` without pause until it is true; returns how long that took."""
    start = time.perf_counter()
    while not probe():
        assert time.perf_counter() - start < limit, f"not within {limit} s"
    return time.perf_counter() - start
