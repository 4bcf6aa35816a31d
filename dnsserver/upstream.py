"""What goes to a recursor and what comes back, without I/O: matching, lifetime, and the reply a client gets of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from dnsserver.message import Edns, Query
from dnsserver.records import Record
from dnsserver.replies import opt_record
from dnsserver.wire import (
    FLAG_AD,
    FLAG_CD,
    FLAG_QR,
    FLAG_RA,
    FLAG_RD,
    FLAG_TC,
    HEADER,
    MAX_MESSAGE,
    NOERROR,
    NXDOMAIN,
    PLAIN_UDP,
    TYPE_A,
    TYPE_AAAA,
    TYPE_CNAME,
    TYPE_OPT,
    TYPE_SOA,
    FormatError,
    read_name,
    skip_name,
)
from lb.settings import DnsSettings

MAX_LIFETIME = 86400
"""Seconds for which a reply is kept at most."""

STALE_TTL = 30
"""TTL of records whose time is over (RFC 8767 section 4)."""

MAX_NEGATIVE_LIFETIME = 3600
"""Seconds for which "there is no such name" is kept at most (RFC 2308 section 5 asks for a bound)."""

_HEADER = Struct("!6H")
_COUNTS = Struct("!5H")
_FIXED = Struct("!HHIH")
_OPT = Struct("!BHHIH")
_ADDRESS_SIZES = {TYPE_A: 4, TYPE_AAAA: 16}


class ForeignKey(NamedTuple):
    """What makes two foreign questions the same: those who ask for DNSSEC, or for no check of it, stand apart."""

    qname: bytes
    qtype: int
    dnssec_ok: bool
    checking_disabled: bool


def foreign_key(query: Query) -> ForeignKey:
    """Return the key of a client's question."""
    edns = query.edns
    dnssec_ok = edns is not None and edns.dnssec_ok
    return ForeignKey(query.qname.lower(), query.qtype, dnssec_ok, bool(query.flags & FLAG_CD))


def foreign_query(query: Query, ident: int, udp_size: int) -> bytes:
    """Return the message that asks a recursor the client's question; recursion is desired in any case.

    It has EDNS with our own UDP size, whatever the client's; with a size of 0 it has none.
    """
    key = foreign_key(query)
    flags = FLAG_RD | (FLAG_CD if key.checking_disabled else 0)
    head = _HEADER.pack(ident, flags, 1, 0, 0, 1 if udp_size else 0)
    if not udp_size:
        return head + query.question
    return head + query.question + _OPT.pack(0, TYPE_OPT, udp_size, 0x8000 if key.dnssec_ok else 0, 0)


def is_reply(message: bytes, sent: bytes, question: bytes) -> bool:
    """Tell whether a message answers the one that was sent: ID, opcode and question are the same."""
    if len(message) < HEADER + len(question) or message[:2] != sent[:2]:
        return False
    _, flags, questions = Struct("!3H").unpack_from(message)
    echoed = message[HEADER : HEADER + len(question)]
    return (
        bool(flags & FLAG_QR)
        and not flags & 0x7800
        and questions == 1
        and echoed[-4:] == question[-4:]
        and echoed[:-4].lower() == question[:-4].lower()
    )


def is_truncated(message: bytes) -> bool:
    """Tell whether a reply has the TC flag."""
    return bool(message[2] & (FLAG_TC >> 8))


class _Part(NamedTuple):
    """One record of a message: its section (0 answer, 1 authority, 2 additional) and offsets."""

    section: int
    start: int
    fixed: int
    end: int
    type: int
    ttl: int


