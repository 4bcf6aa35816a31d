"""consul-edge on the hosts: whole edge nodes on two of them, DNS alone on the third; a registrator on each."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from lb.catalog.codec import decode
from lb.catalog.store import FILE_NAME
from tests.scenario.engine import Engine
from tests.scenario.host import Host, Program
from tests.scenario.layout import DOMAIN, EDGES, HOSTS

TREE = Path(__file__).resolve().parents[2]
ADMIN, REGISTRATOR = "127.0.0.1:9900", "127.0.0.1:9901"
"""Admin servers: the second one is that of a registrator that runs alone."""


class Edge:
    """The `consul-edge` of a host. Its own agent comes first, then those of the other hosts."""

    def __init__(self, host: Host, engine: Engine) -> None:
        self.host = host
        self._engine = f"unix://{engine.socket}"
        self._state = host.directory / "edge"
        self._programs: list[Program] = []

    def start(self) -> None:
        """Start it; `ready` tells when it serves."""
        state = f"--state-dir={self._state}"
        docker = f"--docker={self._engine}"
        if self.host.name in EDGES:
            # A host that is cut off says nothing: without these its clients would wait for 60 s, nginx's default.
            patience = ("--upstream-connect-timeout=1s", "--upstream-read-timeout=4s")
            self._programs = [self._run("run", f"--domain={DOMAIN}", state, docker, *patience)]
        else:
            registrator = self._run("registrator", docker, f"--admin={REGISTRATOR}")
            self._programs = [self._run("dns", state), registrator]

    def _run(self, command: str, *flags: str) -> Program:
        others = [address for address in HOSTS.values() if address != self.host.address]
        agents = [f"--consul=http://{agent}:8500" for agent in ("127.0.0.1", *others)]
        argv = [sys.executable, "-m", "lb.cli", command, *agents, *flags]
        return self.host.start(f"consul-edge-{command}", argv, {"PYTHONPATH": str(TREE)})

    def kill(self) -> None:
        """End it as a crash does."""
        for program in self._programs:
            program.kill(signal.SIGKILL)

    def get(self, path: str, address: str = ADMIN) -> Any:
        """Ask its admin server on the host itself and decode the answer; raises `CommandError`."""
        for program in self._programs:
            program.require_running()
        return json.loads(self.host.run("curl", "-sS", "--max-time", "5", f"http://{address}{path}"))

    def ready(self) -> bool:
        """Tell whether it serves, with a catalog, and knows the host's containers."""
        places = (ADMIN, REGISTRATOR)[: len(self._programs)]
        return all(self.get("/health/ready", address)["ready"] for address in places)

    def kept(self, service: str) -> set[str]:
        """Return the hosts that have a passing instance of a service by the catalog that it keeps on disk."""
        with (self._state / FILE_NAME).open() as file:
            kept = decode(file).services[service]
        return {instance.node for instance in kept.instances if instance.health == "passing"}

    def instances(self, service: str) -> set[str]:
        """Return the hosts that have a passing instance of a service, as this edge knows it."""
        for entry in self.get("/api/services"):
            if entry["service"] == service:
                return {each["node"] for each in entry["instances"] if each["health"] == "passing"}
        return set()
