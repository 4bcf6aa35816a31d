"""Loads, peers and samples that the tests of benchmarks share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.macro.dnsload import DnsLoad
from benchmarks.macro.httpload import PacedLoad, WrkLoad
from benchmarks.macro.load import Load
from benchmarks.macro.memory import Result, make_checks
from benchmarks.macro.names import address_questions
from benchmarks.macro.peer import Kind, Peer
from benchmarks.macro.report import Report
from benchmarks.macro.run import Sample
from benchmarks.macro.site import Site

WORK = Path("/nowhere")
SITE = Site(work=WORK, proxy_cpus=frozenset({0}), other_cpus=frozenset({1}), origin_ports=(1, 2, 3), held=ExitStack())
SMALL = WrkLoad("http-small", "small", "http", "requests", "second", mode="small")
BULK = WrkLoad("http-bulk", "bulk", "http", "MB", "CPU second", mode="bulk", work=2.0)
PACED = PacedLoad("http-paced", "", "http", "requests", "second", rate=6400, peers=frozenset({"consul-edge"}))
HOT = DnsLoad("dns-hot", "hot", "dns", "queries", "second", address_questions(1))


def sample(peer: str, value: float, *, load: str = "http-small", number: int = 1, errors: int = 0) -> Sample:
    return Sample(load=load, peer=peer, round=number, rate=value, busy=0.5, errors=errors, p99_ms=None)


def paced(peer: str, p50: float, p99: float) -> Sample:
    return Sample(load=PACED.name, peer=peer, round=1, rate=6400.0, busy=0.5, errors=0, p99_ms=p99, p50_ms=p50)


def peer(name: str, *kinds: Kind, loads: frozenset[str] = frozenset()) -> Peer:
    def never(_: Site) -> object:
        raise AssertionError("not to be started")

    return Peer(name=name, about="", kinds=frozenset(kinds), start=never, commands=(), loads=loads)  # type: ignore[arg-type]


def report(samples: list[Sample], loads: list[Load], memory: Sequence[Result] = ()) -> Report:
    return Report(
        machine={"cores": "2"},
        versions={"consul-edge": "0.1.0"},
        about={"consul-edge": "this program"},
        bases={"consul-edge-json": "consul-edge"},
        commands={"http-small": "wrk"},
        rounds=3,
        seconds=1,
        loads=loads,
        samples=samples,
        checks=make_checks(),
        memory=memory,
    )


def row(table: str, start: str) -> list[str]:
    """Return the cells of the only row that begins with `start`."""
    (line,) = (line for line in table.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]
