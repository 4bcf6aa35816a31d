"""Docker -> roster: events as they come, and everything anew whenever something may have been missed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from lb.catalog.pace import Backoff
from lb.errors import EngineError, InspectError
from lb.observe.log import fields
from lb.settings import RegistratorSettings
from registrator.docker import Engine
from registrator.events import Event
from registrator.model import Registration
from registrator.roster import Found, Roster
from registrator.stats import RegistratorStats

INSPECTIONS = 8
"""Side by side."""

RETRY_LONGEST = 5.0
"""Seconds between attempts to reach an engine that has been reached before."""

STEADY = 10.0
"""Seconds after which an event stream counts as one that lives: the pauses between attempts then begin anew."""

log = logging.getLogger(__name__)


class Follower:
    """Keeps a roster up to what one engine says.

    `changed` is called when the roster may be another one, `departed` before that, with what has ended.
    """

    def __init__(
        self,
        engine: Engine,
        roster: Roster,
        settings: RegistratorSettings,
        stats: RegistratorStats,
        changed: Callable[[], None],
        departed: Callable[[Sequence[Registration]], None],
    ) -> None:
        self._engine = engine
        self._roster = roster
        self._settings = settings
        self._stats = stats
        self._changed = changed
        self._departed = departed
        self._slots = asyncio.Semaphore(INSPECTIONS)
        self._inspecting: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._doubt = asyncio.Event()  # a comparison is wanted
        self._backoff = Backoff(0.1, RETRY_LONGEST)

    async def run(self) -> None:
        """Follow the engine until cancelled. Raises EngineError if it is not reached within the attempts there are."""
        failures = 0
        try:
            while True:
                try:
                    await self._follow()
                except EngineError as error:
                    failures += 1
                    if self._stats.docker.lost(error):
                        log.warning("Docker does not answer", extra=fields(reason=str(error)))
                    if not self._roster.complete and failures == self._settings.attempts:
                        raise EngineError(f"Docker is not reached in {failures} attempts: {error}") from error
                await asyncio.sleep(self._backoff.next() if self._roster.complete else self._settings.retry_interval)
        finally:
            await self._end(self._inspecting.values())

    async def _follow(self) -> None:
        """Open the event stream and compare, again and again, until the stream ends. Raises EngineError."""
        # The engine tells what happens from this moment on, however late it hears the question; what happened before,
        # the comparison shows.
        listening = asyncio.create_task(self._listen(await self._engine.time()), name="Docker events")
        began = time.monotonic()
        try:
            while True:
                self._doubt.clear()
                await self._compare()
                await self._until_doubtful(listening)
                if listening.done():
                    listening.result()
                    raise EngineError(f"{self._engine.address}: the event stream has ended")
        finally:
            if time.monotonic() - began >= STEADY:
                self._backoff.reset()
            await self._end([listening])

    async def _until_doubtful(self, listening: asyncio.Task[None]) -> None:
        """Wait until a comparison is due, for whatever reason, or the stream has ended."""
        doubt = asyncio.create_task(self._doubt.wait())
        try:
            await asyncio.wait(
                {listening, doubt}, timeout=self._settings.resync or None, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            doubt.cancel()

    # Everything

    async def _compare(self) -> None:
        """Ask for all containers that run, and take over what is said."""
        turn = self._roster.turn()
        found = await self._inspect_all(await self._engine.running())
        failed: dict[str, Found] = {}
        if self._settings.deregister == "on-success":
            failed = await self._inspect_all(await self._engine.ended())
        if self._stats.docker.found():
            log.info("Docker answers", extra=fields(engine=self._engine.address, containers=len(found)))
        self._stats.resyncs["docker"] += 1
        gone = self._roster.compare(found, turn)
        self._roster.tell_failed((one for one in failed.values() if one and not isinstance(one, str)), turn)
        self._tell(gone)

    async def _inspect_all(self, containers: Iterable[str]) -> dict[str, Found]:
        """Inspect containers, some side by side. Raises EngineError."""
        found: dict[str, Found] = {}
        rest = iter(containers)

        async def work() -> None:
            for container in rest:
                found[container] = await self._inspect(container)

        workers = [asyncio.create_task(work()) for _ in range(INSPECTIONS)]
        try:
            await asyncio.gather(*workers)
        finally:
            await self._end(workers)
        return found

    async def _inspect(self, container: str) -> Found:
        """Ask how one container is; if the answer is of no use, return what is wrong with it. Raises EngineError."""
        async with self._slots:
            self._stats.inspections += 1
            try:
                return await self._engine.inspect(container)
            except InspectError as error:
                return str(error)

    # What happens

    async def _listen(self, since: int) -> None:
        async with contextlib.aclosing(self._engine.events(since)) as events:
            async for event in events:
                self._stats.events[event.kind] += 1
                self._take(event)

    def _take(self, event: Event) -> None:
        """Do what follows from one event; nothing here waits for anything."""
        if event.kind == "die":
            self._tell(self._roster.end(event.container, event.exit_code))
        elif event.kind == "destroy":
            self._roster.forget(event.container)
            self._changed()
        elif event.kind == "start" or event.container in self._roster:
            self._roster.touch(event.container)
            self._inspect_soon(event.container)

    def _inspect_soon(self, container: str) -> None:
        """Have a container inspected, once more if that is under way."""
        if container in self._inspecting:
            self._again.add(container)
            return
        task = asyncio.create_task(self._follow_up(container), name=f"inspection of {container[:12]}")
        self._inspecting[container] = task

    async def _follow_up(self, container: str) -> None:
        """Inspect a container until nothing has happened to it meanwhile."""
        try:
            self._again.add(container)
            while container in self._again:
                self._again.discard(container)
                turn = self._roster.turn()
                self._tell(self._roster.tell(container, await self._inspect(container), turn))
        except EngineError as error:
            log.debug("a container cannot be inspected: %s", error)
            self._doubt.set()
        finally:
            del self._inspecting[container]
            self._again.discard(container)

    def _tell(self, gone: list[Registration]) -> None:
        if gone:
            self._departed(gone)
        self._changed()

    @staticmethod
    async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
        tasks = list(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
