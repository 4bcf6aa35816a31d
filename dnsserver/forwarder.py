"""Asking recursors: one exchange for many askers of the same question, from recursor to recursor.

A loop (a recursor that forwards to us what we ask it) ends by itself: the question that comes back finds its exchange
under way and waits for it, the recursor fails for want of a reply, and is asked last from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from dnsserver.exchange import ask_recursor
from dnsserver.foreign import ForeignCache, Found
from dnsserver.health import RecursorHealth
from dnsserver.message import Query
from dnsserver.rules import ForwardRules, Labels
from dnsserver.stats import DnsStats
from dnsserver.upstream import ForeignKey, ForeignReply, foreign_key
from dnsserver.wire import CLASS_IN, FLAG_RD, NOERROR, NXDOMAIN, TYPE_SOA, FormatError, name_to_text, split_name
from lb.settings import Address, DnsSettings

log = logging.getLogger(__name__)

Deliver = Callable[[Found | None], None]
"""Is given the reply; None: no recursor had one."""

MAX_QUESTIONS = 512
"""Different questions in flight; each holds a socket."""

MAX_WAITING = 8192
"""Askers that wait for an answer, all together."""


class _Exchange(NamedTuple):
    """A question in flight and those who wait for its answer."""

    task: asyncio.Task[None]
    waiting: list[Deliver]


class Forwarder:
    """Asks the recursors that `rules` name for a question, until one answers NOERROR or NXDOMAIN.

    They are asked in order or, by `settings`, in a random one; those that failed lately come last. Each has
    `recursor_timeout` seconds, UDP and, after a truncated reply, TCP together. Each exchange goes out from a random
    port with a random ID, and only a reply of the asked recursor with that ID and question counts.

    A question that all of them failed on is not asked again for a while (RFC 9520), unless one of them was dead then
    and is back.
    """

    def __init__(self, rules: ForwardRules, settings: DnsSettings, stats: DnsStats, rng: Random) -> None:
        self._rules = rules
        self._settings = settings
        self._stats = stats
        self._rng = rng
        self._exchanges: dict[ForeignKey, _Exchange] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self.cache = ForeignCache(settings.cache_size)
        self.health = RecursorHealth(rules.recursors)

    @property
    def in_flight(self) -> int:
        """How many questions are being asked."""
        return len(self._exchanges)

    def serves(self, labels: Labels) -> bool:
        """Tell whether there is a recursor for a name."""
        return bool(self._rules.choose(labels))

    def ask(self, query: Query, deliver: Deliver) -> None:
        """Deliver a cached reply at once, or a recursor's later.

        None at once when recursors have just failed on the question, or too much is in flight.
        """
        now = asyncio.get_running_loop().time()
        key = foreign_key(query)
        found = self.cache.get(key, now)
        if found is not None and not found.stale:
            self._stats.foreign_hits += 1
            deliver(found)
            return
        self._stats.foreign_misses += 1
        returns = self.health.returns(self._rules.choose(query.labels))
        failing = self.cache.failures.holds(key, now, returns)
        if found is not None and self._is_hopeless(key, query, now, returns):
            self._deliver_stale(found, deliver)
            if not failing:
                self._refresh(key, query)
            return
        if failing:
            self._stats.foreign_failures += 1
            deliver(None)
            return
        exchange = self._exchanges.get(key)
        if self._waiting >= MAX_WAITING or (exchange is None and len(self._exchanges) >= MAX_QUESTIONS):
            self._stats.dropped["forwarder_full"] += 1
            deliver(None)
            return
        self._waiting += 1
        if exchange is None:
            exchange = self._start(key, query)
        exchange.waiting.append(deliver)

    def probe(self) -> None:
        """To be called each second: see whether recursors that are down are back."""
        loop = asyncio.get_running_loop()
        for recursor in self.health.due(loop.time()):
            task = loop.create_task(self._probe(recursor), name=f"dns-probe {recursor}")
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def drain(self, grace: float) -> None:
        """Wait for up to `grace` seconds until the questions that somebody waits for are answered."""
        tasks = [exchange.task for exchange in self._exchanges.values() if exchange.waiting]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def close(self) -> None:
        """End all exchanges; those who wait get a stale reply, or None."""
        tasks = [*(exchange.task for exchange in self._exchanges.values()), *self._probes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before its first step has done nothing, not even its end.
        for key in list(self._exchanges):
            self._finish(key, None)

    # --- stale replies

    def _is_hopeless(self, key: ForeignKey, query: Query, now: float, returns: int) -> bool:
        """Tell whether recursors have failed on this question lately, or would fail on any."""
        return self.cache.failures.likely(key, now, returns) or self.health.all_dead(self._rules.choose(query.labels))

    def _deliver_stale(self, found: Found, deliver: Deliver) -> None:
        self._stats.foreign_stale += 1
        deliver(found)

    def _refresh(self, key: ForeignKey, query: Query) -> None:
        """Ask recursors for nobody but the cache."""
        if key not in self._exchanges and len(self._exchanges) < MAX_QUESTIONS:
            self._start(key, query)

    # --- exchanges

    def _start(self, key: ForeignKey, query: Query) -> _Exchange:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(key, query), name=f"dns-forward {name_to_text(query.qname)}")
        exchange = self._exchanges[key] = _Exchange(task, [])
        return exchange

    async def _run(self, key: ForeignKey, query: Query) -> None:
        reply = None
        returns = self.health.returns(self._rules.choose(query.labels))
        try:
            reply = await self._first_good(query)
            if reply is None:
                self.cache.note_failure(key, asyncio.get_running_loop().time(), returns)
        except Exception as error:
            self._stats.fault(log, error)
        finally:
            self._finish(key, reply)

    def _finish(self, key: ForeignKey, reply: ForeignReply | None) -> None:
        """Keep a reply and give it to those who wait; without one they get what is kept of an earlier one."""
        now = asyncio.get_running_loop().time()
        waiting = self._exchanges.pop(key).waiting
        self._waiting -= len(waiting)
        if reply is not None:
            self.cache.put(key, reply, now)
            found: Found | None = Found(reply)
        else:
            found = self.cache.get(key, now)
        for deliver in waiting:
            if found is not None and found.stale:
                self._deliver_stale(found, deliver)
            else:
                deliver(found)

    async def _first_good(self, query: Query) -> ForeignReply | None:
        recursors = list(self._rules.choose(query.labels))
        if self._settings.recursor_strategy == "random":
            self._rng.shuffle(recursors)
        for recursor in self.health.order(recursors):
            result, reply = await self._ask_one(recursor, query)
            self._stats.forwarded[(str(recursor), result)] += 1
            if result == "ok":
                return reply
        return None

    async def _ask_one(self, recursor: Address, query: Query) -> tuple[str, ForeignReply | None]:
        """Ask one recursor; return a label of the result, and the reply where that is `ok`."""
        settings = self._settings
        try:
            reply = await ask_recursor(
                recursor, query, settings.recursor_timeout, settings.udp_size, self._count_mismatch
            )
        except TimeoutError:
            return self._failed(recursor, "timeout"), None
        except (OSError, EOFError):
            return self._failed(recursor, "unreachable"), None
        except FormatError:
            return self._failed(recursor, "malformed"), None
        if self.health.replied(recursor):
            log.info("DNS: the recursor %s replies again", recursor)
        return ("ok", reply) if reply.rcode in (NOERROR, NXDOMAIN) else ("refused", None)

    async def _probe(self, recursor: Address) -> None:
        """Ask for the SOA of a zone that the recursor should know, so that it must reach others if it needs them."""
        zone = self._rules.zone_of(recursor)
        question = zone + TYPE_SOA.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")
        query = Query(FLAG_RD, question, zone, tuple(split_name(zone)), TYPE_SOA, CLASS_IN, None)
        try:
            result, _ = await self._ask_one(recursor, query)
            self.health.trial_failed(recursor)
            self._stats.forwarded[(str(recursor), f"probe_{result}")] += 1
        except Exception as error:
            self._stats.fault(log, error)

    def _failed(self, recursor: Address, result: str) -> str:
        if self.health.failed(recursor, asyncio.get_running_loop().time()):
            log.warning("DNS: the recursor %s failed (%s) and is asked last until it replies", recursor, result)
        return result

    def _count_mismatch(self) -> None:
        self._stats.dropped["recursor_mismatch"] += 1
