"""The shapes of what is shown: the balancer, the routing table and the watch are known by these alone.

So this room imports none of those rooms, and a test can hand in plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol


class EndpointLike(Protocol):
    """The balancer's endpoint, as far as it is shown. Times are whole seconds."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Node, service ID, host, port."""

    @property
    def name(self) -> str:
        """`host:port`, an IPv6 address in brackets."""

    @property
    def weight(self) -> int:
        """Configured weight; 0: gets nothing."""

    @property
    def active(self) -> int:
        """Connections or requests in flight."""

    @property
    def fails(self) -> int:
        """Failures that count at present."""

    @property
    def max_fails(self) -> int:
        """Failures that suspend it; 0: never."""

    @property
    def fail_timeout(self) -> int:
        """How long it is then suspended."""

    @property
    def max_conns(self) -> int:
        """Most connections at a time; 0: no limit."""

    def suspended(self, now: int) -> bool:
        """Tell whether it failed too often and its time is not over."""

    def full(self) -> bool:
        """Tell whether it has as many connections as it may."""


class WatchLike(Protocol):
    """How the watch on the catalog is doing, as far as it is shown; times are seconds."""

    @property
    def agent(self) -> str:
        """Base URL of the agent in use."""

    @property
    def connected(self) -> bool:
        """Whether it answers."""

    @property
    def datacenter(self) -> str:
        """The agent's datacenter."""

    @property
    def node(self) -> str:
        """The agent's node."""

    @property
    def answered_at(self) -> float | None:
        """Monotonic time of the last good answer."""

    @property
    def known_leader(self) -> bool:
        """Whether the answering server knows a leader."""

    @property
    def last_contact(self) -> float:
        """How long ago it heard from the leader."""

    @property
    def held(self) -> int:
        """Services kept until their vanishing is confirmed."""

    @property
    def connections(self) -> int:
        """Connections to the agent."""

    @property
    def answers(self) -> int:
        """Good answers."""

    @property
    def errors(self) -> Mapping[Any, int]:
        """Failed questions by kind."""

    @property
    def refetches(self) -> int:
        """Services read again."""

    @property
    def sweeps(self) -> int:
        """Readings of everything."""

    @property
    def publications(self) -> int:
        """Snapshots published."""

    @property
    def agent_changes(self) -> int:
        """How often another agent was turned to."""

    @property
    def last_error(self) -> str:
        """What went wrong last; empty: nothing."""


class RouteLike(Protocol):
    """A route of the routing table, as far as it is shown."""

    @property
    def service(self) -> str:
        """Name of the service."""

    @property
    def kind(self) -> Literal["http", "tcp", "tls"]:
        """Which listener it belongs to."""

    @property
    def policy(self) -> str:
        """Balancing policy."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Virtual hosts (HTTP) or server names (TLS)."""

    @property
    def path(self) -> str:
        """Path prefix (HTTP)."""

    @property
    def port(self) -> int:
        """Listening port (TCP)."""


class LogCounts(Protocol):
    """The access log, as far as it is counted."""

    @property
    def written(self) -> int:
        """Lines written."""

    @property
    def dropped(self) -> int:
        """Lines lost."""
