"""How often an engine is asked that does not do its part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from lb.settings import RegistratorSettings
from registrator.docker import Engine
from registrator.events import Event
from registrator.follower import Follower
from registrator.model import Container
from registrator.roster import Roster
from registrator.stats import RegistratorStats

SETTINGS = RegistratorSettings(host="h", resync=0)


class RestlessEngine(Engine):
    """An engine with one container, which ends each event stream at once."""

    def __init__(self) -> None:
        self.address = "unix:///none.sock"
        self.asked: list[float] = []
        self.enough = asyncio.Event()

    async def time(self) -> int:
        return 0

    async def running(self) -> list[str]:
        return ["id-a"]

    async def inspect(self, container: str) -> Container | None:
        self.asked.append(time.monotonic())
        if len(self.asked) == 5:
            self.enough.set()
        return Container(id=container, name="a", image="web")

    async def events(self, since: int) -> AsyncGenerator[Event, None]:
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event


def test_an_engine_that_ends_its_events_at_once_is_asked_less_and_less_often() -> None:
    async def main() -> None:
        engine = RestlessEngine()
        follower = Follower(
            engine, Roster(SETTINGS), SETTINGS, RegistratorStats(), lambda: None, lambda registrations: None
        )
        running = asyncio.create_task(follower.run())
        async with asyncio.timeout(10):
            await engine.enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert engine.asked[4] - engine.asked[0] > 0.6, "the pauses double"

    asyncio.run(main())
