"""What a load is: a command for one port, how to read what it printed, and what goes on around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from benchmarks.macro.peer import Kind, Peer, Running
from benchmarks.macro.site import Site

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

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the programs without which there is no such load."""
        return (self.tool,)

    def suits(self, peer: Peer) -> bool:
        """Tell whether the peer takes part."""
        return self.kind in peer.kinds and (not peer.loads or self.name in peer.loads)

    def around(self, running: Running) -> AbstractContextManager[None]:
        """Return what a peer is measured within: what is checked before and after, and what goes on meanwhile.

        It raises `BenchmarkError` where the peer does not do what it is measured for.
        """
        return nullcontext()

    @abstractmethod
    def command(self, site: Site, port: int, seconds: int) -> list[str]:
        """Return the command that puts the load on the port for so many seconds."""

    def count(self, site: Site, output: str) -> Count:
        """Return what a run did, from what its command printed or wrote below the work folder."""
        return self.parse(output)

    @abstractmethod
    def parse(self, output: str) -> Count:
        """Read what the command printed; raise `BenchmarkError` when the counts are not there."""


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the smallest of the ordered values that `percent` in a hundred of them do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
