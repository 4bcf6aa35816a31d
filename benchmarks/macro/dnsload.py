"""Loads for DNS servers, made by dnsperf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Literal

from benchmarks.macro import probes
from benchmarks.macro.load import PACE_TOLERANCE, Count, Load, percentile
from benchmarks.macro.namechanges import changing_names
from benchmarks.macro.names import Question, answers_to, dnsperf_input, unseen
from benchmarks.macro.peer import Peer, Running
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import Site

PATIENCE = 5.0
"""Seconds in which a peer must come to the right answers before it is measured."""

UNSEEN_RATE = 150_000
"""Questions never asked before that there are for each second of a run, which ends early if they are used up."""


@dataclass(frozen=True, slots=True)
class DnsLoad(Load):
    """Questions by dnsperf, over and over, from `clients` sockets, with at most `outstanding` questions under way.

    `needs_recursor`: it is a recursor behind the peers that knows the names.
    """

    questions: Sequence[Question]
    edns: bool = False
    needs_recursor: bool = False
    clients: int = 8
    outstanding: int = 100

    @property
    def tool(self) -> str:
        """Return the program that makes the load."""
        return "dnsperf"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the programs without which there is no such load."""
        return ("dnsperf", "unbound") if self.needs_recursor else ("dnsperf",)

    @contextmanager
    def around(self, running: Running) -> Iterator[None]:
        """Ask some of the questions before: raises `BenchmarkError` unless the answers are right before long."""
        expected = answers_to(self.samples())
        probes.expect_answers(running.ports[self.kind], expected, edns=self.edns, patience=PATIENCE)
        yield

    def samples(self) -> list[Question]:
        """Return the questions that a peer must answer before it is measured."""
        return [*self.questions[:2], *self.questions[-2:]]

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the dnsperf command, with its questions written below the work folder."""
        return self._dnsperf(site, port, seconds, self.questions)

    def _dnsperf(self, site: Site, port: int, seconds: int, questions: Iterable[Question]) -> list[str]:
        file = site.work / f"{self.name}.queries"
        file.write_text(dnsperf_input(questions))
        return [
            "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(file), "-l", str(seconds),
            "-c", str(self.clients), "-T", str(site.client_threads), "-q", str(self.outstanding),
            *(["-e"] if self.edns else []),
        ]  # fmt: skip

    def parse(self, output: str) -> Count:
        """Read dnsperf's statistics. A lost question is an error, and so is any answer but NOERROR."""
        completed = _number(output, r"Queries completed:\s+(\d+)")
        good = _number(output, r"Response codes:.*?NOERROR (\d+)") if completed else 0.0
        return Count(
            work=good,
            seconds=_number(output, r"Run time \(s\):\s+([\d.]+)"),
            errors=int(_number(output, r"Queries lost:\s+(\d+)") + completed - good),
            p99_ms=None,
        )


@dataclass(frozen=True, slots=True)
class UnseenDnsLoad(DnsLoad):
    """The questions with their names in patterns of upper and lower case that no question of any run had before.

    Resolvers ask so (0x20), and a server keeps the case in its answer: no cache of replies helps it.
    """

    numbers: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    def samples(self) -> list[Question]:
        """Return the questions that a peer must answer before it is measured; they are asked never again."""
        return self._take(4)

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the dnsperf command, with new questions, of which none is asked twice."""
        return [*self._dnsperf(site, port, seconds, self._take(UNSEEN_RATE * seconds)), "-n", "1"]

    def _take(self, most: int) -> list[Question]:
        return [unseen(self.questions, number) for number in islice(self.numbers, most)]


@dataclass(frozen=True, slots=True)
class ChangesDnsLoad(DnsLoad):
    """Questions at a constant `rate` (queries/s) while the catalog behind the peer changes each `every` seconds.

    Its result is the latency. What a peer falls behind by more than the tolerance counts as errors.
    """

    rate: int = 10_000
    every: float = 0.1
    peers: frozenset[str] = frozenset()

    @property
    def result(self) -> Literal["rate", "latency"]:
        """Return what the load finds out."""
        return "latency"

    def suits(self, peer: Peer) -> bool:
        """Tell whether the peer takes part."""
        return Load.suits(self, peer) and peer.name in self.peers

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the dnsperf command, which prints a line for each answer."""
        return [
            *self._dnsperf(site, port, seconds, self.questions), "-Q", str(self.rate), "-v",
        ]  # fmt: skip

    @contextmanager
    def around(self, running: Running) -> Iterator[None]:
        """Change the catalog meanwhile; afterwards, make sure that the peer has followed."""
        assert running.agent is not None
        with DnsLoad.around(self, running), changing_names(running.agent, running.ports[self.kind], self.every):
            yield

    def parse(self, output: str) -> Count:
        """Read the lines of answers, and dnsperf's statistics."""
        total = DnsLoad.parse(self, output)
        times = sorted(round(float(text) * 1e6) for text in re.findall(r"^> NOERROR .* ([\d.]+)$", output, re.M))
        if not times:
            raise BenchmarkError(f"dnsperf printed no latencies: {output[-300:]!r}")
        due = self.rate * total.seconds * (1 - PACE_TOLERANCE)
        sent = _number(output, r"Queries sent:\s+(\d+)")
        return Count(
            work=total.work,
            seconds=total.seconds,
            errors=total.errors + max(0, round(due - sent)),
            p99_ms=percentile(times, 99) / 1e3,
            p50_ms=percentile(times, 50) / 1e3,
        )


def _number(output: str, pattern: str) -> float:
    found = re.search(pattern, output)
    if not found:
        raise BenchmarkError(f"dnsperf printed no {pattern!r}: {output[-300:]!r}")
    return float(found[1])
