"""Single questions to Consul's agents, beside the watch: to the first of them that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lb.errors import AgentUnreachable, CatalogError, SettingsError
from lb.settings import ConsulSettings

if TYPE_CHECKING:
    from lb.catalog.client import Agent, Token

log = logging.getLogger(__name__)

CONNECTIONS = 4
"""TCP connections to one agent; what more is asked at once waits for one."""

TRY = 1.4
"""Seconds that one agent has; a question to another datacenter needs a round trip or two."""

RETURN = 30.0
"""Seconds after which the agents before the one in use are tried again."""


class AgentAsker:
    """Asks the agents of the settings in order, beginning with the one that answered last.

    Each token read from a file is told to `hide`. To be used and closed inside one event loop. The client library is
    loaded for the first question: most processes that could ask never do.
    """

    def __init__(self, settings: ConsulSettings, hide: Callable[[str], None] = lambda _: None) -> None:
        self._settings = replace(settings, max_connections=CONNECTIONS)
        self._hide = hide
        self._token: Token | None = None
        self._agents: dict[str, Agent] = {}
        self._position = 0
        self._left_at = 0.0
        self._working = True

    async def ask(self, path: str, params: Mapping[str, str]) -> Any:
        """GET `path` of `params["dc"]`, as any server knows it (stale), and return the decoded JSON.

        Raises `AgentRefused` and `BadAnswer` from the first agent that answers, `AgentUnreachable` if none does.
        """
        urls = self._settings.agents
        now = asyncio.get_running_loop().time()
        if self._position and now - self._left_at >= RETURN:
            self._position = 0
        start = self._position
        failure = AgentUnreachable("there is no agent")
        for position in (*range(start, len(urls)), *range(start)):
            try:
                answer = await self._ask_one(urls[position], path, params)
            except AgentUnreachable as error:
                failure = error
                continue
            except CatalogError:
                self._note_working(position, now)
                raise
            self._note_working(position, now)
            return answer
        if self._working:
            log.warning("no Consul agent can be asked for what DNS does not find in the catalog: %s", failure)
            self._working = False
        raise failure

    async def close(self) -> None:
        """Close all connections."""
        agents = list(self._agents.values())
        self._agents.clear()
        for agent in agents:
            with suppress(CatalogError):
                await agent.close()

    async def _ask_one(self, url: str, path: str, params: Mapping[str, str]) -> Any:
        try:
            agent = self._agents.get(url) or await self._start(url)
            async with asyncio.timeout(TRY):
                return (await agent.get(path, datacenter=params.get("dc", ""))).body
        except SettingsError as error:
            raise AgentUnreachable(str(error)) from error
        except TimeoutError:
            raise AgentUnreachable(f"{url}: no answer within {TRY} s") from None

    async def _start(self, url: str) -> Agent:
        """Return the client for an agent, made now unless somebody else was quicker."""
        # Loading takes tenths of a second, once: whoever else is served here need not wait for it.
        new_agent, new_token = await asyncio.to_thread(_load_client)
        if self._token is None:
            self._token = new_token(self._settings, self._hide)
        if url not in self._agents:
            self._agents[url] = new_agent(url, self._settings, self._token)
        return self._agents[url]

    def _note_working(self, position: int, now: float) -> None:
        if position != self._position:
            self._position, self._left_at = position, now
        self._working = True


def _load_client() -> tuple[type[Agent], type[Token]]:
    """Import the client library, which takes nearly 20 MiB of memory in each process that does."""
    from lb.catalog.client import Agent, Token  # noqa: PLC0415  at the top, every worker would load it

    return Agent, Token
