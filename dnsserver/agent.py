"""What agents have answered, kept for a moment: one question in flight for many askers, all of it bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dnsserver.remote import NOTHING, AgentAnswer, AgentQuestion, is_nothing, read_found
from dnsserver.stats import DnsStats
from lb.errors import AgentRefused, CatalogError

log = logging.getLogger(__name__)

Ask = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""Asks an agent for a path with parameters and returns the decoded JSON. Raises CatalogError."""

Deliver = Callable[[AgentAnswer | None], None]
"""Is given what was found; None: no agent could be asked, and nothing is known from before."""

FRESH = 2.0
"""Seconds for which an answer is given without asking again."""

KEPT = 3600.0
"""Seconds for which an answer goes on while no agent can be asked."""

TIMEOUT = 3.0
"""Seconds for one question, all agents together: a stub resolver asks again, or elsewhere, after 5."""

MAX_QUESTIONS = 64
"""Different questions in flight."""

MAX_WAITING = 4096
"""Askers that wait for an answer, all together."""

MAX_INSTANCES = 1 << 16
"""Instances in all answers that are kept together; an answer counts as one more."""


@dataclass(slots=True)
class _Kept:
    """An answer (None: a failure, and nothing before it), when it was given, and until when nobody asks again."""

    found: AgentAnswer | None
    since: float
    until: float

    @property
    def weight(self) -> int:
        return 1 + (len(self.found.instances) if self.found is not None else 0)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A question in flight and those who wait for its answer."""

    task: asyncio.Task[None]
    waiting: list[Deliver]


class AgentAnswers:
    """Asks agents through `ask`, and remembers what they said for `FRESH` seconds.

    While none can be asked, what was said goes on for `keep` seconds; of what was never asked nothing is known.
    `clock` is monotonic.
    """

    def __init__(
        self, ask: Ask, stats: DnsStats, keep: float = KEPT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._stats = stats
        self._keep = keep
        self._kept: OrderedDict[AgentQuestion, _Kept] = OrderedDict()
        self._weight = 0
        self._exchanges: dict[AgentQuestion, _Exchange] = {}
        self._waiting = 0

    def find(self, question: AgentQuestion, deliver: Deliver) -> None:
        """Deliver what is known at once, or an agent's answer later; None at once when too much is in flight."""
        now = self._clock()
        kept = self._kept.get(question)
        if kept is not None and now < kept.until:
            self._kept.move_to_end(question)
            self._stats.agent["cached"] += 1
            deliver(kept.found)
            return
        exchange = self._exchanges.get(question)
        if self._waiting >= MAX_WAITING or (exchange is None and len(self._exchanges) >= MAX_QUESTIONS):
            self._stats.dropped["agent_full"] += 1
            deliver(self._last(question, now))
            return
        self._waiting += 1
        if exchange is not None:
            exchange.waiting.append(deliver)
            return
        task = asyncio.get_running_loop().create_task(self._run(question), name=f"dns-agent {question.path}")
        self._exchanges[question] = _Exchange(task, [deliver])

    async def drain(self, grace: float) -> None:
        """Wait for up to `grace` seconds until the questions in flight are answered."""
        tasks = [exchange.task for exchange in self._exchanges.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def close(self) -> None:
        """End all questions in flight; those who wait get what was known before, or None."""
        tasks = [exchange.task for exchange in self._exchanges.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before its first step has done nothing, not even its end.
        for question in list(self._exchanges):
            self._tell(question, None)

    async def _run(self, question: AgentQuestion) -> None:
        found = None
        try:
            found = await self._answer(question)
        except Exception as error:
            self._stats.fault(log, error)
        finally:
            self._tell(question, found)

    def _tell(self, question: AgentQuestion, found: AgentAnswer | None) -> None:
        """Keep what was found, or else what was known before, and deliver it to all who wait."""
        now = since = self._clock()
        if found is None:
            found = self._last(question, now)
            since = self._kept[question].since if found is not None else now
        self._put(question, _Kept(found, since, now + FRESH))
        waiting = self._exchanges.pop(question).waiting
        self._waiting -= len(waiting)
        for deliver in waiting:
            deliver(found)

    async def _answer(self, question: AgentQuestion) -> AgentAnswer | None:
        result = "ok"
        found: AgentAnswer | None = None
        try:
            params = {"dc": question.datacenter} if question.datacenter else {}
            async with asyncio.timeout(TIMEOUT):
                found = read_found(question, await self._ask(question.path, params))
        except AgentRefused as refused:
            if is_nothing(question, refused):
                found, result = NOTHING, "nothing"
            else:
                result = "refused"
        except (CatalogError, TimeoutError) as error:
            log.debug("DNS: %s of %s: %s", question.path, question.datacenter, error)
            result = "failed"
        self._stats.agent[result] += 1
        return found

    def _last(self, question: AgentQuestion, now: float) -> AgentAnswer | None:
        """What was answered before, if that is not too long ago."""
        kept = self._kept.get(question)
        return kept.found if kept is not None and now - kept.since < self._keep else None

    def _put(self, question: AgentQuestion, kept: _Kept) -> None:
        former = self._kept.pop(question, None)
        if former is not None:
            self._weight -= former.weight
        self._kept[question] = kept
        self._weight += kept.weight
        while self._weight > MAX_INSTANCES and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._weight -= gone.weight
