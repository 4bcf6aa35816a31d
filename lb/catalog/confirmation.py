"""How old the catalog may be: who needs to know is told when agents begin or cease to confirm it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from lb.catalog.status import WatchStatus
from lb.catalog.store import Store

INTERVAL = 0.25
"""Seconds between looks at the watch."""

NOTE_INTERVAL = 30.0
"""Seconds after which a confirmation is noted on disk, for the next start."""


class Confirmation:
    """Follows whether an agent answers the watch. `age` is how old (seconds) the catalog is at the start.

    An agent that hangs counts as answering until its blocking query is given up; the age that is told then is right.
    """

    def __init__(self, status: WatchStatus, store: Store, age: float) -> None:
        self._status = status
        self._store = store
        self._confirmed_at = time.monotonic() - age
        self._noted_at = time.monotonic()

    async def tell(self, tell: Callable[[float | None], None]) -> None:
        """Tell how old the last confirmation is, and None while the catalog is being confirmed, until cancelled."""
        told: bool | None = None
        while True:
            connected = self._status.connected
            if connected != told:
                told = connected
                tell(None if connected else self.age())
            if connected:
                self._note()
            await asyncio.sleep(INTERVAL)

    def age(self) -> float:
        """Seconds since an agent's last answer, or what is known from before the start."""
        return time.monotonic() - max(self._confirmed_at, self._status.answered_at or 0.0)

    def _note(self) -> None:
        if time.monotonic() - self._noted_at >= NOTE_INTERVAL:
            self._noted_at = time.monotonic()
            self._store.confirm()
