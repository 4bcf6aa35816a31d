"""One instance as a balancer sees it: its options, and what is known of its health.

The rules are nginx's (`ngx_http_upstream_round_robin.c`). No timer runs: a moment is compared when it
matters, in whole seconds of any clock that never goes back.
"""

from __future__ import annotations

from typing import Any, Protocol


class EndpointSpec(Protocol):
    """What a group must be told of an endpoint; `lb.routing` has a class of this shape.

    Specs with an equal `key` (node, service ID, host, port) mean the same endpoint: its state survives a
    change of its options. `weight` 0 means that the endpoint gets nothing, `max_fails` 0 that it is never
    suspended, `max_conns` 0 that it has no limit; `fail_timeout` is in whole seconds.
    """

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What identifies the endpoint."""

    @property
    def host(self) -> str:
        """IP literal or host name."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def weight(self) -> int:
        """Its share of the traffic, beside the others' weights."""

    @property
    def max_fails(self) -> int:
        """Failures after which it is suspended."""

    @property
    def fail_timeout(self) -> int:
        """How long it then is, and how long failures count."""

    @property
    def max_conns(self) -> int:
        """Most attempts at a time."""


class Endpoint:
    """The state of one endpoint.

    - `effective`: the weight in force; a failure lowers it, each pick that considers the endpoint raises it
      by one.
    - `current`: the place in smooth weighted round robin; the highest is next.
    - `fails`: failures that still count.
    - `accessed`: when it failed last; `checked`: when it failed or was tried again last.
    - `active`: attempts acquired and not yet released.
    - `removed`: true once the catalog no longer has it; what is in flight goes on.
    - `pool`: room for the owner's idle connections; unknown here.
    """

    __slots__ = (
        "accessed",
        "active",
        "checked",
        "current",
        "effective",
        "fail_timeout",
        "fails",
        "host",
        "key",
        "max_conns",
        "max_fails",
        "name",
        "pool",
        "port",
        "removed",
        "weight",
    )

    def __init__(self, spec: EndpointSpec) -> None:
        self.key = spec.key
        self.host = spec.host
        self.port = spec.port
        self.name = f"[{spec.host}]:{spec.port}" if ":" in spec.host else f"{spec.host}:{spec.port}"
        self.weight = self.effective = spec.weight
        self.current = 0
        self.fails = 0
        self.accessed = 0
        self.checked = 0
        self.active = 0
        self.removed = False
        self.pool: Any = None
        self.configure(spec)

    def __repr__(self) -> str:
        state = f"weight={self.effective}/{self.weight} fails={self.fails} active={self.active}"
        return f"<Endpoint {self.name} {state}{' removed' if self.removed else ''}>"

    def configure(self, spec: EndpointSpec) -> None:
        """Take over the options of `spec`, which has the same key; a new weight is in force in full."""
        if self.weight != spec.weight:
            self.weight = self.effective = spec.weight
        self.max_fails = spec.max_fails
        self.fail_timeout = spec.fail_timeout
        self.max_conns = spec.max_conns

    def suspended(self, now: int) -> bool:
        """Tell whether it failed too often and its time is not over: *more* than `fail_timeout` must pass."""
        return self.fails >= self.max_fails > 0 and now - self.checked <= self.fail_timeout

    def full(self) -> bool:
        """Tell whether it has as many connections as it may."""
        return 0 < self.max_conns <= self.active

    def mark_failed(self, now: int) -> None:
        """Note a failed attempt, and lower the weight in force."""
        self.fails += 1
        self.accessed = self.checked = now
        if self.max_fails:
            self.effective = max(0, self.effective - self.weight // self.max_fails)

    def mark_succeeded(self) -> None:
        """Note a success: it clears the failures if it came more than `fail_timeout` after the last."""
        if self.accessed < self.checked:
            self.fails = 0
