"""Real workers, told of catalogs by a crew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

from lb.board.area import Board
from lb.board.ledger import Ledger
from lb.catalog.model import Instance, Service, Snapshot
from lb.settings import Address, HttpSettings, RoutingSettings, Settings
from lb.sockets import Inherited, Place, SharedSockets, open_place
from lb.workers.channel import Body
from lb.workers.crew import Crew
from lb.workers.member import Member
from tests.support.origins import origin
from tests.support.process import free_port

WORKERS = 2
CHANGES = 1000
SETTINGS = Settings(
    routing=RoutingSettings(domains=("test",)),
    http=HttpSettings(listen=(Address("127.0.0.1", 0),)),
    tcp=None,
    dns=None,
    workers=WORKERS,
)


class CountingCrew(Crew):
    """Counts the updates that each worker has applied."""

    def __init__(self, settings: Settings, board: Board, ledger: Ledger) -> None:
        super().__init__(settings, board, ledger)
        self.updates: Counter[int] = Counter()

    def told(self, member: Member, kind: str, body: Body) -> None:
        if kind == "applied":
            self.updates[member.number] += 1
        super().told(member, kind, body)


@contextlib.asynccontextmanager
async def serving_crew() -> AsyncIterator[tuple[CountingCrew, SharedSockets]]:
    board = Board.create(WORKERS, 10_000)
    crew = CountingCrew(SETTINGS, board, Ledger(board))
    shared = open_place(Place("http", Address("127.0.0.1", 0)), WORKERS, Inherited())
    try:
        await crew.start([shared])
        yield crew, shared
    finally:
        await crew.drain(1)
        shared.close()
        board.close()


def catalog(generation: int, port: int) -> Snapshot:
    """Service `web` has an instance of another name in each generation."""
    instance = Instance("web", f"web-{generation}", "node", "127.0.0.1", port, tags=("http",))
    return Snapshot({"web": Service("web", (instance,))}, generation=generation)


async def get(address: Address) -> bytes:
    """Ask for `web` over a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")
    reply = await reader.read()
    writer.close()
    return reply


def test_a_burst_of_changes_reaches_workers_as_few_updates_and_its_end_is_served() -> None:
    async def burst(last_port: int) -> None:
        async with asyncio.timeout(30), serving_crew() as (crew, shared):
            await crew.applied()
            before = crew.updates.copy()
            closed_port = free_port()
            stopped = crew.members[1]
            os.kill(stopped.pid, signal.SIGSTOP)
            try:
                for generation in range(1, CHANGES):
                    crew.apply(catalog(generation, closed_port))
                    await asyncio.sleep(0)
                crew.apply(catalog(CHANGES, last_port))
            finally:
                os.kill(stopped.pid, signal.SIGCONT)
            await crew.applied()
            replies = [await get(shared.place.address) for _ in range(20)]
            assert all(reply.endswith(b"\r\n\r\nthe last") for reply in replies), replies
            # The first change reaches a worker that does nothing; all others wait, and come in one go.
            assert crew.updates[1] - before[1] == 2

    with origin("the last") as port:
        asyncio.run(burst(port))
