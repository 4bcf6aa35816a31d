"""Waiting for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


async def until_first(tasks: Collection[asyncio.Task[Any]], patience: float | None = None) -> None:
    """Wait until one of the tasks ends, or for `patience` seconds; end the others, and raise what it ended with."""
    try:
        done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
