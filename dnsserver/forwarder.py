"""Asking recursors: one exchange for many askers of the same question, in order from recursor to recursor."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dnsserver.foreign import ForeignCache
from dnsserver.message import Query
from dnsserver.stats import DnsStats
from dnsserver.upstream import (
    ForeignKey,
    ForeignReply,
    foreign_key,
    foreign_query,
    is_reply,
    is_truncated,
    parse_reply,
)
from dnsserver.wire import MAX_MESSAGE, NOERROR, NXDOMAIN, FormatError, name_to_text
from lb.settings import Address, DnsSettings

log = logging.getLogger(__name__)

Deliver = Callable[[ForeignReply | None, int], None]
"""Is given the reply and its age in seconds; None: no recursor had one."""

MAX_QUESTIONS = 512
"""Different questions in flight; each holds a socket."""

MAX_WAITING = 8192
"""Askers that wait for an answer, all together."""

CACHE_BYTES = 16 << 20


class _Exchange(NamedTuple):
    """A question in flight and those who wait for its answer."""

    task: asyncio.Task[None]
    waiting: list[Deliver]


class Forwarder:
    """Asks `recursors` in order until one answers NOERROR or NXDOMAIN.

    Each attempt has `timeout` seconds, UDP and, after a truncated reply, TCP together. Each goes out from a random
    port with a random ID, and only a reply of the asked recursor with that ID and question counts.
    """

    def __init__(self, recursors: Sequence[Address], settings: DnsSettings, stats: DnsStats) -> None:
        self._recursors = tuple(recursors)
        self._timeout = settings.recursor_timeout
        self._udp_size = settings.udp_size
        self._stats = stats
        self._exchanges: dict[ForeignKey, _Exchange] = {}
        self._waiting = 0
        self.cache = ForeignCache(CACHE_BYTES)

    @property
    def in_flight(self) -> int:
        """How many questions are being asked."""
        return len(self._exchanges)

    def ask(self, query: Query, deliver: Deliver) -> None:
        """Deliver a cached reply at once, or a recursor's later; None at once when too much is in flight."""
        loop = asyncio.get_running_loop()
        key = foreign_key(query)
        cached = self.cache.get(key, loop.time())
        if cached is not None:
            self._stats.foreign_hits += 1
            deliver(*cached)
            return
        self._stats.foreign_misses += 1
        exchange = self._exchanges.get(key)
        if self._waiting >= MAX_WAITING or (exchange is None and len(self._exchanges) >= MAX_QUESTIONS):
            self._stats.dropped["forwarder_full"] += 1
            deliver(None, 0)
            return
        self._waiting += 1
        if exchange is not None:
            exchange.waiting.append(deliver)
            return
        task = loop.create_task(self._run(key, query), name=f"dns-forward {name_to_text(query.qname)}")
        self._exchanges[key] = _Exchange(task, [deliver])

    async def drain(self, grace: float) -> None:
        """Wait for up to `grace` seconds until the questions in flight are answered."""
        tasks = [exchange.task for exchange in self._exchanges.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def close(self) -> None:
        """End all exchanges; those who wait get None."""
        tasks = [exchange.task for exchange in self._exchanges.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: ForeignKey, query: Query) -> None:
        reply = None
        try:
            reply = await self._first_good(query)
            if reply is not None:
                self.cache.put(key, reply, asyncio.get_running_loop().time())
        except Exception as error:
            self._stats.fault(log, error)
        finally:
            waiting = self._exchanges.pop(key).waiting
            self._waiting -= len(waiting)
            for deliver in waiting:
                deliver(reply, 0)

    async def _first_good(self, query: Query) -> ForeignReply | None:
        for recursor in self._recursors:
            result, reply = await self._ask_one(recursor, query)
            self._stats.forwarded[(str(recursor), result)] += 1
            if result == "ok":
                return reply
        return None

    async def _ask_one(self, recursor: Address, query: Query) -> tuple[str, ForeignReply | None]:
        """Ask one recursor; return a label of the result, and the reply where that is `ok`."""
        sent = foreign_query(query, secrets.randbelow(1 << 16), self._udp_size)
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._exchange_udp(recursor, sent, query.question)
                if is_truncated(message):
                    message = await _exchange_tcp(recursor, sent, query.question)
            reply = parse_reply(message, query.question)
        except TimeoutError:
            return "timeout", None
        except (OSError, EOFError):
            return "unreachable", None
        except FormatError:
            return "malformed", None
        return ("ok", reply) if reply.rcode in (NOERROR, NXDOMAIN) else ("refused", None)

    async def _exchange_udp(self, recursor: Address, sent: bytes, question: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in recursor.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            # Connecting draws a random port, and lets the kernel refuse what comes from elsewhere.
            sock.connect(recursor)
            await loop.sock_sendall(sock, sent)
            while True:
                message = await loop.sock_recv(sock, MAX_MESSAGE)
                if is_reply(message, sent, question):
                    return message
                self._stats.dropped["recursor_mismatch"] += 1


async def _exchange_tcp(recursor: Address, sent: bytes, question: bytes) -> bytes:
    """Ask over TCP (RFC 7766); raise FormatError for a reply to something else."""
    reader, writer = await asyncio.open_connection(recursor.host, recursor.port, limit=MAX_MESSAGE + 2)
    try:
        writer.write(len(sent).to_bytes(2, "big") + sent)
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = await reader.readexactly(length)
    finally:
        writer.close()
    if not is_reply(message, sent, question):
        raise FormatError("a reply over TCP that is not one to our question")
    return message
