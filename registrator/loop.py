"""The registrator of one host: follows a Docker engine and writes to a Consul agent, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lb.catalog.departures import Departed
from lb.catalog.model import Problem
from lb.catalog.registering import LocalAgent
from lb.errors import CatalogError, EngineError
from lb.observe.log import fields
from lb.observe.views import without_credentials
from lb.settings import ConsulSettings, RegistratorSettings
from registrator.docker import Engine, check_address
from registrator.follower import Follower
from registrator.model import Registration
from registrator.roster import Roster
from registrator.stats import RESULTS, RegistratorStats
from registrator.tasks import until_first
from registrator.writer import Writer

RESTART_PAUSE = 5.0
"""Seconds after a fault of our own until everything begins anew."""

log = logging.getLogger(__name__)


class Catalog(Protocol):
    """The catalog of a balancer in the same program: it is told at once which services have ended."""

    def depart(self, instances: Sequence[Departed]) -> None:
        """These have ended."""

    def come_back(self, instance: Departed, address: str, port: int) -> None:
        """This one is registered again, at this address (empty: its node's) and port."""


class Registrator:
    """Registers the containers of one engine with the first agent of `consul`, from `start` to `stop`.

    Both may come and go; it goes on. `catalog` is told of the end of a container before Consul is. Each token read from
    a file is told to `hide`. Raises SettingsError for an engine's address that cannot be used.
    """

    def __init__(
        self,
        settings: RegistratorSettings,
        consul: ConsulSettings,
        catalog: Catalog,
        hide: Callable[[str], None] = lambda _: None,
    ) -> None:
        check_address(settings.docker)
        self._settings = settings
        self._consul = consul
        self._catalog = catalog
        self._hide = hide
        self._running: asyncio.Task[None] | None = None
        self._roster = Roster(settings)
        self._writer: Writer | None = None
        self.stats = RegistratorStats()
        self.failure = ""

    @property
    def settled(self) -> bool:
        """Whether all containers that ran were registered once, as far as they can be."""
        return self._writer is not None and self._writer.settled

    @property
    def services(self) -> int:
        """How many services of ours the agent has."""
        return 0 if self._writer is None else self._writer.services

    @property
    def containers(self) -> int:
        """How many containers run."""
        return len(self._roster)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What of the containers is not registered."""
        return (*self._roster.problems(), *(() if self._writer is None else self._writer.problems))

    def start(self) -> None:
        """Begin, in the running loop."""
        self._running = asyncio.create_task(self._run(), name="registrator")

    async def wait(self) -> None:
        """Wait for its end. Raises EngineError or CatalogError when Docker or Consul is given up."""
        assert self._running is not None
        await asyncio.wait({self._running})
        if not self._running.cancelled():
            self._running.result()

    async def stop(self, *, leaving: bool = False) -> None:
        """End. Registrations stay, unless the host is `leaving` and the settings say that they go then."""
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None
        if leaving and self._settings.deregister_on_exit and self._writer is not None:
            agent = LocalAgent(self._consul, self._hide)
            try:
                await self._writer.withdraw(agent)
            finally:
                await agent.close()

    async def _run(self) -> None:
        """Follow and write until cancelled, whatever goes wrong. Raises EngineError or CatalogError."""
        while True:
            try:
                await self._follow()
            except (EngineError, CatalogError) as error:
                self.failure = str(error)
                log.error("the registrator gives up", extra=fields(reason=self.failure))
                raise
            except Exception:
                log.exception("the registrator failed and begins anew")
            await asyncio.sleep(RESTART_PAUSE)

    async def _follow(self) -> None:
        engine = Engine(self._settings.docker)
        agent = LocalAgent(self._consul, self._hide)
        self._roster = Roster(self._settings)
        self._writer = writer = Writer(agent, self._roster, self._settings, self.stats, self._came_back)
        follower = Follower(engine, self._roster, self._settings, self.stats, writer.changed, self._departed)
        tasks = [
            asyncio.create_task(follower.run(), name="registrator: Docker"),
            asyncio.create_task(writer.run(), name="registrator: Consul"),
        ]
        try:
            await until_first(tasks)
        finally:
            self.stats.docker.connected = self.stats.consul.connected = False
            await agent.close()
            await engine.close()

    def _departed(self, registrations: Sequence[Registration]) -> None:
        self._catalog.depart([self._instance(registration) for registration in registrations])

    def _came_back(self, registration: Registration) -> None:
        self._catalog.come_back(self._instance(registration), registration.address, registration.port)

    def _instance(self, registration: Registration) -> Departed:
        return Departed(registration.name, self._roster.node, registration.id)

    def status(self) -> dict[str, Any]:
        """Describe it as `/api/status` does."""
        stats = self.stats
        return {
            "docker": {
                "engine": self._settings.docker,
                "connected": stats.docker.connected,
                "error": stats.docker.error,
            },
            "consul": {
                "agent": without_credentials(self._consul.agents[0]),
                "connected": stats.consul.connected,
                "error": stats.consul.error,
            },
            "node": self._roster.node,
            "settled": self.settled,
            "failure": self.failure,
            "containers": self.containers,
            "services": self.services,
            "events": stats.events.total(),
            "writes": {result: sum(n for (_, r), n in stats.writes.items() if r == result) for result in RESULTS},
        }
