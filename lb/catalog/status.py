"""How the watch is doing, for metrics, readiness and `consul-edge status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from lb.errors import AgentRefused, AgentUnreachable, CatalogError

ErrorKind = Literal["unreachable", "denied", "refused", "bad_answer"]


def error_kind(error: CatalogError) -> ErrorKind:
    """Return the bounded label under which an error is counted; a refused token is `denied`."""
    if isinstance(error, AgentUnreachable):
        return "unreachable"
    if isinstance(error, AgentRefused):
        return "denied" if error.status in (401, 403) else "refused"
    return "bad_answer"


@dataclass(slots=True)
class WatchStatus:
    """What the watcher knows about itself; it alone writes.

    `agent` is the base URL in use (or last tried), `connected` says that it answers. `datacenter` and
    `node` are the agent's own. `answered_at` is the monotonic time of the last good answer (None: none
    yet). `last_contact` is how long ago (seconds) the answering server had heard from its leader. `held`
    counts services that vanished and are kept by the empty guard, `connections` the TCP connections to the
    agent.
    """

    agent: str = ""
    connected: bool = False
    datacenter: str = ""
    node: str = ""
    answered_at: float | None = None
    known_leader: bool = False
    last_contact: float = 0.0
    held: int = 0
    connections: int = 0
    followed: int = 0
    answers: int = 0
    refetches: int = 0
    sweeps: int = 0
    publications: int = 0
    agent_changes: int = 0
    errors: Counter[ErrorKind] = field(default_factory=Counter)
    last_error: str = ""
