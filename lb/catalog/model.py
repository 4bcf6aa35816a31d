"""What the catalog holds, as immutable values: no I/O, no clock.

A `Snapshot` is published whole and never changed; the next one shares all services that did not change,
so `old.services[name] is new.services[name]` tells cheaply that nothing happened to `name`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Health = Literal["passing", "warning", "critical"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service.

    `address` is where it is reached: the service's own address, else its node's (Consul's rule). It is an IP
    literal or a host name; `port` is 0 where none is registered. `health` is the worst check of the instance and of
    its node; maintenance mode is a critical check. `weight` and `weight_warning` are Consul's `Weights`.
    """

    service: str
    id: str
    node: str
    address: str
    port: int
    health: Health = "passing"
    service_address: str = ""
    node_address: str = ""
    datacenter: str = ""
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=_nothing)
    node_meta: Mapping[str, str] = field(default_factory=_nothing)
    tagged_addresses: Mapping[str, tuple[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    weight: int = 1
    weight_warning: int = 1
    modify_index: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the instance for as long as it is registered: node name and service ID."""
        return (self.node, self.id)


@dataclass(frozen=True, slots=True)
class Service:
    """All instances of one service, of any health, ordered by node and ID."""

    name: str
    instances: tuple[Instance, ...] = ()

    @property
    def passing(self) -> tuple[Instance, ...]:
        """The instances that traffic may be sent to."""
        return tuple(i for i in self.instances if i.health == "passing")

    @property
    def tags(self) -> frozenset[str]:
        """The tags of all instances together, as Consul's `/v1/catalog/services` gives them."""
        return frozenset(tag for instance in self.instances for tag in instance.tags)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the catalog; it may have no service at all."""

    name: str
    address: str
    id: str = ""
    datacenter: str = ""
    meta: Mapping[str, str] = field(default_factory=_nothing)
    tagged_addresses: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of the catalog that is not used, by name and reason.

    `kind` is a bounded label for metrics: `instance`, `option`, `route`, `listener`, and `registration` for what a
    container wants to be registered as. `subject` names the thing (`web/web-1@node`), `reason` says why, in a clause.
    """

    kind: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole catalog of one datacenter at one moment.

    `generation` rises by one with each publication of this process and starts at 1; 0 means that nothing
    has been learned yet. `fresh` is false for a catalog that was read back from disk and not yet confirmed
    by an agent.
    """

    services: Mapping[str, Service] = field(default_factory=lambda: MappingProxyType({}))
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    datacenter: str = ""
    generation: int = 0
    fresh: bool = True
    problems: tuple[Problem, ...] = ()

    def instances(self) -> Iterator[Instance]:
        """Every instance of every service."""
        for service in self.services.values():
            yield from service.instances
