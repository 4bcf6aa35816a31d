"""What is asked of peers. A load is a command for one port, and how to read what it printed.

To add one: an entry in `LOADS` (and a mode in load.lua, for one that wrk drives).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.macro import configs
from benchmarks.macro.peers import Kind
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import BULK_BYTES, DNS_NAMES, HOST, Site, dns_name

SCRIPT = Path(__file__).with_name("load.lua")
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Count:
    """What one run of a load did: units of work, in how many seconds, with how many failures; the 99th percentile."""

    work: float
    seconds: float
    errors: int
    p99_ms: float | None


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
    @abstractmethod
    def tool(self) -> str:
        """Return the program that makes the load."""

    @abstractmethod
    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the command that puts the load on the port for so many seconds."""

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


LOADS: Sequence[Load] = (
    WrkLoad("http-small", "GET, small reply, 64 kept connections", "http", "requests", "second", "small"),
    WrkLoad("http-browser", "the same with 13 headers of a browser", "http", "requests", "second", "browser"),
    WrkLoad(
        "http-unique", "the same with a path and a cookie never seen before", "http", "requests", "second", "unique"
    ),
    WrkLoad("http-connect", "GET, a new connection for each request", "http", "requests", "CPU second", "connect"),
    _bulk("http-bulk", "GET, replies of 1 MiB", "http", "bulk"),
    _bulk("http-upload", "POST, bodies of 1 MiB", "http", "upload"),
    WrkLoad("tcp-small", "small request and reply, 64 kept connections", "tcp", "requests", "second", "small"),
    WrkLoad("tcp-connect", "a new connection for each request", "tcp", "requests", "CPU second", "connect"),
    _bulk("tcp-bulk", "1 MiB to the client", "tcp", "bulk"),
    _bulk("tcp-upload", "1 MiB from the client", "tcp", "upload"),
    DnsLoad("dns-hot", "one name, three addresses", "dns", "queries", "second", names=1),
    DnsLoad("dns-names", f"{DNS_NAMES} names in turn", "dns", "queries", "second", names=DNS_NAMES),
)
