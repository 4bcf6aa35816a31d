"""consul-edge on the hosts: whole edge nodes on two of them, names alone on the third."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.scenario.host import Host, Program
from tests.scenario.layout import DOMAIN, EDGES, HOSTS

TREE = Path(__file__).resolve().parents[2]
ADMIN = "http://127.0.0.1:9900"


class Edge:
    """A `consul-edge` of a host. Its own agent comes first, then those of the other hosts."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._program: Program | None = None

    @property
    def balances(self) -> bool:
        """Whether it is a whole edge node."""
        return self.host.name in EDGES

    def start(self) -> None:
        """Start it; `ready` tells when it serves."""
        agents = ["127.0.0.1", *(address for address in HOSTS.values() if address != self.host.address)]
        flags = [f"--consul=http://{agent}:8500" for agent in agents]
        flags.append(f"--state-dir={self.host.directory}/edge")
        if self.balances:
            # A host that is cut off says nothing: without these its clients would wait for 60 s, nginx's default.
            flags += [f"--domain={DOMAIN}", "--upstream-connect-timeout=1s", "--upstream-read-timeout=4s"]
        self._program = self.run("run" if self.balances else "dns", flags)

    def run(self, command: str, flags: Sequence[str]) -> Program:
        """Start a `consul-edge` command on the host."""
        argv = [sys.executable, "-m", "lb.cli", command, *flags]
        return self.host.start(f"consul-edge-{command}", argv, {"PYTHONPATH": str(TREE)})

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._program is not None
        self._program.kill(signal.SIGKILL)

    def get(self, path: str) -> Any:
        """Ask its admin server on the host itself and decode the answer; raises `CommandError`."""
        assert self._program is not None
        self._program.require_running()
        return json.loads(self.host.run("curl", "-sS", "--max-time", "5", ADMIN + path))

    def ready(self) -> bool:
        """Tell whether it serves, with a catalog."""
        return bool(self.get("/health/ready")["ready"])

    def instances(self, service: str) -> set[str]:
        """Return the hosts that have a passing instance of a service, as this edge knows it."""
        for entry in self.get("/api/services"):
            if entry["service"] == service:
                return {each["node"] for each in entry["instances"] if each["health"] == "passing"}
        return set()
