"""What is done to the program itself: it is upgraded, and workers of it are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from benchmarks.macro import catalog
from benchmarks.soak.ledger import Failure, Ledger

TAKEOVER_PATIENCE = 20.0
"""Seconds until an upgrade that has not happened is an error."""

REPLACE_PATIENCE = 1.0
"""Seconds within which a dead worker must have been replaced."""

POLL = 0.02

CLIENT = "supervisor"
"""Under this name failures of upgrades and replacements are counted."""


class Admin:
    """The program's admin server on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def status(self) -> dict[str, Any]:
        """Ask for the status; empty while nobody answers."""
        try:
            answer = await asyncio.to_thread(catalog.request, self.port, "GET", "/api/status")
        except (OSError, ValueError):
            return {}
        return answer if isinstance(answer, dict) else {}

    async def pid(self) -> int | None:
        """Return the process that has the say, None when it does not tell."""
        pid = (await self.status()).get("pid")
        return pid if isinstance(pid, int) else None

    async def workers(self) -> list[int]:
        """Return the processes of the workers, none when it does not tell."""
        workers = (await self.status()).get("workers")
        return [int(worker["pid"]) for worker in workers] if isinstance(workers, list) else []


class Disturber:
    """Upgrades the program and kills workers of it, and sees that it copes."""

    def __init__(self, admin: Admin, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._ledger = ledger
        self._clock = clock

    async def every(self, seconds: float, act: Callable[[], Awaitable[None]], first: float) -> None:
        """Act for ever, `first` seconds after now and then after so many seconds each; what is late is left out."""
        due = self._clock() + first
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            await act()
            while due <= self._clock():
                due += seconds

    async def upgrade(self) -> None:
        """Upgrade, and wait until another process has the say."""
        before = await self._admin.pid()
        if before is None:
            self._ledger.note("no upgrades: /api/status names no pid")
            return
        begin = self._clock()
        self._ledger.upgrade(begin)
        with suppress(ProcessLookupError):
            os.kill(before, signal.SIGHUP)
        while self._clock() < begin + TAKEOVER_PATIENCE:
            if await self._admin.pid() not in (None, before):
                self._ledger.succeed(CLIENT)
                return
            await asyncio.sleep(POLL)
        self._ledger.fail(Failure(CLIENT, "no takeover", begin, self._clock()))

    async def kill(self) -> None:
        """Kill one worker, and wait until there are as many as before without it."""
        workers = await self._admin.workers()
        if not workers:
            self._ledger.note("no kills: /api/status names no workers")
            return
        victim = random.choice(workers)
        begin = self._clock()
        self._ledger.kill(begin)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        while (now := self._clock()) < begin + TAKEOVER_PATIENCE:
            living = await self._admin.workers()
            if victim not in living and len(living) >= len(workers):
                break
            await asyncio.sleep(POLL)
        self._ledger.replacements.append(now - begin)
        if now - begin > REPLACE_PATIENCE:
            # Not put down to the kill: it began when everything else that the kill explains was over.
            self._ledger.fail(Failure(CLIENT, "replaced late", begin + REPLACE_PATIENCE + POLL, now))
        else:
            self._ledger.succeed(CLIENT)
