"""Ledger -> store: one snapshot for all changes of a moment."""

from __future__ import annotations

import asyncio
import time

from lb.catalog.ledger import Ledger
from lb.catalog.pace import Pace
from lb.catalog.status import WatchStatus
from lb.catalog.store import Store

_INTERVAL = 0.01
_BURST = 4

_SHARE = 4
"""Publishing a long series may take one part in so many of the time."""


class Publisher:
    """Publishes what the ledger holds after it changed: at the end of the loop's turn, in a long series less often."""

    def __init__(self, ledger: Ledger, store: Store, status: WatchStatus) -> None:
        self._ledger = ledger
        self._store = store
        self._status = status
        self._pace = Pace(_INTERVAL, _BURST)
        self._pending: asyncio.Handle | None = None

    def changed(self) -> None:
        """Say that the ledger changed; nothing happens before it is complete."""
        if self._pending is not None or not self._ledger.complete:
            return
        loop = asyncio.get_running_loop()
        delay = self._pace.delay(time.monotonic())
        self._pending = loop.call_later(delay, self._publish) if delay else loop.call_soon(self._publish)

    def close(self) -> None:
        """Publish what waits, at once."""
        if self._pending is not None:
            self._pending.cancel()
            self._publish()

    def _publish(self) -> None:
        self._pending = None
        started = time.monotonic()
        ledger = self._ledger
        self._store.publish(ledger.services, ledger.nodes, ledger.datacenter, ledger.problems)
        self._status.publications += 1
        self._pace.take(started, _SHARE * (time.monotonic() - started))
