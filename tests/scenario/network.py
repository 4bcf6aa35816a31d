"""The cables between hosts: a bridge in a namespace of its own, which this machine's network knows nothing of."""

from __future__ import annotations

import subprocess

from tests.scenario.host import Host
from tests.scenario.layout import NETWORK
from tests.scenario.needs import Unavailable

CONSUL_PORTS = "8300:8302"
"""Where Consul's servers listen for each other: RPC and gossip."""


class Switch:
    """A bridge on a host of its own, with a port for each host that is plugged in."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ip("link", "add", "name", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def plug(self, host: Host) -> None:
        """Lay a cable to the host, whose end is `eth0` with the host's address.

        The address has no network of its own (/32). With one, the C library would put the nearest address of a service
        first, and the host's own would be nearest of all: names would no longer lead to each instance in turn.
        """
        self._ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._ip("link", "set", host.name, "master", "bridge", "up")
        host.run("ip", "address", "add", f"{host.address}/32", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "route", "add", NETWORK, "dev", "eth0", "src", host.address)

    def cut(self, host: Host) -> None:
        """Take the host off the network. On this side of the cable: on the host's own its routes would be lost."""
        self._ip("link", "set", host.name, "down")

    def mend(self, host: Host) -> None:
        """Put the host on the network again."""
        self._ip("link", "set", host.name, "up")

    def cut_consul(self, host: Host) -> None:
        """Let nothing pass that Consul's servers say to each other, to this host or from it."""
        self._filter(host, "--insert")

    def mend_consul(self, host: Host) -> None:
        """Let it pass again."""
        self._filter(host, "--delete")

    def _filter(self, host: Host, action: str) -> None:
        for chain, way in (("INPUT", "--in-interface"), ("OUTPUT", "--out-interface")):
            for protocol in ("tcp", "udp"):
                for port in ("--destination-port", "--source-port"):
                    rule = [chain, way, "eth0", "--protocol", protocol, port, CONSUL_PORTS, "--jump", "DROP"]
                    host.run("iptables", "--wait", action, *rule)

    def _ip(self, *arguments: str) -> None:
        # Only the network namespace is entered: process ids must mean here what they mean outside.
        argv = ["nsenter", f"--target={self._host.pid}", "--net", "ip", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise Unavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
