"""Answer -> octets of a reply: header, EDNS, order of answers, what is left out for want of room. No I/O.

A *reply* here lacks its first two octets, the ID: it is kept in caches and sent to many askers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice, repeat
from random import Random
from struct import Struct
from typing import NamedTuple

from dnsserver.message import OPCODE_MASK, Edns, Query, reply_flags
from dnsserver.records import Answer, Group, Record, Writer, plain_size
from dnsserver.wire import (
    BADVERS,
    FLAG_AA,
    FLAG_QR,
    FLAG_RA,
    FLAG_RD,
    FLAG_TC,
    MAX_MESSAGE,
    PLAIN_UDP,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_NS,
    TYPE_OPT,
    TYPE_SRV,
)
from lb.settings import DnsSettings

UDP_ANSWERS = 3
"""Answers in a UDP reply to a client without EDNS: Consul's `udp_answer_limit`."""

MAX_ORDERS = 16
"""Orders of the same answers that are kept ready."""

ORDERS_SIZE = 8 << 10
"""Octets that all orders of one answer may take together; of a larger answer there are two."""

REPLAYS = 64
"""How often each order of a large answer is sent before new orders are drawn."""

_HEAD = Struct("!5H")
_OPT = Struct("!BHHIH")
_CONSUL_SLACK = 7
"""Octets that Consul leaves free in a reply of 512."""


class Room(NamedTuple):
    """What a reply may take: octets before its OPT record, and answers (0: any number).

    `plain` says that a reply with too many answers is measured without compression, as Consul does it.
    """

    size: int
    answers: int = 0


def find_room(query: Query, udp: bool, settings: DnsSettings) -> Room:
    """Return the room that a client's query allows over its transport."""
    opt = opt_size(query.edns)
    if not udp:
        return Room(MAX_MESSAGE - opt)
    if query.edns is None or query.edns.size <= PLAIN_UDP:
        return Room(PLAIN_UDP - max(opt, _CONSUL_SLACK), UDP_ANSWERS)
    # ANY is asked by who wants large replies to forged questions: no more than the least that clients take (RFC 8482).
    most = PLAIN_UDP if query.qtype == TYPE_ANY else settings.udp_size
    return Room(max(PLAIN_UDP, min(query.edns.size, most)) - opt)


def opt_size(edns: Edns | None) -> int:
    """Octets of the OPT record in the reply."""
    return 0 if edns is None else _OPT.size + len(edns.subnet)


def opt_record(edns: Edns, settings: DnsSettings, extended_rcode: int = 0, dnssec_ok: bool = False) -> bytes:
    """Return the OPT record of a reply (RFC 6891 section 6): our own size, version 0."""
    ttl = extended_rcode << 24 | (0x8000 if dnssec_ok else 0)
    return _OPT.pack(0, TYPE_OPT, settings.udp_size, ttl, len(edns.subnet)) + edns.subnet


def refusal(flags: int, rcode: int, question: bytes = b"", *, recursive: bool = False) -> bytes:
    """Return a reply without records; `flags` are the query's. Without question only RD is taken from them."""
    if not question:
        return _HEAD.pack(FLAG_QR | (flags & (OPCODE_MASK | FLAG_RD)) | rcode, 0, 0, 0, 0)
    replied = reply_flags(flags) | rcode | (FLAG_RA if recursive else 0)
    return _HEAD.pack(replied, 1, 0, 0, 0) + question


def bad_version(query: Query, edns: Edns, settings: DnsSettings) -> bytes:
    """Return the reply to a query of an EDNS version that is not served (RFC 6891 section 6.1.3)."""
    flags = query.echoed_flags | (BADVERS & 15)
    opt = opt_record(Edns(edns.size, 0, False, b""), settings, BADVERS >> 4)
    return _HEAD.pack(flags, 1, 0, 0, 1) + query.question + opt


