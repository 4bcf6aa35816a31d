"""What became of the load's requests, read from what the loader on the client host prints."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.scenario.host import Host, Program
from tests.scenario.layout import EDGES, HOSTS
from tests.scenario.loader import CLIENTS, TIMEOUT
from tests.support.process import wait_until

LOADER = Path(__file__).with_name("loader.py")


class Exchange(NamedTuple):
    """One request or TCP exchange; `begin` and `end` are monotonic seconds, `result` is `ok` or the reason."""

    begin: float
    end: float
    edge: str
    client: int
    protocol: str
    result: str
    version: str


class Load:
    """Clients that never stop, through both edges, by HTTP and TCP."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._names = {address: name for name, address in HOSTS.items()}
        self._file = program.log.open()
        self._known: list[Exchange] = []
        self._rest = ""

    def exchanges(self, since: float) -> list[Exchange]:
        """Return what ended after that moment."""
        self._program.require_running()
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for begin, end, address, client, protocol, result, version in map(str.split, lines):
            edge = self._names[address]
            self._known.append(Exchange(float(begin), float(end), edge, int(client), protocol, result, version))
        return [each for each in self._known if each.end >= since]

    def settle(self) -> None:
        """Wait until every client has had an answer to something that it began after this call."""
        now = time.monotonic()

        def settled() -> bool:
            begun = {(each.edge, each.client, each.protocol) for each in self.exchanges(now) if each.begin >= now}
            return len(begun) == len(EDGES) * CLIENTS * 2

        wait_until(settled, timeout=2 * TIMEOUT + 5, step=0.05, what="every client of the load goes on")


class Losses(NamedTuple):
    """How many exchanges there were in a time, which of them failed, and how long the slowest took (seconds)."""

    total: int
    failed: Counter[tuple[str, str, str]]
    slowest: float

    @classmethod
    def of(cls, exchanges: list[Exchange]) -> Losses:
        """Sum up exchanges; failures by edge, protocol and reason."""
        failed = Counter((each.edge, each.protocol, each.result) for each in exchanges if each.result != "ok")
        return cls(len(exchanges), failed, max((each.end - each.begin for each in exchanges), default=0.0))

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {' '.join(what)}" for what, count in sorted(self.failed.items()))
        text = f"{self.failed.total()} of {self.total}, slowest {self.slowest:.1f} s"
        return f"{text}: {reasons}" if reasons else text


@contextlib.contextmanager
def running_load(client: Host) -> Iterator[Load]:
    """Put load on both edges for the length of a block."""
    program = client.start("loader", [sys.executable, "-S", LOADER, *(HOSTS[edge] for edge in EDGES)])
    try:
        load = Load(program)
        wait_until(program.log.read_text, what="the load begins")
        load.settle()
        yield load
    finally:
        program.kill()
