"""One instance as a balancer sees it: its options, what is known of its health, and where it stands in its group.

The rules are nginx's (`ngx_http_upstream_round_robin.c`). No timer runs: a moment is compared when it
matters, in whole seconds of any clock that never goes back.

Several workers may have the same endpoint. What its failures and connections amount to over all of them is the matter
of `EndpointState`. Where it stands in smooth weighted round robin is a sum, too: each worker writes to its own cell by
how much its picks moved the endpoint. So no pick is ever lost: of two that overlap, both may fall on the same
endpoint, but it pays for both. What the weight in force lacks is in one cell that any worker writes to. If two write at
once, the last write holds; it is never below zero or above the weight, and picks bring it to zero whatever was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lb.board.area import Cells, Kind
from lb.board.endpoint_state import EndpointState
from lb.board.ledger import Shape

CURRENT = len(EndpointState.SHAPE)
"""Row of an endpoint's block, after the state: what a worker's part of `current` is."""

LACK, _WEIGHT = 0, 1
"""Rows of the block in the common column: `weight - effective`, and 1 + the weight that both are for.

So rows of zeros are those of an endpoint that is new.
"""


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


class Endpoint(EndpointState):
    """The options and the state of one endpoint.

    - `active`, `fails`, `accessed`, `checked`: see `EndpointState`; `cells[row]` is what this worker has active.
    - `effective`: the weight in force; a failure lowers it, each pick that considers the endpoint raises it
      by one.
    - `current`: the place in smooth weighted round robin; the highest is next.
    - `standings`, `standing`, `common`: columns whose cells add up to `current`, the one that is this worker's, and
      the common one; or all three the same, of this worker alone.
    - `shared`: whether other workers have it, too.
    - `removed`: true once the catalog no longer has it; what is in flight goes on.
    - `pool`: room for the owner's idle connections; unknown here.
    """

    SHAPE: Shape = (*EndpointState.SHAPE, Kind.STATE)

    __slots__ = (
        "_shared_common",
        "common",
        "fail_timeout",
        "host",
        "key",
        "max_conns",
        "max_fails",
        "name",
        "pool",
        "port",
        "removed",
        "shared",
        "standing",
        "standings",
        "weight",
    )

    def __init__(
        self,
        spec: EndpointSpec,
        columns: Sequence[Cells],
        cells: Cells,
        row: int,
        common: Cells,
        *,
        shared: bool = True,
    ) -> None:
        super().__init__(columns, cells, row)
        self._shared_common = common
        self.stand_apart(False)
        self.shared = shared
        self.key = spec.key
        self.host = spec.host
        self.port = spec.port
        self.name = f"[{spec.host}]:{spec.port}" if ":" in spec.host else f"{spec.host}:{spec.port}"
        self.removed = False
        self.pool: Any = None
        self.configure(spec)

    def __repr__(self) -> str:
        state = f"weight={self.effective}/{self.weight} fails={self.fails} active={self.active}"
        return f"<Endpoint {self.name} {state}{' removed' if self.removed else ''}>"

    @property
    def current(self) -> int:
        """The place in smooth weighted round robin."""
        row = self.row + CURRENT
        total = 0
        for cells in self.standings:
            total += cells[row]
        return total

    def move(self, by: int) -> None:
        """Change `current`."""
        self.standing[self.row + CURRENT] += by

    @property
    def effective(self) -> int:
        """The weight in force."""
        return self.weight - self.common[self.row + LACK]

    def configure(self, spec: EndpointSpec) -> None:
        """Take over the options of `spec`, which has the same key."""
        self.weight = spec.weight
        self.max_fails = spec.max_fails
        self.fail_timeout = spec.fail_timeout
        self.max_conns = spec.max_conns

    def stand_apart(self, apart: bool) -> None:
        """Keep `current` and `effective` for this worker alone, or where the others have them."""
        if not apart:
            self.standings, self.standing, self.common = self.columns, self.cells, self._shared_common
        elif self.common is self._shared_common:
            self.standing = self.common = dict.fromkeys(range(self.row, self.row + len(self.SHAPE)), 0)
            self.standings = [self.standing]

    def stands_by_other_weight(self) -> bool:
        """Tell whether `current` was gathered by another weight than the present one."""
        return 0 < self.common[self.row + _WEIGHT] != self.weight + 1

    def accept_weight(self) -> None:
        """Put the weight in force in full, if it is new."""
        common, row = self.common, self.row
        if common[row + _WEIGHT] != self.weight + 1:
            common[row + LACK] = 0
            common[row + _WEIGHT] = self.weight + 1

    def suspended(self, now: int) -> bool:
        """Tell whether it failed too often and its time is not over: *more* than `fail_timeout` must pass."""
        return 0 < self.max_fails <= self.fails and now - self.checked <= self.fail_timeout

    def full(self) -> bool:
        """Tell whether it has as many connections as it may."""
        return 0 < self.max_conns <= self.active

    def mark_tried(self, now: int) -> None:
        """Note a pick: after `fail_timeout` one live request is the probe, and the time starts anew."""
        if now - self.checked > self.fail_timeout:
            self.check(now)

    def mark_failed(self, now: int) -> None:
        """Note a failed attempt, and lower the weight in force."""
        self.fail(now)
        if self.max_fails:
            common, row = self.common, self.row + LACK
            common[row] = min(self.weight, common[row] + self.weight // self.max_fails)

    def mark_succeeded(self) -> bool:
        """Note a success: it clears the failures if it came more than `fail_timeout` after the last.

        Returns whether it did.
        """
        if not self.fails or self.accessed >= self.checked:
            return False
        self.clear()
        return True