def ask_over_tcp(query: Query, settings: DnsSettings, *, recursive: bool) -> bytes:
    """Return a reply without records, with TC: what it says is for TCP alone."""
    flags = query.echoed_flags | FLAG_TC | (FLAG_RA if recursive else 0)
    opt = opt_record(Edns(query.edns.size, 0, False, b""), settings) if query.edns is not None else b""
    return _HEAD.pack(flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


class Rotation(NamedTuple):
    """Replies to one query: the first, and an iterator over more, which are made when they are first needed.

    The iterator ends when the answer should be made anew: it repeats a few orders, and a large answer has more. `size`
    is how many octets they take together.
    """

    first: bytes
    more: Iterator[bytes]
    size: int


class Encoder:
    """Turns one answer to one query into replies."""

    __slots__ = ("_answer", "_flags", "_opt", "_query", "_room", "_tc")

    def __init__(self, query: Query, answer: Answer, room: Room, settings: DnsSettings, *, recursive: bool) -> None:
        self._query = query
        self._answer = answer
        self._room = room
        self._opt = opt_record(query.edns, settings) if query.edns is not None else b""
        self._tc = FLAG_TC if settings.truncate else 0
        self._flags = (
            query.echoed_flags | (FLAG_AA if answer.authoritative else 0) | (FLAG_RA if recursive else 0) | answer.rcode
        )

    def rotation(self, rng: Random) -> Rotation:
        """Return replies whose answers change places, each instance coming first as often as any other."""
        groups = self._shuffled(rng)
        first = self.reply(groups)
        if not self.turns:
            return Rotation(first, iter(()) if self._answer.drawn else repeat(first), len(first))
        count = min(len(groups), MAX_ORDERS, max(2, ORDERS_SIZE // len(first)))
        return Rotation(first, self._more(groups, first, count, rng), count * len(first))

    def once(self, rng: Random) -> bytes:
        """Return one reply, its answers in a random order."""
        return self.reply(self._shuffled(rng))

    @property
    def turns(self) -> bool:
        """Whether there are answers that change places."""
        return len(self._answer.groups) > 1 and not self._answer.ordered

    def _shuffled(self, rng: Random) -> list[Group]:
        groups = list(self._answer.groups)
        if self.turns:
            # As Random.shuffle does it, at half its price: the last bits of fairness do not matter here.
            for last in range(len(groups) - 1, 0, -1):
                other = int(rng.random() * (last + 1))
                groups[last], groups[other] = groups[other], groups[last]
        return groups

    def _more(self, groups: list[Group], first: bytes, count: int, rng: Random) -> Iterator[bytes]:
        made = [first]
        for number in range(1, count):
            start = number * len(groups) // count
            reply = self.reply(groups[start:] + groups[:start])
            made.append(reply)
            yield reply
        # A fixed turn would always give the same instance to one of two clients that ask alternately.
        turns = [reply for _ in range(8) for reply in rng.sample(made, count)]
        if count == len(groups):
            yield from cycle(turns)
        else:
            yield from islice(cycle(turns), count * REPLAYS)

    def reply(self, groups: Sequence[Group]) -> bytes:
        """Return the reply with answers in this order, cut to the room there is."""
        answers = [record for group in groups for record in group.answers]
        additional = [record for group in groups for record in group.additional]
        additional += self._answer.additional
        limit = self._room.answers
        if not limit or len(answers) <= limit:
            reply = self._fitting(answers, self._answer.authority, additional)
            if reply is not None:
                return reply
        return self._cut(answers, additional)

    def _cut(self, answers: list[Record], additional: list[Record]) -> bytes:
        """Return the reply with as many answers as fit, and of the additional records only addresses."""
        limit = self._room.answers
        plain = bool(limit) and len(answers) > limit
        low, high = 0, min(len(answers) - 1, limit or self._room.size // 12)
        best = b""
        middle = high
        while low <= high:
            kept = answers[:middle]
            reply = self._fitting(kept, (), _glue(kept, additional), plain=plain, cut=True)
            if reply is not None:
                best, low = reply, middle + 1
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        if low <= 1:
            best = self._one(answers, additional) or best
        return best

    def _one(self, answers: list[Record], additional: list[Record]) -> bytes | None:
        """Return the first answer alone, with the addresses of its target if they fit."""
        cut = len(answers) > 1
        kept = answers[:1]
        glued = self._fitting(kept, (), _glue(kept, additional), cut=cut)
        return glued or self._fitting(kept, (), (), cut=cut)

    def _fitting(
        self,
        answers: Sequence[Record],
        authority: Sequence[Record],
        additional: Sequence[Record],
        *,
        plain: bool = False,
        cut: bool = False,
    ) -> bytes | None:
        """Return the reply with these records, None if it is too large."""
        query, opt = self._query, self._opt
        if plain and plain_size(query.question, answers, authority, additional) > self._room.size:
            return None
        writer = Writer(query.question, query.qname)
        writer.add(answers)
        writer.add(authority)
        writer.add(additional)
        if writer.size > self._room.size:
            return None
        flags = self._flags | (self._tc if cut else 0)
        head = _HEAD.pack(flags, 1, len(answers), len(authority), len(additional) + bool(opt))
        return head + writer.body + opt


def _glue(answers: Sequence[Record], additional: Sequence[Record]) -> list[Record]:
    """Return one address record for each target of the kept answers that has one."""
    targets = {record.names[0] for record in answers if record.type in (TYPE_SRV, TYPE_NS)}
    kept: dict[bytes, Record] = {}
    for record in additional:
        if record.owner in targets and record.type in (TYPE_A, TYPE_AAAA):
            kept.setdefault(record.owner, record)
    return list(kept.values())
