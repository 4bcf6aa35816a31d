"""How many connections one process has: no more than it has file descriptors for.

At the limit its doors stay shut, and connections wait in the kernel's queue; accepted, they would be closed unasked, as
the loop does with what it has no descriptor for. Clients that are silent make room first, as nginx's do when its
`worker_connections` are scarce.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import operator
import resource
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from lb.deadlines import NEVER
from lb.observe.log import fields

_SHARE = 16
"""A sixteenth of the limit is given up at a time, and must be free before the doors open again."""
_LOOK_AGAIN = 0.02  # seconds between two looks whether the doors may open
_REST = 20  # times as long as a search for silent clients took, none is made after it
_SAY_EVERY = 10.0

log = logging.getLogger(__name__)


def raise_limit() -> int:
    """Let this process open as many files as it may (its hard limit); returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """How many files this process may open now."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Seldom:
    """Tells when something may be said again, that could be said all the time."""

    __slots__ = ("_quiet_until",)

    def __init__(self) -> None:
        self._quiet_until = -NEVER

    def due(self, now: float) -> bool:
        """Whether to say it now (in seconds); if so, it is not due for a while."""
        if now < self._quiet_until:
            return False
        self._quiet_until = now + _SAY_EVERY
        return True


class Door(Protocol):
    """What accepts connections; both calls may come twice in a row."""

    def pause(self) -> None:
        """Accept no more for now; connections wait in the queue."""

    def resume(self) -> None:
        """Accept again."""


class Client(Protocol):
    """A client's connection."""

    @property
    def silent_since(self) -> float:
        """Loop time since which nothing is under way on it; NEVER while something is, or if it may not be closed."""

    def close_silent(self) -> bool:
        """Close it, as nothing is under way; tells whether it did."""


class Ceiling:
    """At most `limit` connections, and the few that came in the same turn of the loop as the last of them.

    `doors` gives the listeners, `clients` the sets of open connections, and `instances` how many connections there are
    to instances. They are looked at when it matters: there is no count to get out of step. `pauses` counts how often
    the doors were shut, `shed` the silent clients that were closed, and `paused` tells whether the doors are shut: one
    that is new then must not open.
    """

    __slots__ = (
        "_clients",
        "_closed",
        "_doors",
        "_instances",
        "_loop",
        "_pausing",
        "_room",
        "_search_from",
        "_shedding",
        "_timer",
        "_told",
        "limit",
        "paused",
        "pauses",
        "shed",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        doors: Callable[[], Iterable[Door]],
        clients: Callable[[], Iterable[Collection[Client]]],
        instances: Callable[[], int] = lambda: 0,
    ) -> None:
        self._loop = loop
        self._doors = doors
        self._clients = clients
        self._instances = instances
        self._room = 0  # so many may come before they have to be counted
        self._search_from = -NEVER
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._told = False
        self._pausing = Seldom()
        self._shedding = Seldom()
        self.limit = limit
        self.paused = False
        self.pauses = 0
        self.shed = 0

    def admit(self) -> None:
        """To be called for each connection that is accepted; what follows from it is done in the loop's next turn."""
        self._room -= 1
        if self._room < 0 and self._timer is None and not self._closed:
            self._room = self._room_beside(self._count())
            if self._room <= 0:
                self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        """Leave the doors as they are from now on: they are being closed for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _share(self) -> int:
        return self.limit // _SHARE

    def _count(self) -> int:
        return sum(map(len, self._clients())) + self._instances()

    def _room_beside(self, count: int) -> int:
        """How many clients may come before it matters again: each may need an instance."""
        return (self.limit - self._share - count) // 2

    def _look(self) -> None:
        """Make room, shut the doors at the limit, and open them when there is room again."""
        self._timer = None
        count = self._count()
        if count >= self.limit - self._share:
            count -= self._make_room()
        if count >= self.limit:
            self._pause(count)
        elif self.paused and count <= self.limit - max(1, self._share):
            self._resume()
        self._room = self._room_beside(count)
        if self.paused:
            self._timer = self._loop.call_later(_LOOK_AGAIN, self._look)

    def _make_room(self) -> int:
        """Close those that have been silent for longest; returns how many.

        All have to be looked at for that: not again at once when it took long.
        """
        start = self._loop.time()
        if start < self._search_from:
            return 0
        everybody = itertools.chain.from_iterable(self._clients())
        silent = [(since, client) for client in everybody if (since := client.silent_since) < NEVER]
        eldest = heapq.nsmallest(max(1, self._share), silent, key=operator.itemgetter(0))
        closed = sum(client.close_silent() for _, client in eldest)
        end = self._loop.time()
        self._search_from = end + _REST * (end - start)
        self.shed += closed
        if closed and self._shedding.due(end):
            log.warning(
                "silent clients are closed to make room", extra=fields(connections=self._count(), limit=self.limit)
            )
        return closed

    def _pause(self, count: int) -> None:
        if self.paused:
            return
        self.paused = True
        self.pauses += 1
        for door in self._doors():
            door.pause()
        self._told = self._pausing.due(self._loop.time())
        if self._told:
            log.error(
                "no more connections are accepted until some are closed: file descriptors would run out",
                extra=fields(connections=count, limit=self.limit, descriptors=descriptor_limit()),
            )

    def _resume(self) -> None:
        self.paused = False
        for door in self._doors():
            door.resume()
        if self._told:
            log.warning("connections are accepted again", extra=fields(connections=self._count(), limit=self.limit))
