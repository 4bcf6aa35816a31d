"""A node as a program: its signals, its place under systemd, and how one program is followed by the next.

| signal | what happens |
| --- | --- |
| SIGTERM, SIGINT | drain, then exit with status 0; a second one ends the draining |
| SIGHUP | upgrade in place: see `lb.handover` |
| SIGUSR1 | the access log is opened anew |
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lb.board.area import Board, BoardError
from lb.board.ledger import Ledger
from lb.errors import ReportError
from lb.handover import Estate, HandoverError, Predecessor, Successor
from lb.node import Node
from lb.observe.log import fields
from lb.pauses import ShortPauses
from lb.settings import Settings
from lb.sockets import Inherited
from lb.systemd import Notifier, inherited_sockets
from lb.workers.channel import Body
from lb.workers.crew import BoardEstate, Crew

ROWS = 1 << 20
"""Of shared memory: five for an endpoint. Those that are never used take no memory."""
COLUMNS = 4
"""Of shared memory, for each worker: those of programs that still drain have theirs, too."""

VERSIONS_APART = 1 << 32
"""Between the updates of one program and those of the next, which count on from there."""

COUNTS_INTERVAL = 0.2
"""Seconds between counts that a program tells to its successor while it drains."""

PREDECESSOR = -1
"""The number under which the totals keep what is active in a program that drains."""

log = logging.getLogger(__name__)


class Service:
    """Runs one node until it is told to end, or another program has taken over."""

    def __init__(self, settings: Settings, hide: Callable[[str], None]) -> None:
        self._settings = settings if settings.serves else replace(settings, workers=0)
        self._hide = hide
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._notifier = Notifier(os.environ, os.getpid())
        self._predecessor: Predecessor | None = None
        self._predecessor_gone = asyncio.Event()
        self._successor: Successor | None = None
        self._drawing_back = False  # there is no way back: the new program serves
        self._crew: Crew
        self._node: Node

    async def run(self) -> None:
        """Serve. Raises EdgeError if the node cannot start, and whatever ends the watch on the catalog."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        await self._start()
        ShortPauses()
        beating = loop.create_task(self._beat(), name="watchdog")
        try:
            await self._until_over()
        except BaseException:
            await self._node.abort()
            raise
        beating.cancel()
        hurrying = loop.create_task(self._hurry(), name="wait for a second signal")
        if self._successor is None:
            self._notifier.stopping()
            await self._node.stop()
        else:
            # Of stopping nothing is said: the service goes on, in another process.
            await self._fade(self._successor)
        hurrying.cancel()

    # The start

    async def _start(self) -> None:
        self._predecessor = Predecessor.find(os.environ)
        if self._predecessor is None:
            estate = None
            inherited = Inherited(("", one.sock) for one in inherited_sockets(os.environ, os.getpid()))
        else:
            estate = await self._predecessor.estate()
            inherited = estate.inherited
        self._node = Node(
            self._settings,
            planes=functools.partial(self._make_crew, estate),
            hide=self._hide,
            inherited=inherited,
            last=None if estate is None else estate.snapshot,
        )
        await self._node.start()
        if self._predecessor is not None:
            await self._take_over(self._predecessor)
        await self._node.show()
        self._notifier.ready(self._serving())

    def _serving(self) -> str:
        return f"serving with {self._crew.size} workers" if self._settings.serves else "registering containers"

    def _make_crew(self, estate: Estate | None, settings: Settings) -> Crew:
        board, ledger, version = self._board(estate.board if estate is not None else None)
        self._crew = Crew(settings, board, ledger, version)
        if estate is not None and version:
            for column, pid in estate.board.columns.items():
                self._crew.await_end(column, pid)
        return self._crew

    def _board(self, left: BoardEstate | None) -> tuple[Board, Ledger, int]:
        """Take over the balancing state that was left, if it can be; else begin anew."""
        workers = self._settings.workers
        if left is not None:
            try:
                board = Board.open(left.fd)
                ledger = Ledger.restore(board, left.ledger)
            except BoardError as error:
                log.warning("the balancing state is not taken over: %s", error)
            else:
                if len(board.columns) - len(ledger.taken) >= workers:
                    # Old workers go on to acknowledge updates of the old program, whose numbers mean nothing here.
                    return board, ledger, left.version + VERSIONS_APART
                log.warning("the balancing state is not taken over: it has no room for %d more workers", workers)
        board = Board.create(COLUMNS * max(1, workers), ROWS)
        return board, Ledger(board), 0

    async def _take_over(self, predecessor: Predecessor) -> None:
        predecessor.on_counts = self._add_counts
        predecessor.on_end = self._forget_predecessor
        try:
            await predecessor.take_over()
        except HandoverError as error:
            log.warning("the upgrade goes on: %s", error)
        self._notifier.main_pid(os.getpid())

    def _add_counts(self, counts: Body) -> None:
        try:
            self._crew.totals.add(counts, PREDECESSOR)
        except ReportError as error:
            log.error("what the old program has counted is lost: %s", error)

    def _forget_predecessor(self) -> None:
        self._crew.totals.forget(PREDECESSOR)
        self._predecessor_gone.set()

    # The time between

    async def _until_over(self) -> None:
        """Do what signals say until one says that it is over, or a successor serves."""
        loop = asyncio.get_running_loop()
        watching = loop.create_task(self._node.watching(), name="wait for the catalog watch")
        signalled = loop.create_task(self._signals.get(), name="wait for a signal")
        upgrading: asyncio.Task[None] | None = None
        while self._successor is None:
            waiting: set[asyncio.Task[Any]] = {watching, signalled}
            if upgrading is not None:
                waiting.add(upgrading)
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if upgrading in done:
                upgrading = None
            if watching in done:
                # It ends for no foreseen reason: tell it, rather than serve a catalog that nobody follows.
                watching.result()
            if signalled in done:
                number = signalled.result()
                signalled = loop.create_task(self._signals.get(), name="wait for a signal")
                if number == signal.SIGUSR1:
                    self._crew.reopen_log()
                elif number != signal.SIGHUP:
                    await self._end_upgrade(upgrading)
                    break
                elif upgrading is None:
                    upgrading = loop.create_task(self._upgrade(), name="upgrade")
        watching.cancel()
        signalled.cancel()

    async def _end_upgrade(self, upgrading: asyncio.Task[None] | None) -> None:
        """End an upgrade that is under way, or the new program if it serves already."""
        if upgrading is None:
            return
        if not self._drawing_back:
            upgrading.cancel()
        await asyncio.wait({upgrading})
        if self._successor is not None:
            os.kill(self._successor.pid, signal.SIGTERM)

    async def _beat(self) -> None:
        """Tell the watchdog that this program lives; whether its workers do is the crew's to see."""
        interval = self._notifier.watchdog_interval
        while interval is not None:
            self._notifier.beat()
            await asyncio.sleep(interval)

    async def _upgrade(self) -> None:
        """Start the new program and have it take over; if it cannot, nothing has changed."""
        log.info("upgrade: the new program is started")
        self._notifier.reloading()
        successor: Successor | None = None
        estate = self._crew.hand_over()
        try:
            successor = Successor()
            await successor.give(estate, self._node.snapshot, self._node.keeper.places.values())
        except BaseException as error:
            if successor is not None:
                successor.give_up()
            self._crew.take_back()
            if not isinstance(error, HandoverError | OSError):
                raise
            self._node.note_failed_upgrade(str(error))
            self._notifier.ready(f"{self._serving()}; an upgrade has failed: {error}")
            return
        self._drawing_back = True
        await self._node.draw_back()
        await self._crew.refresh()
        self._notifier.main_pid(successor.pid)
        self._tell(successor)
        successor.leave()
        log.info("upgrade: the new program serves", extra=fields(pid=successor.pid))
        self._successor = successor

    # The end

    async def _fade(self, successor: Successor) -> None:
        """Drain, and tell the successor what is counted meanwhile."""
        loop = asyncio.get_running_loop()
        draining = loop.create_task(self._node.drain(), name="drain")
        while not draining.done():
            await asyncio.wait({draining}, timeout=COUNTS_INTERVAL)
            self._tell(successor)
        if self._predecessor is not None:
            # It drains, too, and its counts go this way.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain.timeout):
                    await self._predecessor_gone.wait()
            self._tell(successor)
        await successor.flush()
        draining.result()

    def _tell(self, successor: Successor) -> None:
        counts = self._crew.totals.take()
        if any(counts.values()):
            successor.tell(counts)

    async def _hurry(self) -> None:
        """Wait for another signal to end, then end the draining."""
        while await self._signals.get() not in (signal.SIGTERM, signal.SIGINT):
            pass
        await self._node.hurry()
