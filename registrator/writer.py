"""Roster -> agent: what is wanted and what the agent has are compared whenever either changes, and the rest is written.

There is no list of things to do that could be lost or grow old: what is to be written follows anew from both sides each
time. What the agent has is read at the start, at each resync, after every failure, and once a service of ours changes
there by somebody else's hand, or the agent restarts: one blocking query waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine

from lb.catalog.model import Problem
from lb.catalog.pace import Backoff, Pace
from lb.catalog.registering import CONNECTIONS, LocalAgent
from lb.errors import AgentRefused, CatalogError
from lb.observe.log import fields
from lb.settings import RegistratorSettings
from registrator.book import Book
from registrator.heartbeat import Told, due, next_due
from registrator.model import Registration
from registrator.plan import Action, Plan, Register
from registrator.registered import registered
from registrator.roster import Roster
from registrator.services import payload
from registrator.stats import RegistratorStats, WriteKind
from registrator.tasks import until_first
from registrator.watch import until_changed

WRITES = CONNECTIONS - 2
"""Side by side: one connection is for reading, one for the query that waits."""

RETRY_FIRST = 0.1
RETRY_LONGEST = 5.0
"""Seconds from a failure to the next reading of the agent, at first and at most."""

READ_INTERVAL = 0.2
READ_BURST = 3
"""The agent is read so often in a row, then once in so many seconds, however often others change what is ours."""

CHECK_STEP = 1.0
"""Seconds between looks for checks that are due, while some are late."""

FINISH_TIMEOUT = 1.0
"""Seconds for what is being written at the end."""

EXIT_TIMEOUT = 5.0
"""Seconds for removing everything at exit."""

_NOT_FOUND = 404
_TOO_MANY = 429
_SERVER_ERROR = 500

log = logging.getLogger(__name__)


class Writer:
    """Keeps one agent up to a roster.

    `registered` is called with what the agent has of containers that run: when it was written, and whenever it is found
    there just as it is wanted.
    """

    def __init__(
        self,
        agent: LocalAgent,
        roster: Roster,
        settings: RegistratorSettings,
        stats: RegistratorStats,
        registered: Callable[[Registration], None],
    ) -> None:
        self._agent = agent
        self._roster = roster
        self._settings = settings
        self._stats = stats
        self._registered = registered
        self._book = Book()
        self._plan = Plan((), (), ())
        self._todo: deque[Action] = deque()
        self._last: deque[Action] = deque()  # only when nothing is being registered any more
        self._told: dict[str, Told] = {}  # by check ID
        self._telling: set[str] = set()  # check IDs
        self._writing: set[asyncio.Task[None]] = set()
        self._doubt = asyncio.Event()  # the agent is to be read
        self._owning = asyncio.Event()  # the agent may have something of ours
        self._replan = False  # once something has been written
        self._planning: asyncio.Handle | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._backoff = Backoff(RETRY_FIRST, RETRY_LONGEST)
        self._fault: Exception | None = None  # of ours, where nobody waits for the result
        self.settled = False

    @property
    def services(self) -> int:
        """How many services of ours the agent has."""
        return len(self._book.owned())

    @property
    def problems(self) -> list[Problem]:
        """What cannot be registered."""
        return [*self._plan.problems, *self._book.problems()]

    def changed(self) -> None:
        """Note that the roster may be another one; what follows is begun at the end of the loop's turn."""
        if self._planning is None:
            self._planning = asyncio.get_running_loop().call_soon(self._guard, self._act)

    # Reading the agent

    async def run(self) -> None:
        """Follow the roster until cancelled. Raises CatalogError if the agent is not reached within the attempts.

        A fault of our own, whatever it is, is raised, too.
        """
        failures = 0
        reached = False
        pace = Pace(READ_INTERVAL, READ_BURST)
        try:
            while True:
                await asyncio.sleep(pace.delay(time.monotonic()))
                pace.take(time.monotonic())
                if self._fault is not None:
                    raise self._fault
                try:
                    await self._read()
                    reached = True
                    await self._until_doubtful()
                except CatalogError as error:
                    failures += 1
                    self._lose(error)
                    if not reached and failures == self._settings.attempts:
                        raise
                if not self._book.known:
                    await asyncio.sleep(self._backoff.next() if reached else self._settings.retry_interval)
        finally:
            await self._end()

    async def _read(self) -> None:
        """Learn what the agent has. Raises CatalogError."""
        self._doubt.clear()
        self._book.begin_reading()
        node = await self._agent.node()
        services = await self._agent.services()
        found = registered(services, await self._agent.checks())
        self._book.take(found)
        self._stats.resyncs["consul"] += 1
        self._roster.node = node
        shown = {check: status for service in found for check, status in service.checks.items()}
        self._told = {check: told for check, told in self._told.items() if shown.get(check) == told.word.status}
        if self._stats.consul.found():
            log.info("registering with Consul", extra=fields(agent=self._agent.url, node=node))
        self._owning.set()
        self.changed()

    def _lose(self, error: CatalogError) -> None:
        """Believe nothing of the agent until it has been read again."""
        self._book.known = False
        self._todo.clear()
        self._last.clear()
        self._doubt.set()
        if self._stats.consul.lost(error):
            log.warning("Consul does not answer the registrator", extra=fields(reason=str(error)))

    async def _until_doubtful(self) -> None:
        """Wait until the agent is to be read again, for whatever reason. Raises CatalogError."""
        waiting = {
            asyncio.create_task(self._doubt.wait(), name="wait for doubt"),
            asyncio.create_task(until_changed(self._agent, self._book, self._owning), name="wait for the agent"),
        }
        await until_first(waiting, self._settings.resync or None)

    # Planning

    def _guard(self, call: Callable[[], object]) -> None:
        """Call something for the loop, and have `run` end with whatever it raises."""
        try:
            call()
        except Exception as error:
            self._fault = error
            self._doubt.set()

    def _act(self) -> None:
        """Find out what is to be written, and begin."""
        self._planning = None
        self._replan = bool(self._book.busy)  # of that the plan knows only what was there before
        if not (self._book.known and self._roster.complete):
            return
        settings = self._settings
        self._plan = self._book.plan(
            self._roster.wanted(), self._roster.kept(), cleanup=settings.cleanup, adopt=settings.adopt
        )
        checks = {registration.check_id for registration in self._plan.accepted}
        self._told = {check: told for check, told in self._told.items() if check in checks}
        self._note_unchanged()
        self._todo.clear()
        self._last.clear()
        registering = False
        for action in self._plan.actions:
            registering = registering or isinstance(action, Register)
            if not self._book.allows(action):
                continue
            if registering and not isinstance(action, Register):
                self._last.append(action)
            else:
                self._todo.append(action)
        if not self._plan.actions:
            self._backoff.reset()
        self._go_on()

    def _note_unchanged(self) -> None:
        """Tell of what need not be written: it may be believed to have ended, with a container that is back by now."""
        changed = {action.registration.id for action in self._plan.actions if isinstance(action, Register)}
        for registration in self._plan.accepted:
            if registration.id not in changed and registration.id not in self._book.busy:
                self._registered(registration)

    def _go_on(self) -> None:
        """Write as much as there is room for; when all is written, tell the checks that are due."""
        while len(self._writing) < WRITES and (action := self._next()) is not None:
            self._book.begin(action)
            self._start(self._write(action))
        if not self._todo and not self._last and self._book.known:
            self._tell_checks()
        if not self._writing and not self._todo and self._book.known and self._roster.complete:
            self.settled = True

    def _next(self) -> Action | None:
        if self._todo:
            return self._todo.popleft()
        return self._last.popleft() if self._last and not self._writing else None

    def _start(self, writing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(writing)
        self._writing.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("writing to Consul failed", exc_info=error)
            self._go_on()
        elif self._replan:
            self.changed()
        else:
            self._go_on()

    # Writing

    async def _write(self, action: Action) -> None:
        """Do one thing at the agent, and note how it went."""
        kind: WriteKind = "register" if isinstance(action, Register) else "deregister"
        try:
            if isinstance(action, Register):
                if await self._is_taken(action.registration.id):
                    return
                await self._agent.register(payload(action.registration))
            else:
                await self._agent.deregister(action.service_id)
        except AgentRefused as error:
            self._book.end(action, str(error))
            self._note_refused(kind, error)
            # Newer Consuls say 404 of a service that is not there: what the agent has is not what was read.
            if error.status >= _SERVER_ERROR or error.status in (_NOT_FOUND, _TOO_MANY):
                self._doubt_soon()
        except CatalogError as error:
            self._book.fail(action)
            self._stats.writes[kind, "failed"] += 1
            self._lose(error)
        else:
            self._book.end(action)
            self._stats.writes[kind, "ok"] += 1
            self._backoff.reset()
            if isinstance(action, Register):
                self._note_registered(action.registration)
        finally:
            if self._book.is_busy(action):
                self._book.put_off(action)
                self._replan = True

    async def _is_taken(self, service_id: str) -> bool:
        """Whether the agent has got a service of this ID since it was read; what is to be done then is planned anew."""
        if self._book.get(service_id) is not None:
            return False
        service = await self._agent.service(service_id)
        if service is None:
            return False
        self._book.learn(registered({service_id: service}, {}))
        return True

    def _note_registered(self, registration: Registration) -> None:
        self._told.pop(registration.check_id, None)  # Consul keeps the status that the check had before
        self._owning.set()
        if registration.container in self._roster:  # it may have ended meanwhile
            self._registered(registration)

    def _note_refused(self, kind: WriteKind, error: AgentRefused) -> None:
        self._stats.writes[kind, "refused"] += 1
        log.warning("Consul refuses a write", extra=fields(kind=kind, reason=str(error)))

    def _doubt_soon(self) -> None:
        self._at("retry", self._backoff.next(), self._doubt.set)

    def _tell_checks(self) -> None:
        """Tell the agent of the checks that are due, and see to it that the next ones are told in time."""
        now = time.monotonic()
        for registration in due(self._plan.accepted, self._told, now):
            if len(self._writing) < WRITES and self._can_be_told(registration):
                self._telling.add(registration.check_id)
                self._start(self._tell(registration))
        when = next_due(self._plan.accepted, self._told)
        if when is not None:
            self._at("checks", max(CHECK_STEP, when - now), lambda: self._guard(self._go_on))

    def _can_be_told(self, registration: Registration) -> bool:
        service = registration.id
        there = self._book.get(service) is not None and service not in self._book.busy
        return there and registration.check_id not in self._telling

    async def _tell(self, registration: Registration) -> None:
        """Tell the agent of the check of a service, which is one that we feed."""
        assert registration.check is not None
        check, word = registration.check_id, registration.check.word
        assert word is not None
        try:
            await self._agent.tell(check, word.status, word.output)
        except AgentRefused as error:
            # The agent may have lost the check; told again at once, it would refuse again.
            self._told[check] = Told(word, time.monotonic())
            self._note_refused("check", error)
            self._doubt_soon()
        except CatalogError as error:
            self._stats.writes["check", "failed"] += 1
            self._lose(error)
        else:
            self._stats.writes["check", "ok"] += 1
            self._told[check] = Told(word, time.monotonic())
        finally:
            self._telling.discard(check)

    def _at(self, what: str, delay: float, call: Callable[[], object]) -> None:
        """Call something later, in place of what was to be called then for the same purpose."""
        if what in self._timers:
            self._timers[what].cancel()
        self._timers[what] = asyncio.get_running_loop().call_later(delay, call)

    # The end

    async def _end(self) -> None:
        """Begin nothing more; what is being written may finish."""
        self._book.known = False
        self._todo.clear()
        self._last.clear()
        for timer in (*self._timers.values(), self._planning):
            if timer is not None:
                timer.cancel()
        if self._writing:
            await asyncio.wait(self._writing, timeout=FINISH_TIMEOUT)
        for task in list(self._writing):
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def withdraw(self, agent: LocalAgent) -> None:
        """After `run` has ended: deregister everything that is ours, as far as the agent does it in time."""
        left = iter(self._book.owned())

        async def work() -> None:
            for service_id in left:
                try:
                    await agent.deregister(service_id)
                except AgentRefused as error:  # it may be gone already; the others are not
                    self._note_refused("deregister", error)
                else:
                    self._stats.writes["deregister", "ok"] += 1

        try:
            async with asyncio.timeout(EXIT_TIMEOUT):
                for result in await asyncio.gather(*(work() for _ in range(WRITES)), return_exceptions=True):
                    if isinstance(result, BaseException):
                        raise result
        except (CatalogError, TimeoutError) as error:
            log.warning("not everything is deregistered", extra=fields(reason=str(error) or "out of time"))
