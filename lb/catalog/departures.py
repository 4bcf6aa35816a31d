"""Instances whose end is known here before Consul tells of it: left out of the catalog meanwhile (pure).

Who departs stays away until one of these happens:

- the catalog tells that the instance is gone: that is the end of it;
- the catalog tells of a later registration (a higher ModifyIndex), or of one at the place of which we were told that
  the instance is back there;
- `BOUND` seconds have passed: whatever we believed, the catalog is believed again.

The clock is an argument: monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lb.catalog.model import Instance, Service

BOUND = 60.0
"""Seconds for which our word counts for more than the catalog's."""


class Departed(NamedTuple):
    """Which instance: name of its service, its node, its service ID."""

    service: str
    node: str
    id: str


@dataclass(slots=True)
class _Departure:
    """One instance that is left out: registrations up to ModifyIndex `index`, until the time `until`.

    `seen` tells that the catalog has had it since, so that its absence means something. `back` is the address and port
    under which it was registered again.
    """

    index: float
    until: float
    seen: bool
    back: tuple[str, int] | None = None

    def covers(self, instance: Instance) -> bool:
        """Whether this registration is the one that is over."""
        return instance.modify_index <= self.index and self.back != (instance.service_address, instance.port)


class Departures:
    """Who departed, and what the catalog looks like without them."""

    def __init__(self) -> None:
        self._departures: dict[Departed, _Departure] = {}

    def __len__(self) -> int:
        return len(self._departures)

    def depart(self, who: Departed, services: Mapping[str, Service], now: float) -> None:
        """Leave an instance out from now on; `services` is what the catalog has."""
        former = self._departures.get(who)
        instance = _find(who, services)
        if former is not None and former.back is not None:
            # It came back and went again: the catalog may still have to tell of a registration that is over, too.
            self._departures[who] = _Departure(math.inf, now + BOUND, seen=False)
        elif former is not None:
            former.until = now + BOUND
        else:
            index = math.inf if instance is None else instance.modify_index
            self._departures[who] = _Departure(index, now + BOUND, seen=instance is not None)

    def come_back(self, who: Departed, address: str, port: int) -> None:
        """Note that an instance is registered again, with this address (empty: its node's) and port."""
        if who in self._departures:
            self._departures[who].back = (address, port)

    def expire(self, now: float) -> None:
        """Forget those whose time is over."""
        self._departures = {who: one for who, one in self._departures.items() if now < one.until}

    def without(self, services: Mapping[str, Service]) -> Mapping[str, Service]:
        """Return the catalog's services without the instances that departed; forget those that are no longer needed.

        A service that has no other instance is left out whole, as Consul does when it is deregistered.
        """
        hidden: dict[str, set[tuple[str, str]]] = {}
        for who, departure in list(self._departures.items()):
            instance = _find(who, services)
            if instance is not None and departure.covers(instance):
                departure.seen = True
                hidden.setdefault(who.service, set()).add(instance.key)
            elif instance is not None or departure.seen:
                del self._departures[who]
        if not hidden:
            return services
        left = dict(services)
        for name, keys in hidden.items():
            instances = tuple(i for i in services[name].instances if i.key not in keys)
            if instances:
                left[name] = Service(name, instances)
            else:
                del left[name]
        return left


def _find(who: Departed, services: Mapping[str, Service]) -> Instance | None:
    service = services.get(who.service)
    if service is None:
        return None
    return next((instance for instance in service.instances if instance.key == (who.node, who.id)), None)