@dataclass(slots=True)
class ForeignReply:
    """A usable reply of a recursor; `lifetime` is how many seconds it may be kept, 0: not at all."""

    message: bytes
    flags: int
    rcode: int
    lifetime: int
    dnssec_ok: bool
    parts: tuple[_Part, ...]

    @property
    def size(self) -> int:
        """About how many octets of memory it takes."""
        return len(self.message) + 160 * len(self.parts) + 400

    def addresses(self) -> list[Record]:
        """The CNAME, A and AAAA records of the answer; raises FormatError."""
        return [
            self._record(part)
            for part in self.parts
            if part.section == 0 and part.type in (TYPE_A, TYPE_AAAA, TYPE_CNAME)
        ]

    def _record(self, part: _Part) -> Record:
        owner = read_name(self.message, part.start)
        data = part.fixed + _FIXED.size
        if part.type == TYPE_CNAME:
            return Record(owner, part.type, part.ttl, b"", (read_name(self.message, data),))
        return Record(owner, part.type, part.ttl, self.message[data : part.end])

    def for_client(self, query: Query, age: int, udp: bool, settings: DnsSettings, *, stale: bool = False) -> bytes:
        """Return the reply to a client's query, without ID: TTLs less `age` seconds, cut to the client's room.

        A `stale` reply has TTLs of 30 seconds instead.

        The question is spelled as this client spelled it. TC is set when a record of answer or authority is missing;
        additional records may be left out silently (RFC 2181 section 9).
        """
        opt = b""
        if query.edns is not None:
            edns = Edns(query.edns.size, 0, False, b"")
            opt = opt_record(edns, settings, dnssec_ok=self.dnssec_ok)
        room = _room(query, udp, settings) - len(opt)
        kept = [part for part in self.parts if part.end <= room]
        end = kept[-1].end if kept else HEADER + len(query.question)
        cut = any(part.section < 2 for part in self.parts[len(kept) :])
        flags = query.echoed_flags | FLAG_RA | self.rcode | (self.flags & FLAG_AD)
        if self.flags & FLAG_TC or (cut and settings.truncate):
            flags |= FLAG_TC
        counts = [sum(part.section == section for part in kept) for section in range(3)]
        reply = bytearray(self.message[:end])
        reply[2:HEADER] = _COUNTS.pack(flags, 1, counts[0], counts[1], counts[2] + bool(opt))
        reply[HEADER : HEADER + len(query.question)] = query.question
        if age or stale:
            for part in kept:
                ttl = STALE_TTL if stale else max(part.ttl - age, 0)
                reply[part.fixed + 4 : part.fixed + 8] = ttl.to_bytes(4, "big")
        return bytes(reply[2:]) + opt


def parse_reply(message: bytes, question: bytes) -> ForeignReply:
    """Read a recursor's reply to `question`; raise FormatError for one that is no good.

    An rcode other than NOERROR and NXDOMAIN is for the caller to see to: it is kept as it is.
    """
    flags, _, *counts = _COUNTS.unpack_from(message, 2)
    rcode = flags & 15
    parts = []
    dnssec_ok = False
    for part in _parts(message, HEADER + len(question), counts):
        if part.type == TYPE_OPT and part.section == 2:
            # Ours takes its place. What follows it could not be moved without mending pointers.
            rcode |= (part.ttl >> 24) << 4
            dnssec_ok = bool(part.ttl & 0x8000)
            break
        parts.append(part)
    end = parts[-1].end if parts else HEADER + len(question)
    lifetime = 0 if flags & FLAG_TC else _lifetime(message, rcode, parts)
    return ForeignReply(message[:end], flags, rcode, lifetime, dnssec_ok, tuple(parts))


def _parts(message: bytes, pos: int, counts: list[int]) -> Iterator[_Part]:
    for section, count in enumerate(counts):
        for _ in range(count):
            start = pos
            fixed = skip_name(message, pos)
            if fixed + _FIXED.size > len(message):
                raise FormatError("a record is cut off")
            rtype, _, ttl, length = _FIXED.unpack_from(message, fixed)
            pos = fixed + _FIXED.size + length
            if pos > len(message):
                raise FormatError("the data of a record is cut off")
            part = _Part(section, start, fixed, pos, rtype, ttl)
            _check(message, part)
            yield part


def _check(message: bytes, part: _Part) -> None:
    """Raise FormatError for a record that clients, or we, could not read: owner, address, target of an alias."""
    read_name(message, part.start)
    data = part.fixed + _FIXED.size
    size = _ADDRESS_SIZES.get(part.type)
    if size is not None and part.end - data != size:
        raise FormatError("an address of a wrong size")
    if part.type == TYPE_CNAME:
        read_name(message, data)
        if skip_name(message, data) != part.end:
            raise FormatError("the target of an alias does not fill its record")


def _lifetime(message: bytes, rcode: int, parts: list[_Part]) -> int:
    """Seconds for which a reply may be kept: its least TTL (RFC 2181 section 8), or as RFC 2308 section 5 says."""
    if rcode not in (NOERROR, NXDOMAIN) or not parts:
        return 0
    # A TTL with the top bit set counts as 0.
    lifetime = min(part.ttl if part.ttl < 1 << 31 else 0 for part in parts)
    minima = [
        int.from_bytes(message[part.end - 4 : part.end], "big")
        for part in parts
        if part.section == 1 and part.type == TYPE_SOA
    ]
    negative = rcode == NXDOMAIN or not any(part.section == 0 for part in parts)
    if negative and not minima:
        return 0
    return min(lifetime, *minima, MAX_NEGATIVE_LIFETIME if negative or minima else MAX_LIFETIME)


def _room(query: Query, udp: bool, settings: DnsSettings) -> int:
    if not udp:
        return MAX_MESSAGE
    if query.edns is None:
        return PLAIN_UDP
    return max(PLAIN_UDP, min(query.edns.size, settings.udp_size))
