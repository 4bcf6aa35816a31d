"""The workers of one node: started, kept alike, replaced when they die, drained at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dnsserver.stats import DnsStats
from lb.balance.places import LedgerPlaces
from lb.board.area import Board, BoardError
from lb.board.ledger import Ledger
from lb.catalog.model import Snapshot
from lb.errors import EdgeError, ReportError
from lb.observe.log import fields
from lb.observe.processes import worker_view
from lb.observe.shapes import LogCounts
from lb.observe.stats import Stats
from lb.observe.views import WorkersView
from lb.proxy.balancer import Balancer
from lb.settings import AdminSettings, ConsulSettings, Settings
from lb.sockets import Place, SharedSockets
from lb.workers.channel import Body
from lb.workers.member import Member
from lb.workers.totals import Totals

REPORT_TIMEOUT = 0.5
"""Seconds that a scrape waits for a worker; without its answer it shows what was reported last."""

LONG_LIFE = 5.0
"""A worker that lived so long (seconds) is replaced at once; one that dies sooner after a growing pause."""
RESTART_FIRST = 0.1
RESTART_LONGEST = 10.0

KILL_AFTER = 5.0
"""Seconds after the time to drain is over until a worker that is still there is killed."""

CHECK_INTERVAL = 5.0
"""Seconds from one question whether a worker is alive to the next."""
HANG_TIMEOUT = 30.0
"""A worker that says nothing for so long (seconds) is killed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoardEstate:
    """Shared memory and its book (`Ledger.state`), as one program leaves it to the next.

    `version` is the number of the last update that workers were told, `columns` are the processes that still write to
    the memory, by column.
    """

    fd: int
    ledger: Mapping[str, Any]
    version: int
    columns: Mapping[int, int]


class CannotWork(EdgeError):
    """A worker ends before it has served at all; the text says how."""


