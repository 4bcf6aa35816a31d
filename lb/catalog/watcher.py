"""Following Consul for ever: one session after another, on the best agent there is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from lb.catalog.client import Agent, Token, check_tls
from lb.catalog.guard import EmptyGuard
from lb.catalog.ledger import Ledger
from lb.catalog.pace import Backoff
from lb.catalog.publisher import Publisher
from lb.catalog.session import Budget, Session, first_error
from lb.catalog.status import WatchStatus
from lb.catalog.store import Store
from lb.errors import AgentUnreachable, CatalogError, SettingsError
from lb.settings import ConsulSettings

log = logging.getLogger(__name__)

_SCOUT_INTERVAL = 1.0
_SCOUT_CAP = 30.0
_LEADER_INTERVAL = 5.0


class _BetterAgent(CatalogError):
    """Another agent is to be preferred to the one in use."""

    def __init__(self, position: int, url: str) -> None:
        super().__init__(f"{url} is to be preferred")
        self.position = position


class Watcher:
    """Follows the catalog through the agents of the settings and publishes it in the store.

    The agents are tried in order, the next one on an error, all of them again after a growing delay; from a
    later one the watch goes back to an earlier one that answers and knows a leader. An agent in use that
    has lost its leader is left for one that has one. Whatever happens, the last good catalog stays
    published. Each token read from a file is told to `hide`.

    Raises `SettingsError` for TLS files that cannot be used, and for too few connections.
    """

    def __init__(self, settings: ConsulSettings, store: Store, hide: Callable[[str], None] = lambda _: None) -> None:
        check_tls(settings)
        Budget.of(settings.max_connections)
        self.status = WatchStatus(agent=settings.agents[0])
        self._settings = settings
        self._token = Token(settings, hide)
        self._ledger = Ledger(store.snapshot)
        self._guard = EmptyGuard(settings.empty_guard)
        self._publisher = Publisher(self._ledger, store, self.status)
        self._position = 0
        self._failures = 0
        self._backoff = Backoff(0.2, 10.0)
        self._scout_backoff = Backoff(_SCOUT_INTERVAL, _SCOUT_CAP)

    async def run(self) -> None:
        """Follow the catalog until cancelled."""
        try:
            while True:
                await self._follow_agent()
                if self._failures and self._failures % len(self._settings.agents) == 0:
                    await asyncio.sleep(self._backoff.next())
        finally:
            self.status.connected = False
            self._publisher.close()

    async def _follow_agent(self) -> None:
        """Run one session to its end and choose the agent of the next one."""
        url = self.status.agent = self._settings.agents[self._position]
        try:
            async with self._asking(self._position) as agent:
                await self._run_session(agent)
        except _BetterAgent as better:
            log.info("leaving Consul agent %s: %s", url, better)
            self._move_to(better.position)
        except CatalogError as error:
            self._note_failure(url, error)
        except Exception as error:
            log.exception("following Consul agent %s failed", url)
            self._note_failure(url, error)
        finally:
            self.status.connected = False
            self.status.followed = 0

    @asynccontextmanager
    async def _asking(self, position: int) -> AsyncIterator[Agent]:
        """Give the agent at a position, to be asked for the length of a `with` block.

        TLS files that became unusable since the start, half written ones say, are a failure like any other.
        """
        try:
            agent = Agent(self._settings.agents[position], self._settings, self._token)
        except SettingsError as error:
            raise AgentUnreachable(str(error)) from error
        try:
            yield agent
        finally:
            await agent.close()

    async def _run_session(self, agent: Agent) -> None:
        session = Session(agent, self._settings, self._ledger, self._guard, self._publisher, self.status)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.run())
                group.create_task(self._note_settled(session, agent.url))
                if len(self._settings.agents) > 1:
                    group.create_task(self._scout())
                    group.create_task(self._mind_leader())
        except ExceptionGroup as errors:
            raise first_error(errors) from None

    async def _note_settled(self, session: Session, url: str) -> None:
        """Once every service has been read, the agent is good: errors before it are forgotten."""
        await session.settled.wait()
        log.info("following Consul agent %s: %d services", url, len(self._ledger.services))
        self._failures = 0
        self._backoff.reset()

    def _note_failure(self, url: str, error: Exception) -> None:
        """Go to the next agent; say so once, not at each of many attempts."""
        level = logging.WARNING if self._failures < len(self._settings.agents) else logging.DEBUG
        log.log(level, "Consul agent %s is given up: %s; the last good catalog stays in use", url, error)
        self._failures += 1
        self._move_to((self._position + 1) % len(self._settings.agents))

    def _move_to(self, position: int) -> None:
        if position != self._position:
            self.status.agent_changes += 1
        self._position = position

    # --- looking for a better agent ---

    async def _scout(self) -> None:
        """Raise `_BetterAgent` once an earlier one works, or any that has a leader when ours has none."""
        while True:
            await asyncio.sleep(self._scout_backoff.next())
            candidates = self._candidates()
            if not candidates:
                self._scout_backoff.reset()
            for position in candidates:
                if await self._has_leader(position):
                    raise _BetterAgent(position, self._settings.agents[position])

    async def _mind_leader(self) -> None:
        """Ask the agent in use now and then whether it knows a leader.

        Long polls tell that too late: an answer says what was known when its poll began. So an agent that is cut off
        claims a leader until the polls end that it has at that moment, and the truth comes with the end of the next.
        """
        while True:
            await asyncio.sleep(_LEADER_INTERVAL)
            self.status.known_leader = await self._has_leader(self._position)

    def _candidates(self) -> list[int]:
        """Return the positions of the agents that would be better than the one in use, if they work."""
        if self.status.connected and not self.status.known_leader:
            return [p for p in range(len(self._settings.agents)) if p != self._position]
        return list(range(self._position))

    async def _has_leader(self, position: int) -> bool:
        """Tell whether an agent works; asked on a connection that is closed again."""
        try:
            async with self._asking(position) as agent:
                return await agent.has_leader()
        except CatalogError:
            return False
