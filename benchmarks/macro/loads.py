"""What is asked of peers. A load is a command for one port, and how to read what it printed.

To add one: an entry in `LOADS` (and a mode in load.lua, for one that wrk drives).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.macro import configs
from benchmarks.macro.peer import Kind, Peer
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import BULK_BYTES, DNS_NAMES, HOST, Site, dns_name

SCRIPT = Path(__file__).with_name("load.lua")
MEGABYTE = 1_000_000

H2LOAD_TICK_MS = 10
"""h2load wakes a client of constant rate this often at most; it then sends what has come due."""

PACE_TOLERANCE = 0.05
"""The share of a constant rate by which a peer may fall behind."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one run of a load did: units of work, in how many seconds, how many failures, percentiles of the latency."""

    work: float
    seconds: float
    errors: int
    p99_ms: float | None
    p50_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Load(ABC):
    """A load for peers of one kind.

    The rate is `unit` per second, or per second of the peer's CPU time where the load generator would be the
    bottleneck.
    """

    name: str
    about: str
    kind: Kind
    unit: str
    per: Literal["second", "CPU second"]

    @property
    def rate_unit(self) -> str:
        """Return the unit of the rate, such as `requests/s`."""
        return f"{self.unit}/s" if self.per == "second" else f"{self.unit} per CPU second"

    @property
    def result(self) -> Literal["rate", "latency"]:
        """Return what the load finds out: how much a peer can do, or how long it takes."""
        return "rate"

    @property
    @abstractmethod
    def tool(self) -> str:
        """Return the program that makes the load."""

    def suits(self, peer: Peer) -> bool:
        """Tell whether the peer takes part."""
        return self.kind in peer.kinds and (not peer.loads or self.name in peer.loads)

    @abstractmethod
    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the command that puts the load on the port for so many seconds."""

    def count(self, site: Site, output: str) -> Count:
        """Return what a run did, from what its command printed or wrote below the work folder."""
        return self.parse(output)

    @abstractmethod
    def parse(self, output: str) -> Count:
        """Read what the command printed; raise `BenchmarkError` when the counts are not there."""


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


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the smallest of the ordered values that `percent` in a hundred of them do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True)
class DnsLoad(Load):
    """Questions by dnsperf, over and over through the first `names` names."""

    names: int

    @property
    def tool(self) -> str:
        """Return the program that makes the load."""
        return "dnsperf"

    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the dnsperf command, with its questions written below the work folder."""
        questions = site.work / f"{self.name}.queries"
        questions.write_text(configs.queries(dns_name(index) for index in range(self.names)))
        return [
            "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions),
            "-l", str(seconds), "-c", "8", "-T", str(site.client_threads), "-q", "100",
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


def _number(output: str, pattern: str) -> float:
    found = re.search(pattern, output)
    if not found:
        raise BenchmarkError(f"dnsperf printed no {pattern!r}: {output[-300:]!r}")
    return float(found[1])


def _bulk(name: str, about: str, kind: Kind, mode: str) -> WrkLoad:
    return WrkLoad(
        name, about, kind, unit="MB", per="CPU second", mode=mode, connections=16, work=BULK_BYTES / MEGABYTE
    )


SMALL = WrkLoad("http-small", "GET, small reply, 64 kept connections", "http", "requests", "second", "small")

PACEMAKER = "nginx-tuned"
"""The peer whose rate under `SMALL` sets the pace of paced loads: half of it."""

LOADS: Sequence[Load] = (
    SMALL,
    WrkLoad("http-browser", "the same with 13 headers of a browser", "http", "requests", "second", "browser"),
    WrkLoad(
        "http-unique", "the same with a path and a cookie never seen before", "http", "requests", "second", "unique"
    ),
    WrkLoad("http-connect", "GET, a new connection for each request", "http", "requests", "CPU second", "connect"),
    _bulk("http-bulk", "GET, replies of 1 MiB", "http", "bulk"),
    _bulk("http-upload", "POST, bodies of 1 MiB", "http", "upload"),
    PacedLoad(
        "http-paced",
        f"the requests of http-small at a constant rate, half of what {PACEMAKER} makes of them",
        "http",
        "requests",
        "second",
        rate=0,
        peers=frozenset({"consul-edge", "nginx-tuned", "haproxy"}),
    ),
    WrkLoad("tcp-small", "small request and reply, 64 kept connections", "tcp", "requests", "second", "small"),
    WrkLoad("tcp-connect", "a new connection for each request", "tcp", "requests", "CPU second", "connect"),
    _bulk("tcp-bulk", "1 MiB to the client", "tcp", "bulk"),
    _bulk("tcp-upload", "1 MiB from the client", "tcp", "upload"),
    WrkLoad("http-workers", "http-small on all cores", "http-workers", "requests", "second", "small"),
    WrkLoad("http-workers-cpu", "the same", "http-workers", "requests", "CPU second", "small"),
    DnsLoad("dns-hot", "one name, three addresses", "dns", "queries", "second", names=1),
    DnsLoad("dns-names", f"{DNS_NAMES} names in turn", "dns", "queries", "second", names=DNS_NAMES),
    DnsLoad("dns-workers", "dns-hot on all cores", "dns-workers", "queries", "second", names=1),
    DnsLoad("dns-workers-cpu", "the same", "dns-workers", "queries", "CPU second", names=1),
)
