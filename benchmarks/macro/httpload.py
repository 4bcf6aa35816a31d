"""Loads for HTTP and TCP proxies, made by wrk and h2load."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.macro.load import PACE_TOLERANCE, Count, Load, percentile
from benchmarks.macro.peer import Peer
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import HOST, Site

SCRIPT = Path(__file__).with_name("load.lua")
H2LOAD_TICK_MS = 10
"""h2load wakes a client of constant rate this often at most; it then sends what has come due."""


@dataclass(frozen=True, slots=True)
class WrkLoad(Load):
    """An HTTP load by wrk, through a TCP peer as well as through an HTTP one. `work` is what one request counts."""

    mode: str
    connections: int = 64
    work: float = 1.0

    @property
    def tool(self) -> str:
        """Return the program that makes the load."""
        return "wrk"

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the wrk command."""
        return [
            "wrk", f"-t{site.client_threads}", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s",
            "-s", str(SCRIPT), "-H", f"Host: {HOST}", f"http://127.0.0.1:{port}/", "--", self.mode,
        ]  # fmt: skip

    def parse(self, output: str) -> Count:
        """Read the line that load.lua prints at the end."""
        try:
            last = json.loads(output.splitlines()[-1])
            return Count(
                work=last["requests"] * self.work,
                seconds=last["seconds"],
                errors=last["errors"],
                p99_ms=last["p99_ms"],
            )
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(f"wrk printed no counts: {output[-300:]!r}") from error


@dataclass(frozen=True, slots=True)
class PacedLoad(Load):
    """An HTTP load by h2load at a constant `rate` (requests/s): its result is the latency at that rate.

    Clients of h2load that start together wake together: they would all ask at once, and wait for each other. So they
    start one after the other over the time between two wakings.
    """

    rate: int
    peers: frozenset[str]
    connections: int = 64

    @property
    def result(self) -> Literal["rate", "latency"]:
        """Return what the load finds out."""
        return "latency"

    @property
    def tool(self) -> str:
        """Return the program that makes the load."""
        return "h2load"

    def suits(self, peer: Peer) -> bool:
        """Tell whether the peer takes part."""
        return Load.suits(self, peer) and peer.name in self.peers

    def at(self, rate: float) -> PacedLoad:
        """Return the load with the rate that its clients can keep together: whole requests/s for each of them."""
        return replace(self, rate=max(1, int(rate / self.connections)) * self.connections)

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the h2load command, with its log of requests below the work folder."""
        log = self._log(site)
        log.unlink(missing_ok=True)
        starts = -(-self.connections // H2LOAD_TICK_MS)
        return [
            "h2load", "--h1", f"-t{site.client_threads}", f"-c{self.connections}", f"-n{self.rate * seconds}",
            f"--rps={self.rate // self.connections}", f"-r{starts}", "--rate-period=1ms", "-N", "10s",
            f"--log-file={log}", f"--connect-to=127.0.0.1:{port}", f"http://{HOST}/",
        ]  # fmt: skip

    def count(self, site: Site, output: str) -> Count:
        """Return what a run did, from its log of requests."""
        try:
            return self.parse(self._log(site).read_text())
        except OSError as error:
            raise BenchmarkError(f"h2load wrote no log: {error.strerror}; it printed {output[-300:]!r}") from error

    def parse(self, output: str) -> Count:
        """Read the log: a line for each request, with its start (µs since the epoch), its status and its duration (µs).

        What was not asked in time, because the peer fell behind by more than the tolerance, counts as errors.
        """
        try:
            rows = [tuple(map(int, line.split("\t")[:3])) for line in output.splitlines()]
            starts = [start for start, _, _ in rows]
            times = sorted(duration for _, status, duration in rows if status == 200)
        except ValueError as error:
            raise BenchmarkError(f"h2load wrote a log that cannot be read: {error}") from error
        if not times or len(rows) < 2:
            raise BenchmarkError("h2load got no reply")
        seconds = (max(starts) - min(starts)) / 1e6
        due = self.rate * seconds * (1 - PACE_TOLERANCE)
        return Count(
            work=len(times),
            seconds=seconds,
            errors=len(rows) - len(times) + max(0, round(due) - len(rows)),
            p99_ms=percentile(times, 99) / 1e3,
            p50_ms=percentile(times, 50) / 1e3,
        )

    def _log(self, site: Site) -> Path:
        return site.work / f"{self.name}.log"
