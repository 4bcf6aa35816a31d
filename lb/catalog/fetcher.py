"""Reading single services: a few workers take names from the agenda; what they learn goes into the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from lb.catalog import decode
from lb.catalog.agenda import Agenda
from lb.catalog.client import Answer
from lb.catalog.guard import EmptyGuard
from lb.catalog.ledger import Ledger
from lb.catalog.model import Problem
from lb.catalog.pace import Backoff
from lb.catalog.reader import Reader
from lb.catalog.status import WatchStatus
from lb.errors import AgentRefused, AgentUnreachable, BadAnswer, CatalogError

log = logging.getLogger(__name__)


def fits_a_path(name: str) -> bool:
    """Tell whether a service or node of this name can be asked for: of a path, dots and empty parts are resolved."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def service_path(name: str) -> str:
    """Return the path under which Consul tells the instances of a service; raise `BadAnswer` if none leads there."""
    if not fits_a_path(name):
        raise BadAnswer("a service of this name cannot be asked for")
    return f"/v1/health/service/{name}"


class Fetcher:
    """Reads services on demand, each by one worker at a time, and judges what came.

    `on_change` is called with the name of a service that changed, came or went. While nothing is known yet,
    stale answers are good enough; after that the leader is asked, and where there is none, asked again
    later.
    """

    def __init__(
        self,
        reader: Reader,
        ledger: Ledger,
        guard: EmptyGuard,
        status: WatchStatus,
        on_change: Callable[[str], None],
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._guard = guard
        self._status = status
        self._on_change = on_change
        self._agenda = Agenda()
        self._wake = asyncio.Event()
        self._retries: dict[str, Backoff] = {}
        self._unread: set[str] = set()
        self.first_pass_done = asyncio.Event()

    def start(self, names: Iterable[str]) -> None:
        """Begin the first pass: read all these services once."""
        self._unread = set(names)
        self.want(sorted(self._unread))
        self._check_first_pass()

    def want(self, names: Iterable[str], due: float = 0.0) -> None:
        """Have services read, at once or at a monotonic time."""
        for name in names:
            self._agenda.add(name, due)
        # Whoever waits now has been woken when this returns; who comes later looks at the agenda first.
        self._wake.set()
        self._wake.clear()

    def doubt(self, name: str) -> None:
        """Have a service read again before long: something else contradicts its last answer."""
        self._retry(name)

    async def work(self) -> None:
        """Take one name after the other from the agenda, for ever; several may do so at a time."""
        while True:
            name = await self._next()
            try:
                await self._read_with_patience(name)
            finally:
                self._agenda.done(name)

    async def read(self, name: str) -> None:
        """Read one service and take over what the answer says; raises as `Agent.get` does."""
        path = service_path(name)
        self._status.refetches += 1
        leader_wanted = self._ledger.complete or name in self._guard
        if leader_wanted:
            answer, leader = await self._reader.get_from_leader(path)
        else:
            answer, leader = await self._reader.get(path), False
        self.apply(name, answer, leader=leader)
        if leader_wanted and not leader:
            self._retry(name)
        else:
            self._retries.pop(name, None)

    def apply(self, name: str, answer: Answer, *, leader: bool) -> bool:
        """Take over an answer about a service; return whether anything changed. May raise `BadAnswer`.

        `leader` tells that the leader gave it. A service that has vanished is kept until the guard believes
        it.
        """
        decoded = decode.service(name, answer.body)
        ledger = self._ledger
        ledger.note_index(name, answer.index)
        changed = False
        if decoded.registered:
            self._guard.release(name)
            changed, problems = ledger.record(decoded)
            for problem in problems:
                log.warning("%s is not used: %s", problem.subject, problem.reason)
        elif name in ledger.services:
            changed = self._vanished(name, leader=leader)
        self._status.held = len(self._guard)
        if changed:
            self._on_change(name)
        self._was_read(name)
        return changed

    def _vanished(self, name: str, *, leader: bool) -> bool:
        """Judge an answer without instances; return whether the service was taken off."""
        now = time.monotonic()
        held_already = name in self._guard
        if self._guard.believes(name, now, leader=leader):
            self._ledger.remove(name)
            return True
        if not held_already:
            log.info("service %s has vanished: its last instances are kept until that is confirmed", name)
        self.want((name,), max(self._guard.due(name), now))
        return False

    async def _next(self) -> str:
        """Return the next name that is due."""
        while True:
            now = time.monotonic()
            name = self._agenda.take(now)
            if name is not None:
                return name
            due = self._agenda.next_due()
            try:
                async with asyncio.timeout(None if due is None else due - now):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _read_with_patience(self, name: str) -> None:
        try:
            await self.read(name)
        except AgentUnreachable:
            raise
        except AgentRefused as error:
            if error.status < 500 and error.status != 429:
                self._refuse(name, error)
            self._retry(name)
        except BadAnswer as error:
            self._refuse(name, error)
            self._retry(name)

    def _refuse(self, name: str, error: CatalogError) -> None:
        """Go on without a service that cannot be read; the others must not wait for it."""
        if self._ledger.refuse(Problem("instance", name, str(error)), name):
            log.warning("service %s cannot be read: %s", name, error)
            self._on_change(name)
        self._was_read(name)

    def _retry(self, name: str) -> None:
        backoff = self._retries.setdefault(name, Backoff(1.0, 60.0))
        self.want((name,), time.monotonic() + backoff.next())

    def _was_read(self, name: str) -> None:
        if name in self._unread:
            self._unread.discard(name)
            self._check_first_pass()

    def _check_first_pass(self) -> None:
        if not self._unread:
            self.first_pass_done.set()
