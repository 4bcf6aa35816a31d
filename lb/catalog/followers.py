"""Services with a long poll of their own: the few that changed most recently, for they are likely to change again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from lb.catalog.fetcher import Fetcher, service_path
from lb.catalog.ledger import Ledger
from lb.catalog.pace import Pace
from lb.catalog.reader import Patience, Reader, answer_cost
from lb.errors import CatalogError

_INTERVAL = 0.01

# The server goes on waiting for a long poll that was abandoned. So replacing is slow once it goes beyond a burst.
_REPLACE_INTERVAL = 5.0
_REPLACE_BURST = 8


class Followers:
    """At most `limit` long polls on single services; a change of another service takes the place of the oldest."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        reader: Reader,
        fetcher: Fetcher,
        ledger: Ledger,
        *,
        limit: int,
        wait: float,
    ) -> None:
        self._group = group
        self._reader = reader
        self._fetcher = fetcher
        self._ledger = ledger
        self._limit = limit
        self._wait = wait
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._replacing = Pace(_REPLACE_INTERVAL, _REPLACE_BURST)

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> frozenset[str]:
        """The services that are followed."""
        return frozenset(self._tasks)

    def fill(self, names: Iterable[str]) -> None:
        """Follow as many of these services as there are free places."""
        for name in names:
            if len(self._tasks) >= self._limit:
                return
            if name not in self._tasks:
                self._start(name)

    def changed(self, name: str) -> None:
        """A service changed: follow it, or go on doing so."""
        if name in self._tasks:
            self._tasks[name] = self._tasks.pop(name)  # the order of the dict is the order of changes
            return
        if len(self._tasks) >= self._limit:
            now = time.monotonic()
            if not self._limit or self._replacing.delay(now):
                return
            self._replacing.take(now)
            oldest = next(iter(self._tasks))
            self.drop(oldest)
            self._fetcher.want((oldest,))  # a change that its long poll was just about to bring
        self._start(name)

    def drop(self, name: str) -> None:
        """Follow a service no longer."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    def _start(self, name: str) -> None:
        self._tasks[name] = self._group.create_task(self._follow(name), name=f"follow-{name}")

    async def _follow(self, name: str) -> None:
        """Follow one service with blocking queries for ever."""
        pace = Pace(_INTERVAL)
        patience = Patience(f"service {name}")
        path = service_path(name)
        while True:
            await asyncio.sleep(pace.delay(time.monotonic()))
            try:
                answer = await self._reader.get(path, index=self._ledger.index(name), wait=self._wait)
                if answer.index < self._ledger.index(name):
                    useful = False
                    await self._fetcher.read(name)  # a server that is behind, or a new count: ask the leader
                else:
                    useful = self._fetcher.apply(name, answer, leader=False)
            except CatalogError as error:
                await patience.suffer(error)
                continue
            patience.relax()
            pace.take(time.monotonic(), answer_cost(answer, useful))
