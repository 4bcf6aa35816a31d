"""The Consul servers: one on each host, one cluster of all three."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from typing import Any

from tests.scenario.host import CommandError, Host, Program
from tests.scenario.layout import DATACENTER, HOSTS
from tests.support.process import wait_until

API = "http://127.0.0.1:8500"


class Server:
    """The Consul server of a host. Its data stay where they are when it is killed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._program: Program | None = None

    def start(self) -> None:
        """Start it; `Cluster.wait_whole` tells when it takes part."""
        settings = {
            "datacenter": DATACENTER,
            "node_name": self.host.name,
            "data_dir": str(self.host.directory / "consul"),
            "server": True,
            "bootstrap_expect": len(HOSTS),
            "bind_addr": self.host.address,
            "client_addr": "0.0.0.0",
            "retry_join": [address for address in HOSTS.values() if address != self.host.address],
            # The default, 30 s, is what a server would wait for that starts before the others.
            "retry_interval": "1s",
            # What Consul's guide to production wants: an election takes 1.5 s, not 7.
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
        }
        file = self.host.directory / "consul.json"
        file.write_text(json.dumps(settings))
        self._program = self.host.start("consul", ["consul", "agent", "-config-file", file])

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._program is not None
        self._program.kill(signal.SIGKILL)

    def get(self, path: str, timeout: float = 5) -> Any:
        """Ask its HTTP API on the host itself and decode the answer; raises `CommandError`."""
        answer = self.host.run("curl", "-sS", "--fail", "--max-time", str(timeout), API + path)
        return json.loads(answer) if answer else None

    def alive(self) -> set[str]:
        """Return the hosts that the cluster believes to be alive, as this server knows it."""
        checks = self.get("/v1/health/state/passing?stale")
        return {check["Node"] for check in checks if check["CheckID"] == "serfHealth"}

    def voters(self) -> set[str]:
        """Return the hosts of the servers that take part in elections, as this server knows it."""
        servers = self.get("/v1/operator/raft/configuration?stale")["Servers"]
        return {server["Node"] for server in servers if server["Voter"]}


class Cluster:
    """All servers."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.servers = {host.name: Server(host) for host in hosts}

    def start(self) -> None:
        """Start all servers."""
        for server in self.servers.values():
            server.start()

    def leader(self, among: Iterable[str] = tuple(HOSTS)) -> str:
        """Return the host of the leader, as one of these servers sees it; empty when they know none."""
        for name in among:
            try:
                address = self.servers[name].get("/v1/status/leader").partition(":")[0]
            except CommandError:
                continue
            return next((name for name, own in HOSTS.items() if own == address), "")
        return ""

    def wait_whole(self) -> None:
        """Wait until any one server may fail: all see the same leader and three hosts alive, and all have a vote.

        A server that was given up must be back for 10 s before it gets its vote again (Consul's autopilot). Until then
        the next one that fails may be one too many.
        """
        wait_until(self._whole, timeout=90, step=0.2, what="the Consul cluster is whole")

    def _whole(self) -> bool:
        views = [(server.get("/v1/status/leader"), server.alive(), server.voters()) for server in self.servers.values()]
        return bool(views[0][0]) and all(view == (views[0][0], set(HOSTS), set(HOSTS)) for view in views)
