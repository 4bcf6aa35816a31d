"""What the registrator counts, and how it is doing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from registrator.events import EventKind

SideName = Literal["docker", "consul"]
WriteKind = Literal["register", "deregister", "check"]
Result = Literal["ok", "refused", "failed"]
SIDES: tuple[SideName, ...] = get_args(SideName)
WRITE_KINDS: tuple[WriteKind, ...] = get_args(WriteKind)
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(slots=True)
class Side:
    """One of the two that the registrator stands between. `error` is why it does not answer, if it does not."""

    connected: bool = False
    error: str = ""

    def lost(self, error: Exception) -> bool:
        """Note that it does not answer; return whether that is news."""
        news = self.connected or not self.error
        self.connected, self.error = False, str(error)
        return news

    def found(self) -> bool:
        """Note that it answers; return whether that is news."""
        news = not self.connected
        self.connected, self.error = True, ""
        return news


@dataclass(slots=True)
class RegistratorStats:
    """Counts of one registrator, and both sides. `resyncs` tells how often each side was read whole."""

    docker: Side = field(default_factory=Side)
    consul: Side = field(default_factory=Side)
    events: Counter[EventKind] = field(default_factory=Counter)
    writes: Counter[tuple[WriteKind, Result]] = field(default_factory=Counter)
    resyncs: Counter[SideName] = field(default_factory=Counter)
    inspections: int = 0
