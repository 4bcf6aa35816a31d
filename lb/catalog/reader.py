"""Asking one agent on behalf of the watch: accounting, the long-poll loop, and patience with errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from lb.catalog.client import Agent, Answer, Consistency
from lb.catalog.pace import Backoff, Pace
from lb.catalog.status import WatchStatus, error_kind
from lb.errors import AgentUnreachable, CatalogError

log = logging.getLogger(__name__)

BYTES_PER_SECOND = 5_000_000
"""How much one watch may read in a row: a large answer slows its watch down."""

USELESS = 0.25
"""What a wake that brought nothing new costs its watch, in seconds."""

_INTERVAL = 0.01
_TRIES = 3
_LEADER_DOUBT = 3.0


class Reader:
    """One agent, asked by all parts of a session; keeps `status` in step with its answers."""

    def __init__(self, agent: Agent, status: WatchStatus) -> None:
        self._agent = agent
        self._status = status
        self._leader_doubted_until = 0.0

    async def get(
        self,
        path: str,
        *,
        consistency: Consistency = "stale",
        index: int = 0,
        wait: float = 0.0,
        matching: str = "",
    ) -> Answer:
        """Ask as `Agent.get` does, and count."""
        status = self._status
        asked = self._agent.get(path, consistency=consistency, index=index, wait=wait, matching=matching)
        status.connections += 1
        try:
            answer = await asked
        except CatalogError as error:
            status.errors[error_kind(error)] += 1
            status.last_error = str(error)
            raise
        finally:
            status.connections -= 1
        status.connected = True
        status.answers += 1
        status.answered_at = time.monotonic()
        status.known_leader = answer.known_leader
        status.last_contact = answer.last_contact
        return answer

    async def get_from_leader(self, path: str) -> tuple[Answer, bool]:
        """Ask for what the leader knows; without one, for what any server knows: the flag tells which it was.

        After a change was seen, a stale read may come from a server that has not seen it yet.
        """
        if time.monotonic() >= self._leader_doubted_until:
            try:
                return await self.get(path, consistency="default"), True
            except CatalogError:
                # Consul holds such a read for 7 s before it gives up: do not let every service wait for that.
                self._leader_doubted_until = time.monotonic() + _LEADER_DOUBT
        return await self.get(path), False

    async def poll(
        self,
        path: str,
        on_answer: Callable[[Answer], bool],
        on_reset: Callable[[], None],
        *,
        wait: float,
        matching: str = "",
    ) -> None:
        """Follow `path` with blocking queries for ever.

        `on_answer` gets each answer, returns whether there was anything new in it, and may raise `BadAnswer`.
        When an index went backwards, Consul counts anew: `on_reset` is called, and the next read is one from 0.
        """
        index = 0
        pace = Pace(_INTERVAL)
        patience = Patience(path)
        while True:
            await asyncio.sleep(pace.delay(time.monotonic()))
            try:
                answer = await self.get(path, index=index, wait=wait, matching=matching)
                useful = on_answer(answer)
            except CatalogError as error:
                index = 0
                await patience.suffer(error)
                continue
            patience.relax()
            if answer.index < index:
                on_reset()
                index = 0
            else:
                index = answer.index
            pace.take(time.monotonic(), answer_cost(answer, useful))


def answer_cost(answer: Answer, useful: bool) -> float:
    """Return how long (seconds) a watch is to make do without another answer after this one."""
    return max(answer.size / BYTES_PER_SECOND, 0.0 if useful else USELESS)


class Patience:
    """How one watch bears errors: waits and tries again, or gives the agent up by raising the error.

    An unreachable agent is given up at once, another error after three in a row. A refused token is no
    fault of the agent: it is logged once and tried again slowly, for ever.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._backoff = Backoff(0.5, 10.0)
        self._slow_backoff = Backoff(1.0, 60.0)
        self._errors = 0
        self._denied = False

    async def suffer(self, error: CatalogError) -> None:
        """Wait before the next attempt, or raise `error`."""
        if error_kind(error) == "denied":
            if not self._denied:
                log.error("%s: the agent refuses the ACL token: %s", self._subject, error)
            self._denied = True
            await asyncio.sleep(self._slow_backoff.next())
            return
        self._errors += 1
        if isinstance(error, AgentUnreachable) or self._errors >= _TRIES:
            raise error
        log.warning("%s: %s", self._subject, error)
        await asyncio.sleep(self._backoff.next())

    def relax(self) -> None:
        """Start anew: an attempt succeeded."""
        if self._denied:
            log.info("%s: the agent takes the ACL token again", self._subject)
        self._denied = False
        self._errors = 0
        self._backoff.reset()
        self._slow_backoff.reset()
