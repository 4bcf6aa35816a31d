"""The current snapshot: who published what last, who wants to know, and a copy on disk for the next start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from lb.catalog import codec
from lb.catalog.departures import BOUND, Departed, Departures
from lb.catalog.model import Node, Problem, Service, Snapshot
from lb.errors import BadAnswer

log = logging.getLogger(__name__)

Subscriber = Callable[[Snapshot], None]

FILE_NAME = "catalog.jsonl"

_EXPIRY_SLACK = 0.1
"""Seconds by which a timer may be early."""

_MAX_FILE = 512 << 20
_WRITE_INTERVAL = 1.0
_WRITE_SHARE = 20
"""Writing may take one part in so many of the time."""


class Store:
    """Holds the current snapshot and hands each new one to its subscribers.

    With a `state_dir`, the last fresh catalog is kept in `catalog.jsonl` there, written in a thread of its
    own, about a second after it was published; `close` writes what is left. A disk that cannot be written
    to is an error in the log, no more. Publishing then needs a running event loop.
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self._whole = Snapshot(fresh=False)  # with those that departed
        self._snapshot = self._whole
        self._departures = Departures()
        self._republishing: asyncio.Handle | None = None
        self._subscribers: list[Subscriber] = []
        self._path = None if state_dir is None else state_dir / FILE_NAME
        self._writer: asyncio.Task[None] | None = None
        self._written = 0
        self._held_at = 0.0  # when the catalog was last published or confirmed (time of day)
        self._closing = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot; generation 0 until there was one."""
        return self._snapshot

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Have `callback` called with each snapshot published from now on; return the call that ends it."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    def publish(
        self,
        services: Mapping[str, Service],
        nodes: Mapping[str, Node],
        datacenter: str,
        problems: tuple[Problem, ...] = (),
    ) -> Snapshot:
        """Make a fresh snapshot of these values (copied), and call all subscribers with it, in order."""
        snapshot = Snapshot(
            services=MappingProxyType(dict(services)),
            nodes=MappingProxyType(dict(nodes)),
            datacenter=datacenter,
            problems=problems,
        )
        snapshot = self._publish(snapshot)
        self._held_at = time.time()
        self._begin_writing()
        return snapshot

    def _begin_writing(self) -> None:
        if self._path is not None and self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_soon(), name="catalog-writer")

    def depart(self, instances: Iterable[Departed]) -> None:
        """Leave out instances that have ended, until the catalog tells of it: see `Departures`.

        A snapshot without them is published at the end of the loop's turn.
        """
        now = time.monotonic()
        for who in instances:
            self._departures.depart(who, self._whole.services, now)
        self._republish()
        asyncio.get_running_loop().call_later(BOUND + _EXPIRY_SLACK, self._expire)

    def come_back(self, instance: Departed, address: str, port: int) -> None:
        """Note that an instance that has ended is registered again, with this address (empty: its node's) and port."""
        self._departures.come_back(instance, address, port)
        self._republish()

    def _expire(self) -> None:
        self._departures.expire(time.monotonic())
        self._republish()

    def _republish(self) -> None:
        """Publish what is known already once more, if those that departed make it another one."""
        if self._republishing is None:
            self._republishing = asyncio.get_running_loop().call_soon(self._publish_again)

    def _publish_again(self) -> None:
        self._republishing = None
        if self._departures.without(self._whole.services) != self._snapshot.services:
            self._publish(self._whole)
            # A catalog that is not fresh stays on disk as it is.
            if self._whole.fresh and self._held_at and not self._closing.is_set():
                self._begin_writing()

    def load(self) -> Snapshot | None:
        """Publish the catalog kept on disk, as one that is not fresh; None if there is none or it is of no use."""
        if self._path is None:
            return None
        try:
            snapshot = _read(self._path)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, BadAnswer) as error:
            log.error("last good catalog %s is ignored: %s", self._path, error)
            return None
        return self._publish(snapshot)

    def kept_age(self) -> float:
        """How long ago (seconds) the catalog on disk was written, or confirmed; 0 without one."""
        try:
            return max(0.0, time.time() - self._path.stat().st_mtime) if self._path is not None else 0.0
        except OSError:
            return 0.0

    def confirm(self) -> None:
        """Note on disk that the catalog kept there holds; where it cannot be noted, it will look older than it is."""
        self._held_at = time.time()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def adopt(self, snapshot: Snapshot) -> None:
        """Publish the catalog that another program had in use."""
        self._publish(snapshot)

    def abandon(self) -> None:
        """Write to disk no more: another program does so now."""
        self._path = None
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None

    async def close(self) -> None:
        """Write to disk what is not written yet."""
        self._closing.set()
        if self._writer is not None:
            await self._writer

    def _publish(self, snapshot: Snapshot) -> Snapshot:
        self._whole = snapshot
        services = snapshot.services
        if self._departures:
            services = MappingProxyType(dict(self._departures.without(services)))
        snapshot = replace(snapshot, services=services, generation=self._snapshot.generation + 1)
        self._snapshot = snapshot
        for callback in tuple(self._subscribers):
            try:
                callback(snapshot)
            except Exception:
                log.exception("a subscriber failed on generation %d of the catalog", snapshot.generation)
        return snapshot

    async def _write_soon(self) -> None:
        """Write the current snapshot after a while, and again as long as there are newer ones."""
        assert self._path is not None
        pause = _WRITE_INTERVAL
        while self._written < self._snapshot.generation:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()
            snapshot = self._snapshot
            started = time.monotonic()
            try:
                await asyncio.to_thread(_write, self._path, snapshot, self._held_at)
            except OSError as error:
                log.error("last good catalog %s cannot be written: %s", self._path, error)
            pause = max(_WRITE_INTERVAL, _WRITE_SHARE * (time.monotonic() - started))
            self._written = snapshot.generation
        self._writer = None


def _read(path: Path) -> Snapshot:
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_size > _MAX_FILE:
            raise BadAnswer(f"larger than {_MAX_FILE} bytes")
        return codec.decode(file)


def _write(path: Path, snapshot: Snapshot, held_at: float) -> None:
    """Write beside the file and rename, so that a reader finds the old one or the new one, whole.

    The file is as old as the last word of the catalog: that an instance has departed makes it no newer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.writelines(codec.encode(snapshot))
            file.flush()
            os.utime(descriptor, (held_at, held_at))
            os.fsync(descriptor)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
