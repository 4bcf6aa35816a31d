"""The order of a run: all peers up, then every load in rounds, peer after peer: drift of the machine hits all alike."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.macro.httpload import PacedLoad
from benchmarks.macro.load import Count, Load
from benchmarks.macro.loads import PACEMAKER, SMALL
from benchmarks.macro.memory import Check
from benchmarks.macro.peer import ALL_CORES, Peer, Running
from benchmarks.macro.peers import PEERS
from benchmarks.macro.processes import BenchmarkError, output_of, staying_on
from benchmarks.macro.site import Site

WARM_UP = 1
"""Seconds of each load on each peer before the first round; not counted."""

MARGIN = 60.0
"""Seconds that a load generator may take beyond its time before it counts as hung."""

PACE = 0.5
"""The share of the pacemaker's rate at which paced loads run."""

PACE_TRIES = 3
"""Runs of the pacemaker, of `WARM_UP` seconds, of which the best one counts."""

LOG_PATIENCE = 2.0
"""Seconds after a run in which a peer may still write lines of its access log."""


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
    p50_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Who takes part, and what is asked of them."""

    peers: Sequence[Peer]
    loads: Sequence[Load]
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Plan(Choice):
    """What to measure, for how long."""

    rounds: int
    seconds: int


def choose(peers: Sequence[Peer], loads: Sequence[Load], checks: Sequence[Check], only: Sequence[str]) -> Choice:
    """Return the peers, and the loads and checks, that `only` names; where it names none of one sort, all of that sort.

    A peer that no chosen load or check fits is left out, and the other way round. Raises `BenchmarkError` for an
    unknown name.
    """
    asked: list[Load | Check] = [*loads, *checks]
    known = {peer.name for peer in peers} | {each.name for each in asked}
    if unknown := sorted(set(only) - known):
        raise BenchmarkError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    peers = [peer for peer in peers if peer.name in only] or peers
    asked = [each for each in asked if each.name in only] or asked
    asked = [each for each in asked if any(each.suits(peer) for peer in peers)]
    return Choice(
        peers=[peer for peer in peers if any(each.suits(peer) for each in asked)],
        loads=[load for load in loads if load in asked],
        checks=[check for check in checks if check in asked],
    )


def schedule(plan: Plan) -> Iterator[tuple[int, Load, Peer]]:
    """Yield every measurement in order: A B C in round 1, then B C A, ...; round 0 is the warm-up."""
    for number in range(plan.rounds + 1):
        for load in plan.loads:
            fit = [peer for peer in plan.peers if load.suits(peer)]
            first = (number - 1) % len(fit) if fit else 0
            for peer in (*fit[first:], *fit[:first]):
                yield number, load, peer


def run(site: Site, plan: Plan, running: Mapping[str, Running]) -> Iterator[Sample]:
    """Measure; yield samples as they come. `running` holds the started peers by name.

    A measurement that fails is named on stderr and left out.
    """
    started = replace(plan, peers=[peer for peer in plan.peers if peer.name in running])
    for number, load, peer in schedule(started):
        seconds = plan.seconds if number else WARM_UP
        try:
            sample = _measure(site, load, peer, running[peer.name], number, seconds)
        except BenchmarkError as error:
            print(f"round {number}: {load.name} on {peer.name} failed: {error}", file=sys.stderr)
            continue
        if number:
            yield sample


def start_all(site: Site, peers: Sequence[Peer]) -> dict[str, Running]:
    """Start peers; one that cannot start is named on stderr and left out."""
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


def set_pace(site: Site, plan: Plan, running: Mapping[str, Running]) -> Plan:
    """Return the plan with the rate of its paced loads: a share of what the pacemaker makes here and now.

    The pacemaker is started for that if it is not `running`. Without it there are no paced loads: that is told on
    stderr.
    """
    others = [load for load in plan.loads if not isinstance(load, PacedLoad)]
    if len(others) == len(plan.loads):
        return plan
    pacemaker = next(peer for peer in PEERS if peer.name == PACEMAKER)
    try:
        started = running.get(PACEMAKER) or pacemaker.start(site)
        best = max(_measure(site, SMALL, pacemaker, started, 0, WARM_UP).rate for _ in range(PACE_TRIES))
    except (BenchmarkError, OSError) as error:
        print(f"loads at a constant rate are left out: {error}", file=sys.stderr)
        return replace(plan, loads=others)
    return replace(plan, loads=[load.at(best * PACE) if isinstance(load, PacedLoad) else load for load in plan.loads])


def _measure(site: Site, load: Load, peer: Peer, running: Running, number: int, seconds: int) -> Sample:
    """Put the load on the peer, which has the proxy's core to itself meanwhile, or all cores with everybody else."""
    shared = load.kind in ALL_CORES
    command = load.command(site, running.ports[load.kind], seconds)
    log = running.access_log
    if log:
        os.truncate(log, 0)
    client_cpus = site.all_cpus if shared else site.other_cpus
    running.program.pin(site.all_cpus if shared else site.proxy_cpus)
    try:
        with staying_on(client_cpus), load.around(running):
            before = running.program.cpu_seconds()
            output = output_of(command, client_cpus, seconds + MARGIN)
            cpu = running.program.cpu_seconds() - before
        count = load.count(site, output)
        lost = missing_lines(log, int(count.work)) if log else 0
    finally:
        running.program.pin(site.other_cpus)
    return Sample(
        load=load.name,
        peer=peer.name,
        round=number,
        rate=rate(load, count, cpu),
        busy=cpu / count.seconds,
        errors=count.errors + lost,
        p99_ms=count.p99_ms,
        p50_ms=count.p50_ms,
    )


def missing_lines(log: Path, expected: int, patience: float = LOG_PATIENCE) -> int:
    """Return how many of the expected lines a log lacks once nothing was added to it for `patience` seconds."""
    lines = 0
    end = time.monotonic() + patience
    with log.open("rb") as file:
        while lines < expected and time.monotonic() < end:
            if piece := file.read(1 << 20):
                lines += piece.count(b"\n")
                end = time.monotonic() + patience
            else:
                time.sleep(0.02)
    return max(0, expected - lines)


def rate(load: Load, count: Count, cpu: float) -> float:
    """Return work per second, or per CPU second of the peer, as the load wants it."""
    divisor = count.seconds if load.per == "second" else cpu
    return count.work / divisor if divisor else 0.0
