"""A running `consul-edge run` for tests: a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.process import free_ports, running, wait_until

DOMAIN = "test"


class EdgeNode:
    """The process and where it listens, all on 127.0.0.1."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], http: int, dns: int, admin: int) -> None:
        self.process = process
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
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def memory(self) -> int:
        """Resident octets."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise AssertionError("no VmRSS")


@contextlib.contextmanager
def running_node(
    directory: Path, *consuls: str, flags: tuple[str, ...] = (), env: dict[str, str] | None = None, ready: bool = True
) -> Iterator[EdgeNode]:
    """Run `consul-edge run` on free ports, following the agents of those URLs, until the `with` block ends.

    With `ready` it has a catalog when the block begins. Later flags win over the usual ones.
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
    argv: list[str | Path] = [sys.executable, "-m", "lb.cli", "run"]
    for url in consuls:
        argv += ["--consul", url]
    for flag, value in usual.items():
        if flag not in flags:
            argv += [flag, value]
    with running([*argv, *flags], log=directory / "edge.log", env=env) as process:
        node = EdgeNode(directory, process, http, dns, admin)
        if ready:
            wait_until(lambda: _alive(node) and node.ready(), timeout=20, what="consul-edge is ready")
        yield node


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
