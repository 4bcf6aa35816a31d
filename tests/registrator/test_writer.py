"""What is written to an agent that is not as it was when it was read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lb.catalog.registering import LocalAgent
from lb.errors import AgentRefused
from lb.settings import ConsulSettings, RegistratorSettings
from registrator.book import Book
from registrator.model import Container, Port, Published, Registration
from registrator.plan import Plan
from registrator.roster import Roster
from registrator.stats import RegistratorStats
from registrator.writer import Writer

SETTINGS = RegistratorSettings(host="h", resync=0)


class ForgetfulAgent(LocalAgent):
    """An agent in memory that has lost what a test takes out of `held`; like newer Consuls, it then says 404."""

    def __init__(self) -> None:
        super().__init__(ConsulSettings())
        self.held: dict[str, dict[str, Any]] = {}
        self.waits = True
        self.hash = "x"
        self.asked: list[str] = []  # with which hashes

    async def node(self) -> str:
        return "n1"

    async def services(self) -> dict[str, Any]:
        return dict(self.held)

    async def checks(self) -> dict[str, Any]:
        return {}

    async def service(self, service_id: str, other_than: str = "") -> dict[str, Any] | None:
        self.asked.append(other_than)
        if other_than and self.waits:
            await asyncio.Event().wait()
        return self.held.get(service_id)

    async def register(self, service: Mapping[str, Any]) -> None:
        self.held[service["ID"]] = {**service, "Service": service["Name"], "ContentHash": self.hash}

    async def deregister(self, service_id: str) -> None:
        if self.held.pop(service_id, None) is None:
            raise AgentRefused(404, f"Unknown service ID {service_id!r}")


class World:
    """A writer, its agent and its roster; `told` is what the catalog of this program is told of."""

    def __init__(self, agent: ForgetfulAgent | None = None) -> None:
        self.agent = agent or ForgetfulAgent()
        self.roster = Roster(SETTINGS)
        self.told: list[Registration] = []
        self.writer = Writer(self.agent, self.roster, SETTINGS, RegistratorStats(), self.told.append)

    def start(self, *containers: Container) -> None:
        for one in containers:
            self.roster.tell(one.id, one, self.roster.turn())
        self.writer.changed()

    def end(self, one: Container) -> None:
        self.roster.end(one.id, 0)
        self.writer.changed()

    async def has(self, *names: str) -> None:
        """Wait until just these containers are registered."""
        await until(lambda: self.agent.held.keys() == {f"h:{name}:80" for name in names})


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if probe():
                return
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running_writer(*containers: Container, agent: ForgetfulAgent | None = None) -> AsyncIterator[World]:
    """A writer that has registered these."""
    world = World(agent)
    world.roster.complete = True
    running = asyncio.create_task(world.writer.run())
    try:
        world.start(*containers)
        await until(lambda: world.writer.settled)
        yield world
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await world.agent.close()


def container(name: str, port: int = 8000, **labels: str) -> Container:
    ports = (Port(80, "tcp", (Published("127.0.0.1", port),)),)
    return Container(id=f"id-{name}", name=name, image="web", ports=ports, labels=labels)


A, B = container("a"), container("b", 8001)


def test_a_container_is_registered_again_although_the_agent_had_lost_it_before_it_ended() -> None:
    async def main() -> None:
        async with running_writer(A, B) as world:
            del world.agent.held["h:b:80"]
            world.end(B)
            await until(lambda: bool(world.writer.problems))
            world.start(B)
            await world.has("a", "b")
            await until(lambda: not world.writer.problems)

    asyncio.run(main())


def test_at_exit_one_that_is_gone_already_keeps_no_other() -> None:
    async def main() -> None:
        everything = [container(f"c{number:02}", 8000 + number) for number in range(20)]
        async with running_writer(*everything) as world:
            await world.has(*(one.name for one in everything))
            for one in everything[:12]:
                del world.agent.held[f"h:{one.name}:80"]
            await world.writer.withdraw(world.agent)
            assert not world.agent.held

    asyncio.run(main())


def test_the_catalog_is_told_who_is_registered_when_another_container_that_wanted_its_id_ends() -> None:
    async def main() -> None:
        other = container("other", 8002, SERVICE_ID="h:a:80")
        async with running_writer(A, other) as world:
            await world.has("a")
            world.told.clear()
            world.end(other)
            await until(lambda: [(one.id, one.port) for one in world.told] == [("h:a:80", 8000)])

    asyncio.run(main())


def test_a_fault_in_planning_ends_the_writer_so_that_it_can_be_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> Plan:
        raise RuntimeError("not foreseen")

    async def main() -> None:
        world = World()
        world.roster.complete = True
        running = asyncio.create_task(world.writer.run())
        try:
            world.start(A)
            await world.has("a")
            monkeypatch.setattr(Book, "plan", faulty)
            world.end(A)
            with pytest.raises(RuntimeError, match="not foreseen"):
                async with asyncio.timeout(10):
                    await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await world.agent.close()

    asyncio.run(main())


@pytest.mark.parametrize(("shown", "questions"), [("x", 9), ("", 6)])
def test_an_agent_with_which_one_cannot_wait_is_asked_now_and_then(shown: str, questions: int) -> None:
    async def main() -> None:
        agent = ForgetfulAgent()
        agent.waits, agent.hash = False, shown
        began = time.monotonic()
        async with running_writer(A, agent=agent) as world:
            await until(lambda: len(agent.asked) >= questions)
            assert time.monotonic() - began > 0.9
            assert set(agent.asked) <= {"", shown}
            del agent.held["h:a:80"]
            await world.has("a")

    asyncio.run(main())
