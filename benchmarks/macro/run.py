"""The order of a run: all peers up, then every load in rounds, peer after peer: drift of the machine hits all alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.macro.loads import Count, Load
from benchmarks.macro.peers import Peer, Running, start_origin
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import Site

WARM_UP = 1
"""Seconds of each load on each peer before the first round; not counted."""

MARGIN = 60.0
"""Seconds that a load generator may take beyond its time before it counts as hung."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One load on one peer in one round."""

    load: str
    peer: str
    round: int
    rate: float
    busy: float
    """Share of one core that the peer used, 1.0 is all of it. Well below 1 means that something else was the limit."""
    errors: int
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, for how long."""

    peers: Sequence[Peer]
    loads: Sequence[Load]
    rounds: int
    seconds: int


def choose(peers: Sequence[Peer], loads: Sequence[Load], only: Sequence[str]) -> tuple[list[Peer], list[Load]]:
    """Return the peers and loads that `only` names; where it names none of one sort, all of that sort.

    A peer that no chosen load fits is left out, and the other way round. Raises `BenchmarkError` for an unknown name.
    """
    known = {peer.name for peer in peers} | {load.name for load in loads}
    if unknown := sorted(set(only) - known):
        raise BenchmarkError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    chosen_peers = [peer for peer in peers if peer.name in only] or list(peers)
    chosen_loads = [load for load in loads if load.name in only] or list(loads)
    kinds = {load.kind for load in chosen_loads}
    chosen_peers = [peer for peer in chosen_peers if peer.kinds & kinds]
    served = {kind for peer in chosen_peers for kind in peer.kinds}
    return chosen_peers, [load for load in chosen_loads if load.kind in served]


def schedule(plan: Plan) -> Iterator[tuple[int, Load, Peer]]:
    """Yield every measurement in order: A B C in round 1, then B C A, ...; round 0 is the warm-up."""
    for number in range(plan.rounds + 1):
        for load in plan.loads:
            fit = [peer for peer in plan.peers if load.kind in peer.kinds]
            first = (number - 1) % len(fit) if fit else 0
            for peer in (*fit[first:], *fit[:first]):
                yield number, load, peer


def run(site: Site, plan: Plan, running: Mapping[str, Running]) -> Iterator[Sample]:
    """Measure; yield samples as they come. `running` holds the started peers by name.

    A measurement that fails is named on stderr and left out.
    """
    for number, load, peer in schedule(plan):
        seconds = plan.seconds if number else WARM_UP
        try:
            sample = _measure(site, load, peer, running[peer.name], number, seconds)
        except BenchmarkError as error:
            print(f"round {number}: {load.name} on {peer.name} failed: {error}", file=sys.stderr)
            continue
        if number:
            yield sample


def start_all(site: Site, peers: Sequence[Peer]) -> dict[str, Running]:
    """Start origin and peers; a peer that cannot start is named on stderr and left out."""
    start_origin(site)
    running: dict[str, Running] = {}
    for peer in peers:
        if reason := peer.missing():
            print(f"{peer.name}: left out: {reason}", file=sys.stderr)
            continue
        try:
            running[peer.name] = peer.start(site)
        except (BenchmarkError, OSError) as error:
            print(f"{peer.name}: left out: {error}", file=sys.stderr)
    return running


def _measure(site: Site, load: Load, peer: Peer, running: Running, number: int, seconds: int) -> Sample:
    """Put the load on the peer, which has the proxy's core to itself meanwhile."""
    running.program.pin(site.proxy_cpus)
    try:
        before = running.program.cpu_seconds()
        command = load.command(site, running.ports[load.kind], seconds)
        count = load.parse(_generate(site, command, seconds + MARGIN))
        cpu = running.program.cpu_seconds() - before
    finally:
        running.program.pin(site.other_cpus)
    return Sample(
        load=load.name,
        peer=peer.name,
        round=number,
        rate=rate(load, count, cpu),
        busy=cpu / count.seconds,
        errors=count.errors,
        p99_ms=count.p99_ms,
    )


def rate(load: Load, count: Count, cpu: float) -> float:
    """Return work per second, or per CPU second of the peer, as the load wants it."""
    divisor = count.seconds if load.per == "second" else cpu
    return count.work / divisor if divisor else 0.0


def _generate(site: Site, command: Sequence[str], timeout: float) -> str:
    """Run a load generator on the other cores, for `timeout` seconds at most, and return what it printed."""
    cpus = ",".join(str(cpu) for cpu in sorted(site.other_cpus))
    try:
        done = subprocess.run(
            ["taskset", "-c", cpus, *command], capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise BenchmarkError("taskset (Debian: util-linux) is not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{command[0]} did not end within {timeout:.0f} s") from error
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-300:]!r}")
    return done.stdout
