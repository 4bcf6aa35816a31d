"""What happened: operations and failures by client, and what each failure is put down to. Pure: times are arguments."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

KILL_SECONDS = 1.0
"""What was under way when a worker was killed, or began this long after it, may be lost."""

TAKEOVER_SECONDS = 10.0
"""How long after the signal to upgrade the old program may begin to drain."""

KEPT_FAILURES = 20
"""Unexpected failures that are told one by one: the first ones."""

KEPT_EVENTS = 16
"""Kills and upgrades to which a failure can still be put down: the last ones."""

Cause = Literal["", "kill", "drain"]
"""Why something failed: because a worker was killed, because a drain had its time; empty is unexpected."""


class Failure(NamedTuple):
    """One failed operation of a client; times in seconds of one clock."""

    client: str
    kind: str
    began: float
    ended: float


@dataclass
class Ledger:
    """Everything that is counted in one run.

    `drain_timeout` is how long the program lets open connections live after an upgrade: a connection that is `kept`
    for longer is closed then, and rightly so.
    """

    drain_timeout: float
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str, Cause]] = field(default_factory=Counter)
    """By client, kind and cause."""
    repeated: int = 0
    """Requests on connections that were closed while idle: made again on a new one, as a browser does it."""
    unexpected: list[Failure] = field(default_factory=list)
    kills: int = 0
    upgrades: int = 0
    lags: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from a change at the agent until it had taken effect, by what was changed."""
    replacements: list[float] = field(default_factory=list)
    """Seconds until a killed worker had a successor."""
    notes: list[str] = field(default_factory=list)
    _kill_times: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    _upgrade_times: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))

    def succeed(self, client: str) -> None:
        """Count an operation that went well."""
        self.done[client] += 1

    def fail(self, failure: Failure, *, kept: bool = False) -> None:
        """Count a failure under its cause; `kept` says that the connection was to stay open for ever."""
        cause = self._cause(failure, kept)
        self.failed[failure.client, failure.kind, cause] += 1
        if not cause and len(self.unexpected) < KEPT_FAILURES:
            self.unexpected.append(failure)

    def kill(self, now: float) -> None:
        """Note that a worker is killed now; to be called before it is."""
        self.kills += 1
        self._kill_times.append(now)

    def upgrade(self, now: float) -> None:
        """Note that the program is told to upgrade now; to be called before it is."""
        self.upgrades += 1
        self._upgrade_times.append(now)

    def lag(self, what: str, seconds: float) -> None:
        """Note how long a change took until it had taken effect."""
        self.lags.setdefault(what, []).append(seconds)

    def note(self, text: str) -> None:
        """Keep a word for the end, once."""
        if text not in self.notes:
            self.notes.append(text)

    def errors(self) -> int:
        """Return how many failures were unexpected."""
        return sum(count for (_, _, cause), count in self.failed.items() if not cause)

    def failures_of(self, client: str, cause: Cause) -> dict[str, int]:
        """Return a client's failures of one cause, by kind."""
        return {kind: n for (who, kind, why), n in sorted(self.failed.items()) if (who, why) == (client, cause)}

    def clients(self) -> Sequence[str]:
        """Return the clients that did something, in order."""
        return sorted({*self.done, *(client for client, _, _ in self.failed)})

    def _cause(self, failure: Failure, kept: bool) -> Cause:
        if any(failure.began <= kill + KILL_SECONDS and failure.ended >= kill for kill in self._kill_times):
            return "kill"
        drained = (begin + self.drain_timeout for begin in self._upgrade_times)
        if kept and any(failure.began <= end + TAKEOVER_SECONDS and failure.ended >= end for end in drained):
            return "drain"
        return ""
