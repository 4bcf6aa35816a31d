"""What the registrator knows, as immutable values: containers, what they are registered as, what is registered.

No I/O and no clock. `inspect` makes containers of Docker's words, `services` registrations of containers, `plan`
compares registrations with what the agent has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Protocol = Literal["tcp", "udp"]
Health = Literal["", "starting", "healthy", "unhealthy"]
"""What Docker's HEALTHCHECK says; empty where a container has none."""

Status = Literal["passing", "warning", "critical"]

OWNER = "registrator"
"""The meta key that says who wrote a registration; its value is the name of the agent's node."""

CHECK_DIGEST = "registrator_check"
"""The meta key that tells two definitions of a check apart, as the agent's API does not show them."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Published:
    """Where one exposed port is published; `host_ip` is empty for all addresses of the host."""

    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Port:
    """One exposed port and where it is published; nowhere, if that is empty."""

    number: int
    protocol: Protocol = "tcp"
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container, as Docker's inspection tells it.

    `networks` are its addresses by network name; empty for `network_mode: host`. `running` is true for a paused
    container, too: it keeps its ports. `exit_code` counts once it does not run.
    """

    id: str
    name: str
    image: str
    running: bool = True
    paused: bool = False
    exit_code: int = 0
    health: Health = ""
    network_mode: str = "bridge"
    networks: Mapping[str, str] = field(default_factory=_nothing)
    ports: tuple[Port, ...] = ()
    labels: Mapping[str, str] = field(default_factory=_nothing)
    environment: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Word:
    """What the agent is to hear of a TTL check that is ours: at once, and again `every` so many seconds."""

    status: Status
    output: str
    every: float


@dataclass(frozen=True, slots=True)
class Check:
    """A check of a service, in the words of the agent's API (`HTTP`, `Interval`, `TTL`, ...).

    `word` is there for a TTL check that we feed, and only for that: the TTL check of SERVICE_CHECK_TTL is fed by
    the container itself.
    """

    definition: Mapping[str, Any]
    word: Word | None = None

    @property
    def is_ttl(self) -> bool:
        """Whether it is we who must tell the agent how things are."""
        return self.word is not None


@dataclass(frozen=True, slots=True)
class Registration:
    """A service as it is to be registered, for the port of one container."""

    container: str
    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=_nothing)
    check: Check | None = None

    @property
    def check_id(self) -> str:
        """The ID that the agent gives to the service's check."""
        return f"service:{self.id}"


@dataclass(frozen=True, slots=True)
class Registered:
    """A service that the agent has, registered by whomever. `checks` are its checks: their IDs and statuses."""

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=_nothing)
    checks: Mapping[str, Status] = field(default_factory=lambda: MappingProxyType({}))
