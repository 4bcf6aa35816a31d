"""The ground of a soak: a Consul agent, sample instances, and `consul-edge run`, all as processes on loopback."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.macro import catalog, probes
from benchmarks.macro.launch import launch, launch_consul
from benchmarks.macro.processes import BenchmarkError, Program
from benchmarks.macro.site import DOMAIN, ORIGINS, Site, free_ports
from benchmarks.soak.clients import LOCAL
from benchmarks.soak.judgement import Reading
from tests.support.family import open_files, resident_bytes

END_MARGIN = 10.0
"""Seconds beyond the drain timeout in which all processes must have ended."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What runs, and its ports on 127.0.0.1."""

    program: Program
    agent: int
    origin_ports: Sequence[int]
    http: int
    tcp: int
    dns: int
    admin: int


def prepare(work: Path, held: ExitStack, flags: Sequence[str]) -> Ground:
    """Start everything with further `flags` for consul-edge; raise `BenchmarkError` when something does not start."""
    cpus = frozenset(os.sched_getaffinity(0))
    origin_ports = free_ports(ORIGINS)
    site = Site(work=work, proxy_cpus=cpus, other_cpus=cpus, origin_ports=tuple(origin_ports), held=held)
    launch(site, "instances", [sys.executable, "-m", "benchmarks.soak.instances", *map(str, origin_ports)])
    _, agent, _ = launch_consul(site, "consul")
    http, tcp, dns, admin = free_ports(4)
    catalog.register_origin(agent, site, tcp)
    argv = [
        sys.executable, "-m", "lb.cli", "run", "--consul", f"http://{LOCAL}:{agent}", "--domain", DOMAIN,
        "--http", f"{LOCAL}:{http}", "--tcp", LOCAL, "--dns", f"{LOCAL}:{dns}", "--recursor", "off",
        "--admin", f"{LOCAL}:{admin}", "--state-dir", str(work), *flags,
    ]  # fmt: skip
    program = launch(site, "consul-edge", argv)
    ground = Ground(program, agent, origin_ports, http, tcp, dns, admin)
    program.wait_ready(lambda: _serves(ground))
    return ground


def _serves(ground: Ground) -> bool:
    return (
        probes.http_reply(ground.http, text="/")
        and probes.http_reply(ground.tcp, text="/")
        and probes.dns_names(ground.dns)
    )


def read(program: Program, at: float) -> Reading:
    """Read memory, descriptors and number of all processes of the program."""
    pids = program.pids()
    return Reading(at, sum(map(resident_bytes, pids)), sum(map(open_files, pids)), len(pids))


def wait_ended(program: Program, patience: float) -> bool:
    """Tell whether all processes of the program, which were told to, ended in time."""
    end = time.monotonic() + patience
    while program.poll() is None or program.pids():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def log_tail(program: Program) -> str:
    """Return the last lines that the program printed."""
    return "\n".join(program.log.read_text(errors="replace").splitlines()[-20:])


def require_running(reading: Reading, program: Program) -> None:
    """Raise `BenchmarkError` when no process of the program is left."""
    if not reading.processes:
        raise BenchmarkError(f"consul-edge has ended:\n{log_tail(program)}")
