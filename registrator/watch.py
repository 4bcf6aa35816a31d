"""Waiting until somebody else changes at the agent what is ours."""

from __future__ import annotations

import asyncio
import time

from lb.catalog.pace import Pace
from lb.catalog.registering import LocalAgent
from registrator.book import Book

INTERVAL = 1.0
BURST = 3
"""The agent is asked so often in a row, then once in so many seconds, however soon it answers."""


async def until_changed(agent: LocalAgent, book: Book, owning: asyncio.Event) -> None:
    """Wait until somebody else changes a service of ours. Raises CatalogError once the agent does not answer.

    One service stands for all: an agent that is restarted ends the query, whatever it has forgotten. One that shows no
    hash cannot be waited for: it is asked now and then whether the service is there. `owning` is set whenever the agent
    may have something of ours.
    """
    pace = Pace(INTERVAL, BURST)
    while True:
        owned = book.owned()
        if not owned:
            owning.clear()
            await owning.wait()
            continue
        await asyncio.sleep(pace.delay(time.monotonic()))
        pace.take(time.monotonic())
        had = book.get(owned[0])
        service = await agent.service(owned[0])
        changed = service is None
        if service is not None and (shown := service.get("ContentHash")):
            changed = await agent.service(owned[0], str(shown)) != service
        if changed and book.get(owned[0]) is had and owned[0] not in book.busy:
            return
