"""The ground that all peers of one run share: cores, ports, work folder, the origin's ports."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.macro.processes import BenchmarkError

DOMAIN = "tonybai.com"
SERVICE = "httpfront"
HOST = f"{SERVICE}.{DOMAIN}"
ORIGINS = 3
"""Instances of the service."""

SMALL_REPLY = "this is httpbackendservice, version: v1.0.0\n"
BULK_BYTES = 1 << 20
"""Body size of the bulk loads: 1 MiB, which nginx and consul-edge accept as an upload by default."""

DNS_NAMES = 2000
DNS_DOMAIN = "service.consul"


@dataclass(frozen=True, slots=True)
class Site:
    """Where one run takes place."""

    work: Path
    proxy_cpus: frozenset[int]
    """What is measured runs here, alone."""
    other_cpus: frozenset[int]
    """Origin, load generators, and the peers that are not being measured."""
    origin_ports: tuple[int, ...]
    held: ExitStack
    """Ends every program that was started."""
    recursor_port: int = 0
    """Where a DNS server knows the foreign names; 0 where there is none."""

    @property
    def all_cpus(self) -> frozenset[int]:
        """All cores of this run."""
        return self.proxy_cpus | self.other_cpus

    @property
    def client_threads(self) -> int:
        """How many threads a load generator and how many workers the origin gets."""
        return max(1, len(self.other_cpus) // 2)


def make_site(work: Path, held: ExitStack) -> Site:
    """Divide this machine's cores and choose free ports; raise `BenchmarkError` when there is one core alone."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchmarkError("two cores are needed: one for the proxy, the rest for the others")
    return Site(
        work=work,
        proxy_cpus=frozenset(cpus[:1]),
        other_cpus=frozenset(cpus[1:]),
        origin_ports=tuple(free_ports(ORIGINS)),
        held=held,
    )


def make_work_folder() -> Path:
    """Make the folder for configurations, logs and the bulk reply: in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="consul-edge-bench-", dir=parent))


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback address, free for TCP and UDP a moment ago."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            tcp = held.enter_context(socket.socket())
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            udp = held.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


def dns_name(index: int) -> str:
    """Return the `index`-th service's DNS name."""
    return f"svc{index}.{DNS_DOMAIN}"


def dns_addresses(index: int) -> tuple[str, ...]:
    """Return the addresses of the `index`-th service, three as for the HTTP service."""
    return tuple(dns_address(index, instance) for instance in range(ORIGINS))


def dns_address(index: int, instance: int) -> str:
    """Return the address of an instance of the `index`-th service; no other instance of any service has it."""
    return f"10.{1 + instance}.{index // 250}.{1 + index % 250}"