class Crew:
    """So many workers as the settings say, each with its own share of every listening socket.

    `balancer` is a picture of what the workers do: their routes, and the endpoints with the state that they share.
    What the workers count is added to `totals`.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        ledger: Ledger,
        version: int = 0,
    ) -> None:
        # Consul is asked by workers for what DNS does not find in the catalog, and for nothing else.
        consul = settings.consul if settings.dns is not None else ConsulSettings()
        self._settings = replace(settings, consul=consul, admin=AdminSettings(listen=None))
        self.totals = Totals()
        self._board = board
        self._ledger = ledger
        self._places = LedgerPlaces(board, ledger)
        self.balancer = Balancer(settings.routing, self.totals.stats, lambda _: None, lambda _: None, self._places)
        self.size = settings.workers
        self.members: dict[int, Member] = {}  # by number
        self.restarts = 0
        self._shared: dict[Place, SharedSockets] = {}
        self._snapshot = Snapshot()
        self._logs = settings.access_log.path != "off"
        self._version = version
        self._flushing: asyncio.Handle | None = None
        self._pause = RESTART_FIRST
        self._asked: dict[Member, asyncio.Event] = {}
        self._doubted_at: float | None = None  # when an agent has last confirmed the catalog, if none does now
        self._draining = False
        self._handed_over = False
        self._vacant: list[int] = []  # columns to be taken back
        self._departing: dict[int, int] = {}  # workers of the program before this one: column to process
        self._unproven: set[Member] = set()  # they have not served yet
        self._killing: asyncio.TimerHandle | None = None
        self._checking: asyncio.TimerHandle | None = None
        self._unanswered: dict[Member, int] = {}  # checks, since a worker said anything
        self._serving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()

    # What the node tells

    async def start(self, places: Iterable[SharedSockets]) -> None:
        """Start all workers and wait until each serves. Raises CannotWork if one ends before.

        Without any there is nothing to wait for: the node is there for something else.
        """
        for shared in places:
            self._shared[shared.place] = shared
        for number in range(self.size):
            self._engage(number)
        self._flush_soon()
        self._check_later()
        if self.size:
            await self._serving

    def apply(self, snapshot: Snapshot) -> None:
        """Take over a new catalog; the workers are told soon, each as fast as it can follow."""
        self._version += 1
        self._snapshot = snapshot
        self.balancer.apply(snapshot)
        self._places.settle(self._version)
        rows = self._places.take_changes()
        for member in self.members.values():
            member.note_rows(rows)
        self._flush_soon()

    def confirm(self, age: float | None) -> None:
        """Note that an agent confirms the catalog from now on (None), or none does since `age` seconds ago."""
        self._doubted_at = None if age is None else time.monotonic() - age
        for member in self.members.values():
            member.ask("confirm", age=age)

    def opened(self, shared: SharedSockets) -> None:
        """Have a TCP port served that came with the catalog."""
        self._shared[shared.place] = shared
        for member in self.members.values():
            member.note_open(shared)
        self._flush_soon()

    def closed(self, place: Place) -> None:
        """Have a TCP port closed that went with the catalog."""
        del self._shared[place]
        for member in self.members.values():
            member.note_closed(place)
        self._flush_soon()

    async def refresh(self) -> None:
        """Ask every worker for what it counted, once it has done all that it was told.

        So the totals are as of now, and no worker is behind what is shown.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_TIMEOUT):
                await self.applied()
                asked = {member: self._asked.setdefault(member, asyncio.Event()) for member in self.members.values()}
                for member in asked:
                    member.ask("report")
                for event in asked.values():
                    await event.wait()

    @property
    def stats(self) -> Stats:
        """What all workers have counted."""
        return self.totals.stats

    @property
    def dns_stats(self) -> DnsStats:
        """What all workers have counted of DNS."""
        return self.totals.dns

    @property
    def serving(self) -> bool:
        """Whether every worker that there is serves, and there is one at least."""
        return bool(self.members) and not self._unproven

    @property
    def log_counts(self) -> LogCounts | None:
        """The lines of the access logs of all workers; None where it is off."""
        return self.totals.log if self._logs else None

    async def applied(self) -> None:
        """Wait until every worker has done all that it was told so far."""
        self._flush()
        for member in list(self.members.values()):
            await member.applied.wait()

    def reopen_log(self) -> None:
        """Have the access log opened anew: it was rotated."""
        for member in self.members.values():
            member.ask("reopen_log")

    async def drain(self, grace: float) -> None:
        """Have the workers accept no more and end within `grace` seconds; called again, it sets another time."""
        for member in self.members.values():
            member.ask("drain", grace=grace)
        draining, self._draining = self._draining, True
        loop = asyncio.get_running_loop()
        if self._checking is not None:
            self._checking.cancel()
        if self._killing is not None:
            self._killing.cancel()
        self._killing = loop.call_later(grace + KILL_AFTER, self._kill)
        if draining:
            return
        if self.members:
            await self._gone.wait()
        self._killing.cancel()

    def _kill(self) -> None:
        for member in self.members.values():
            log.error("worker does not end and is killed", extra=fields(worker=member.number, pid=member.pid))
            member.kill()

    # What happens to workers

    def _check_later(self) -> None:
        self._checking = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check)

    def _check(self) -> None:
        """Ask every worker whether it is alive, and kill one that has left too many checks unanswered.

        They are counted rather than timed: a supervisor that was itself stopped for a while must not blame its workers.
        """
        for member in list(self.members.values()):
            unanswered = self._unanswered.get(member, 0)
            if unanswered * CHECK_INTERVAL >= HANG_TIMEOUT:
                silence = fields(worker=member.number, pid=member.pid, silent=f"{HANG_TIMEOUT:g}s")
                log.error("worker hangs and is killed", extra=silence)
                member.kill()
            else:
                self._unanswered[member] = unanswered + 1
                member.ask("report")
        self._check_later()

    def _engage(self, number: int) -> None:
        """Start worker `number`, unless it is there, and have it told everything."""
        if self._draining or self._handed_over or number in self.members:
            return
        try:
            member = self._start_member(number)
        except (OSError, BoardError) as error:
            log.error("worker cannot be started", extra=fields(worker=number, reason=str(error)))
            asyncio.get_running_loop().call_later(RESTART_LONGEST, self._engage, number)
            return
        member.note_rows(self._places.rows)
        for shared in self._shared.values():
            member.note_open(shared)
        if self._doubted_at is not None:
            member.ask("confirm", age=time.monotonic() - self._doubted_at)
        self.members[number] = member
        self._unproven.add(member)
        self._flush_soon()

    def _start_member(self, number: int) -> Member:
        column = self._ledger.take_column()
        try:
            return Member(number, self.size, column, self._board.fd, self._settings, self)
        except OSError:
            self._ledger.vacate(column)
            raise

    def told(self, member: Member, kind: str, body: Body) -> None:
        """See Owner."""
        self._unanswered[member] = 0
        if kind == "applied":
            self._served(member)
            self._flush()
            if not self._handed_over:
                self._ledger.sweep()
        elif kind == "report":
            self._count(member, body)

    def _served(self, member: Member) -> None:
        """Note that a worker does what it was told: the first time it does so, that it serves."""
        self._unproven.discard(member)
        if not self._unproven and not self._serving.done():
            self._serving.set_result(None)

    def _count(self, member: Member, body: Body) -> None:
        try:
            self.totals.add(body, member.column)
        except ReportError as error:
            log.error("a report is not counted", extra=fields(worker=member.number, reason=str(error)))
        if body["asked"] and (event := self._asked.pop(member, None)) is not None:
            event.set()

    def ended(self, member: Member) -> None:
        """See Owner."""
        del self.members[member.number]
        self._unproven.discard(member)
        self._unanswered.pop(member, None)
        if (event := self._asked.pop(member, None)) is not None:
            event.set()
        member.applied.set()
        self.totals.forget(member.column)
        self._vacate(member.column)
        if self._draining:
            if not self.members:
                self._gone.set()
            return
        log.error("worker ended", extra=fields(worker=member.number, pid=member.pid, how=member.status))
        if not self._serving.done():
            self._serving.set_exception(CannotWork(f"worker {member.number} ended with {member.status} at its start"))
            return
        self.restarts += 1
        lived = time.monotonic() - member.started
        if lived >= LONG_LIFE:
            self._pause = RESTART_FIRST
            self._engage(member.number)
        else:
            asyncio.get_running_loop().call_later(self._pause, self._engage, member.number)
            self._pause = min(2 * self._pause, RESTART_LONGEST)

    def workers(self) -> WorkersView:
        """The processes, as far as they are shown."""
        views = (worker_view(member.number, member.pid, member.started) for member in self.members.values())
        return WorkersView(tuple(view for view in views if view is not None), self.restarts)

    # One program after another

    def hand_over(self) -> BoardEstate:
        """Leave the board to another program: from here on this one neither allots nor frees anything there."""
        self._handed_over = True
        self._places.frozen = True
        columns = {member.column: member.pid for member in self.members.values()} | self._departing
        return BoardEstate(self._board.fd, self._ledger.state(), self._version, columns)

    def take_back(self) -> None:
        """Go on with the board: there is no other program."""
        self._handed_over = False
        self._places.frozen = False
        self._free_columns()
        for number in range(self.size):
            self._engage(number)

    def await_end(self, column: int, pid: int) -> None:
        """Take a column back when a worker of the program before this one has ended."""
        loop = asyncio.get_running_loop()
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._vacate(column)
            return
        self._departing[column] = pid

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            del self._departing[column]
            self._vacate(column)

        loop.add_reader(pidfd, ended)

    def _vacate(self, column: int) -> None:
        """Free the column of a worker that has ended, as soon as the book is this program's."""
        self._vacant.append(column)
        if not self._handed_over:
            self._free_columns()

    def _free_columns(self) -> None:
        while self._vacant:
            self._ledger.vacate(self._vacant.pop())
        self._ledger.sweep()

    # Telling them

    def _flush_soon(self) -> None:
        """Have the workers told at the end of this turn of the loop, with all that comes up in it."""
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._draining:
            return
        for member in self.members.values():
            member.update(self._version, self._ledger.width, self._snapshot)
