"""A running watcher for tests, and everything that it published."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from lb.catalog.model import Service, Snapshot
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.settings import ConsulSettings

Check = Callable[[Snapshot], object]


class Watch:
    """A running watcher and everything it published."""

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self.store = store
        self.watcher = watcher
        self.status = watcher.status
        self.published: list[Snapshot] = []
        self._news = asyncio.Event()
        store.subscribe(self._note)

    def _note(self, snapshot: Snapshot) -> None:
        self.published.append(snapshot)
        self._news.set()

    async def until(self, check: Check, *, seconds: float = 15.0) -> Snapshot:
        """Return the current snapshot once it passes the check."""
        try:
            async with asyncio.timeout(seconds):
                while not check(self.store.snapshot):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; {self.status}") from None
        return self.store.snapshot

    async def until_status(self, check: Callable[[], object], *, seconds: float = 15.0) -> None:
        """Wait for something that is not published: the watcher's status."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, f"not within {seconds} s; {self.status}"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def watching(
    *urls: str, store: Store | None = None, seconds: float = 15.0, **options: Any
) -> AsyncIterator[Watch]:
    """Run a watcher; enter when it has published a fresh catalog, unless `seconds` is 0."""
    store = store or Store()
    watcher = Watcher(ConsulSettings(agents=urls, **options), store)
    watch = Watch(store, watcher)
    task = asyncio.create_task(watcher.run())
    try:
        if seconds:
            await watch.until(lambda s: s.fresh, seconds=seconds)
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await coroutine

    asyncio.run(limited())


async def do(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run a blocking call of the test's own Consul client beside the watcher."""
    return await asyncio.to_thread(call, *arguments, **options)


def ports(snapshot: Snapshot, name: str) -> list[int]:
    """The ports of the passing instances of a service."""
    return sorted(i.port for i in snapshot.services.get(name, Service(name)).passing)


def serves(snapshot: Snapshot, *, name: str, expected: list[int]) -> bool:
    """Whether the passing instances of a service have these ports."""
    return ports(snapshot, name) == expected
