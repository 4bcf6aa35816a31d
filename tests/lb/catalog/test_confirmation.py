"""Who is told when the catalog ceases to be confirmed, and how old it is then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lb.catalog import confirmation
from lb.catalog.confirmation import Confirmation
from lb.catalog.status import WatchStatus
from lb.catalog.store import FILE_NAME, Store


def following(
    status: WatchStatus, age: float, steps: list[Callable[[], None]], store: Store | None = None
) -> list[float | None]:
    """Take the steps one after the other, each once the one before it was noticed; return what was told."""

    async def run() -> list[float | None]:
        told: list[float | None] = []
        news = asyncio.Event()

        def tell(age: float | None) -> None:
            told.append(age)
            news.set()

        async with asyncio.timeout(5):
            task = asyncio.ensure_future(Confirmation(status, store or Store(), age).tell(tell))
            for step in steps:
                await news.wait()
                news.clear()
                step()
            await news.wait()
            task.cancel()
            await asyncio.wait({task})
        return told

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INTERVAL", 0.005)


def test_an_old_catalog_is_old_until_an_agent_answers() -> None:
    status = WatchStatus()

    def answer() -> None:
        status.connected, status.answered_at = True, time.monotonic() - 70

    def lose() -> None:
        status.connected = False

    told = following(status, 1000, [answer, lose])
    assert told[0] == pytest.approx(1000, abs=5)
    assert told[1] is None
    assert told[2] == pytest.approx(70, abs=5), "the agent's last answer counts, not when it was given up"


def test_a_confirmation_is_noted_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "NOTE_INTERVAL", 0.0)
    file = tmp_path / FILE_NAME
    file.touch()
    os.utime(file, (1, 1))
    store = Store(tmp_path)
    assert store.kept_age() > 1_000_000
    following(WatchStatus(connected=True), 0, [], store)
    assert store.kept_age() < 60
