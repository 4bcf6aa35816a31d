"""Packet -> reply: wire cache, zone and forwarder put together. Knows no socket."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from itertools import repeat
from random import Random

from dnsserver import replies
from dnsserver.agent import AgentAnswers
from dnsserver.answers import Asked, answer, pointer_miss
from dnsserver.cache import Entry, WireCache
from dnsserver.foreign import Found
from dnsserver.forwarder import Forwarder
from dnsserver.hosts import Hosts
from dnsserver.lane import Lane
from dnsserver.message import Query, Rejected, parse_query
from dnsserver.records import Answer, Group, Record
from dnsserver.remote import AgentAnswer, AgentNeeded, AgentQuestion
from dnsserver.replies import Encoder, Rotation, find_room
from dnsserver.stats import DnsStats, Gauges, Kind, kind_of
from dnsserver.upstream import STALE_TTL
from dnsserver.wire import (
    CLASS_IN,
    FLAG_RD,
    REFUSED,
    SERVFAIL,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    split_name,
)
from dnsserver.zone import Zone
from lb.settings import DnsSettings

log = logging.getLogger(__name__)

Send = Callable[[bytes], None]

ENTRY_OVERHEAD = 600
"""Octets of memory that an entry takes beside its key and its replies, about."""

MAX_AGENT_QUESTIONS = 8
"""What an agent is asked for one query, at most: the name itself, and names that host names of instances lead to."""

UNKNOWN = Answer(SERVFAIL, authoritative=False)
"""The answer where nothing is known, not even that there is nothing."""

_CHASED = {TYPE_A: TYPE_A, TYPE_AAAA: TYPE_AAAA, TYPE_ANY: TYPE_A}
"""What recursors are asked about the foreign target of a CNAME, by the type that the client asked for."""


class Trust(IntEnum):
    """How the catalog stands: confirmed by an agent, no longer confirmed, not confirmed for too long to answer."""

    CONFIRMED = 0
    STALE = 1
    EXPIRED = 2


class Responder:
    """Answers packets; `respond` never raises.

    `forwarder` is None where foreign names are refused. `rng` shuffles answers. Without an `agent`, what only one
    knows is SERVFAIL.
    """

    def __init__(
        self,
        settings: DnsSettings,
        stats: DnsStats,
        forwarder: Forwarder | None,
        zone: Zone,
        rng: Random,
        agent: AgentAnswers | None = None,
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._stats = stats
        self._forwarder = forwarder
        self._zone = zone
        self._hosts = Hosts()
        self._rng = rng
        self._recursive = forwarder is not None
        self._trust = Trust.CONFIRMED
        self.udp = Lane(True, self._on_drop)
        self.tcp = Lane(False, self._on_drop)
        stats.gauges = self._gauges

    def apply(self, zone: Zone) -> None:
        """Answer from another zone from now on; of replies made from the former one, those that hold are kept."""
        changed = zone.changed_since(self._zone)
        self._zone = zone
        if changed is None:
            self._forget()
            return
        for lane in (self.udp, self.tcp):
            lane.forget(changed)

    def apply_hosts(self, hosts: Hosts) -> None:
        """Answer names of another hosts file from now on."""
        self._hosts = hosts
        self._forget()

    def trust(self, trust: Trust) -> None:
        """Note how the catalog stands: once it is expired, what it would answer is SERVFAIL."""
        if trust is not self._trust:
            self._trust = trust
            self._forget()

    def _forget(self) -> None:
        for lane in (self.udp, self.tcp):
            lane.clear()

    def sweep(self) -> None:
        """To be called each second: forgets replies whose TTLs have changed since."""
        for lane in (self.udp, self.tcp):
            lane.sweep()

    def respond(self, packet: bytes, lane: Lane, send: Send) -> bool:
        """Answer a packet through `send`, now or later; return False where silence is the answer."""
        try:
            reply = lane.find(packet[2:])
        except Exception as error:
            self._stats.fault(log, error)
            reply = None
        if reply is not None:
            send(packet[:2] + reply)
            return True
        return self._read(packet, lane, send, self._answer)

    def refuse(self, packet: bytes, lane: Lane, send: Send) -> bool:
        """Do as `respond` for a stranger: whatever is asked is refused, and nothing is kept of it."""
        return self._read(packet, lane, send, self._refuse_stranger)

    def slip(self, packet: bytes, lane: Lane, send: Send) -> bool:
        """Answer a query with TC and no records, so that its client asks over TCP; False: the packet is none."""
        try:
            query = parse_query(packet)
        except Rejected:
            return False
        if query is None:
            return False
        self._ask_again(_Exchange(packet, query, lane, send), query)
        return True

    def _read(self, packet: bytes, lane: Lane, send: Send, handle: Callable[[_Exchange, Query], None]) -> bool:
        """Give the query in a packet to `handle`; without one, refuse the packet or be silent: return False."""
        try:
            query = parse_query(packet)
        except Rejected as rejected:
            flags = int.from_bytes(packet[2:4], "big")
            bare = replies.refusal(flags, rejected.rcode, rejected.question, recursive=self._recursive)
            self._send(_Exchange(packet, None, lane, send), bare)
            return True
        if query is None:
            self._stats.dropped["not_a_query"] += 1
            return False
        exchange = _Exchange(packet, query, lane, send)
        try:
            handle(exchange, query)
        except Exception as error:
            self._stats.fault(log, error)
            self._fail(exchange, query)
        return True

    def _answer(self, exchange: _Exchange, query: Query) -> None:
        if query.edns is not None and query.edns.version:
            self._send(exchange, replies.bad_version(query, query.edns, self._settings))
            return
        if query.qclass != CLASS_IN:
            self._refuse(exchange, query, "class")
            return
        self._look_up(exchange, query, {})

    def _look_up(self, exchange: _Exchange, query: Query, known: dict[AgentQuestion, AgentAnswer | None]) -> None:
        """Answer from the zone, from what an agent has said so far (`known`), and from the hosts file."""
        asked = Asked(query.qname, query.labels, query.qtype)
        try:
            found = answer(asked, self._zone, self._rng, known)
        except AgentNeeded as needed:
            if self._trust is not Trust.EXPIRED:
                self._ask_agent(exchange, query, known, needed.question)
                return
            found = UNKNOWN
        if found is None:
            found = self._hosts.answer(asked)
        elif self._trust is Trust.EXPIRED:
            found = UNKNOWN
        if found is None:
            self._outside(exchange, query)
        elif found.dangling is not None and query.qtype in _CHASED:
            self._complete(exchange, query, found, found.dangling)
        elif None in known.values():
            self._send_once(exchange, query, found)
        else:
            self._serve(exchange, query, found, exchange.lane.foreign if known else exchange.lane.local)

    def _ask_agent(
        self, exchange: _Exchange, query: Query, known: dict[AgentQuestion, AgentAnswer | None], question: AgentQuestion
    ) -> None:
        """Ask an agent and look up again with what it says."""

        def deliver(found: AgentAnswer | None) -> None:
            try:
                self._look_up(exchange, query, {**known, question: found})
            except Exception as error:
                self._stats.fault(log, error)
                self._fail(exchange, query)

        if len(known) >= MAX_AGENT_QUESTIONS:
            self._fail(exchange, query)
        elif self._agent is None:
            deliver(None)
        else:
            self._agent.find(question, deliver)

    def _outside(self, exchange: _Exchange, query: Query) -> None:
        """Answer a question that neither the zone nor the hosts file has anything on."""
        forwarded = self._forwarder is not None and self._forwarder.serves(query.labels)
        if forwarded and query.qtype == TYPE_ANY and exchange.lane.udp:
            self._ask_again(exchange, query)
        elif self._forwarder is not None and forwarded:
            self._forward(self._forwarder, exchange, query)
        elif query.labels[-1:] == (b"arpa",):
            found = UNKNOWN if self._trust is Trust.EXPIRED else pointer_miss(self._zone)
            self._serve(exchange, query, found, exchange.lane.local)
        else:
            self._refuse(exchange, query, "foreign_name")

    def _forward(self, forwarder: Forwarder, exchange: _Exchange, query: Query) -> None:
        def deliver(found: Found | None) -> None:
            try:
                if found is None:
                    self._fail(exchange, query)
                    return
                udp = exchange.lane.udp
                body = found.reply.for_client(query, found.age, udp, self._settings, stale=found.stale)
                if found.lasting:
                    self._keep(exchange, exchange.lane.foreign, Rotation(body, repeat(body), len(body)))
                else:
                    self._send(exchange, body)
            except Exception as error:
                self._stats.fault(log, error)
                self._fail(exchange, query)

        forwarder.ask(query, deliver)

    def _complete(self, exchange: _Exchange, query: Query, found: Answer, target: bytes) -> None:
        """Append the addresses of a CNAME's foreign target, from the hosts file or from recursors."""
        zone = self._zone
        qtype = _CHASED[query.qtype]
        labels = tuple(split_name(target.lower()))
        known = self._hosts.answer(Asked(target, labels, qtype))
        if known is not None or self._forwarder is None or not self._forwarder.serves(labels):
            whole = found
            if known is not None:
                whole = _with_records(found, [record for group in known.groups for record in group.answers])
            self._serve(exchange, query, whole, exchange.lane.local)
            return
        question = target + qtype.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")
        asked = Query(FLAG_RD, question, target, labels, qtype, CLASS_IN, None)

        def deliver(replied: Found | None) -> None:
            try:
                records = _records_of(replied) if replied is not None else []
                whole = _with_records(found, records)
                if replied is not None and replied.lasting and zone is self._zone:
                    self._serve(exchange, query, whole, exchange.lane.foreign)
                else:
                    self._send_once(exchange, query, whole)
            except Exception as error:
                self._stats.fault(log, error)
                self._fail(exchange, query)

        self._forwarder.ask(asked, deliver)

    def _encoder(self, exchange: _Exchange, query: Query, found: Answer) -> Encoder:
        room = find_room(query, exchange.lane.udp, self._settings)
        return Encoder(query, found, room, self._settings, recursive=self._recursive)

    def _send_once(self, exchange: _Exchange, query: Query, found: Answer) -> None:
        """Send a reply and keep nothing."""
        self._send(exchange, self._encoder(exchange, query, found).once(self._rng))

    def _serve(self, exchange: _Exchange, query: Query, found: Answer, cache: WireCache) -> None:
        """Send a reply, and keep more for who asks the same with the same octets.

        Many queries come once, with a cookie or in a case of their own. What makes the other orders of answers takes
        much memory: it is kept from the second time on that it is asked for.
        """
        encoder = self._encoder(exchange, query, found)
        if encoder.turns and exchange.lane.is_new(exchange.packet[2:]):
            self._send(exchange, encoder.once(self._rng))
        else:
            self._keep(exchange, cache, encoder.rotation(self._rng), found.service)

    def _keep(self, exchange: _Exchange, cache: WireCache, encoded: Rotation, service: bytes = b"") -> None:
        """Send the first of some replies and keep the rest for who asks the same, until `service` changes."""
        kind = self._send(exchange, encoded.first)
        key = exchange.packet[2:]
        cache.put(key, Entry(encoded.more, kind, encoded.size + len(key) + ENTRY_OVERHEAD, service))

    def _refuse(self, exchange: _Exchange, query: Query, reason: str) -> None:
        self._stats.refused[reason] += 1
        self._send(exchange, replies.refusal(query.flags, REFUSED, query.question, recursive=self._recursive))

    def _ask_again(self, exchange: _Exchange, query: Query) -> None:
        """Send the client to TCP, where no sender can be forged."""
        self._send(exchange, replies.ask_over_tcp(query, self._settings, recursive=self._recursive))

    def _refuse_stranger(self, exchange: _Exchange, query: Query) -> None:
        self._stats.refused["client"] += 1
        self._send(exchange, replies.refusal(query.flags, REFUSED, query.question))

    def _fail(self, exchange: _Exchange, query: Query) -> None:
        self._send(exchange, replies.refusal(query.flags, SERVFAIL, query.question, recursive=self._recursive))

    def _send(self, exchange: _Exchange, reply: bytes) -> Kind:
        query = exchange.query
        kind = kind_of(exchange.lane.transport, query.qtype if query else None, reply)
        self._stats.built[kind] += 1
        exchange.send(exchange.packet[:2] + reply)
        return kind

    def _on_drop(self, entry: Entry) -> None:
        self._stats.cached[entry.kind] += entry.hits

    def _gauges(self) -> Gauges:
        living: Counter[Kind] = Counter()
        entries = 0
        for lane in (self.udp, self.tcp):
            entries += len(lane)
            for entry in lane.entries():
                living[entry.kind] += entry.hits
        forwarder = self._forwarder
        return Gauges(
            cached=living,
            entries=entries,
            foreign_entries=len(forwarder.cache) if forwarder else 0,
            foreign_bytes=forwarder.cache.bytes if forwarder else 0,
            foreign_failing=len(forwarder.cache.failures) if forwarder else 0,
            in_flight=forwarder.in_flight if forwarder else 0,
            generation=self._zone.snapshot.generation,
            recursors=forwarder.health.states() if forwarder else {},
            stale=int(self._trust),
        )


class _Exchange:
    """A packet, the query in it (None if it could not be read), and where the reply goes."""

    __slots__ = ("lane", "packet", "query", "send")

    def __init__(self, packet: bytes, query: Query | None, lane: Lane, send: Send) -> None:
        self.packet = packet
        self.query = query
        self.lane = lane
        self.send = send


def _records_of(found: Found) -> list[Record]:
    """Return the addresses in a reply, and the CNAMEs to them, with the TTLs that are left."""
    return [
        record.with_ttl(STALE_TTL if found.stale else max(record.ttl - found.age, 0))
        for record in found.reply.addresses()
    ]


def _with_records(found: Answer, more: list[Record]) -> Answer:
    """Return an answer of one CNAME with records of its target after it, under the TTL that the answer wants."""
    group = found.groups[0]
    ttl = found.dangling_ttl
    added = more if ttl is None else [record.with_ttl(ttl) for record in more]
    whole = Group((*group.answers, *added), group.additional)
    return Answer(groups=(whole,), additional=found.additional, drawn=found.drawn)
