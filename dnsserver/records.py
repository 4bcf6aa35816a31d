"""Resource records and the writer that puts them into a message, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from dnsserver.wire import (
    CLASS_IN,
    HEADER,
    NOERROR,
    TYPE_A,
    TYPE_AAAA,
    TYPE_CNAME,
    TYPE_NS,
    TYPE_PTR,
    TYPE_SOA,
    TYPE_SRV,
    TYPE_TXT,
)

_FIXED = Struct("!HHIH")
_SRV = Struct("!HHH")
_MAPPED = b"\0" * 10 + b"\xff\xff"
_TO_QUESTION = (0xC000 | HEADER).to_bytes(2, "big")
_POINTERS = 0x4000
"""Offsets from here on are out of a compression pointer's reach."""

SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, SOA_MINIMUM = 3600, 600, 86400, 0
"""Consul's defaults, seconds."""


QUESTION = b""
"""The owner of records that belong to the name in the question, however that is spelled."""


class Record(NamedTuple):
    """One record of class IN; its data is `head`, then the wire names `names`, then `tail`.

    Without `names` all data is in `head`. `wire` is all that follows the owner, where that is the same in each message
    and was made before.
    """

    owner: bytes
    type: int
    ttl: int
    head: bytes
    names: tuple[bytes, ...] = ()
    tail: bytes = b""
    wire: bytes = b""

    def with_ttl(self, ttl: int) -> Record:
        """Return the same record with another TTL (seconds)."""
        return self._replace(ttl=ttl, wire=b"")

    def plain_size(self, qname: bytes) -> int:
        """Octets of the record when no name is compressed, in a message that asks for `qname`."""
        return len(self.owner or qname) + 10 + len(self.head) + sum(map(len, self.names)) + len(self.tail)


class Group(NamedTuple):
    """Records that keep together when answers change places: those of one instance."""

    answers: tuple[Record, ...]
    additional: tuple[Record, ...] = ()


@dataclass(slots=True)
class Answer:
    """What a question is answered with.

    `dangling` is the last target of a CNAME that leads out of our domain: recursors may know its address.
    `dangling_ttl` is the TTL for what they know, None: theirs.
    `drawn` says that records were drawn from more that would do as well: the next asker should get a new draw.
    `ordered` says that the order of the groups means something.
    `service` is the one service (its name in lower case) that it hangs on, beside all nodes; empty: it hangs on more.
    """

    rcode: int = NOERROR
    groups: Sequence[Group] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()
    authoritative: bool = True
    dangling: bytes | None = None
    dangling_ttl: int | None = None
    drawn: bool = False
    ordered: bool = False
    service: bytes = b""


@lru_cache(maxsize=1 << 16)
def packed_address(text: str) -> bytes | None:
    """Return the 4 or 16 octets of an IP literal, None for anything else; IPv6 that maps IPv4 is IPv4, as in Consul."""
    quick = _packed_ipv4(text)
    if quick is not None:
        return quick
    try:
        packed = ip_address(text).packed
    except ValueError:
        return None
    return packed[12:] if packed.startswith(_MAPPED) and len(packed) == 16 else packed


def _packed_ipv4(text: str) -> bytes | None:
    """Return the 4 octets of an IPv4 literal in its usual form, several times as fast as `ipaddress` finds them."""
    try:
        packed = bytes(map(int, text.split(".")))
    except ValueError:
        return None
    return packed if len(packed) == 4 and ".".join(map(str, packed)) == text else None


@lru_cache(maxsize=1 << 15)
def address(owner: bytes, packed: bytes, ttl: int) -> Record:
    """Return the A or AAAA record of a packed address; one of IPv6 that maps IPv4 is an A, as in Consul."""
    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    rtype = TYPE_A if len(packed) == 4 else TYPE_AAAA
    return Record(owner, rtype, ttl, packed, wire=_FIXED.pack(rtype, CLASS_IN, ttl, len(packed)) + packed)


def cname(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return a CNAME record."""
    return Record(owner, TYPE_CNAME, ttl, b"", (target,))


def ns(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return an NS record."""
    return Record(owner, TYPE_NS, ttl, b"", (target,))


def ptr(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return a PTR record."""
    return Record(owner, TYPE_PTR, ttl, b"", (target,))


def srv(owner: bytes, target: bytes, port: int, weight: int, ttl: int) -> Record:
    """Return an SRV record of priority 1, as all of Consul's. Its target is never compressed (RFC 2782)."""
    head = _SRV.pack(1, min(max(weight, 0), 65535), port)
    wire = _FIXED.pack(TYPE_SRV, CLASS_IN, ttl, len(head) + len(target)) + head + target
    return Record(owner, TYPE_SRV, ttl, head, (target,), wire=wire)


def soa(apex: bytes, primary: bytes, mailbox: bytes, serial: int) -> Record:
    """Return a zone's SOA record, with Consul's timers; its TTL is the minimum, 0."""
    timers = Struct("!5I").pack(serial & 0xFFFFFFFF, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, SOA_MINIMUM)
    return Record(apex, TYPE_SOA, SOA_MINIMUM, b"", (primary, mailbox), timers)


@lru_cache(maxsize=1 << 16)
def txt(owner: bytes, text: bytes, ttl: int) -> Record:
    """Return a TXT record; a text over 255 octets becomes several strings (RFC 1035 section 3.3.14)."""
    pieces = [text[i : i + 255] for i in range(0, len(text), 255)] or [b""]
    data = b"".join(bytes((len(piece),)) + piece for piece in pieces)
    return Record(owner, TYPE_TXT, ttl, data, wire=_FIXED.pack(TYPE_TXT, CLASS_IN, ttl, len(data)) + data)


class Writer:
    """Collects what follows a message's header, compressing names (RFC 1035 section 4.1.4).

    Names are compared with their case, so that a pointer never changes the spelling of a name. A target
    of SRV is not compressed (RFC 2782), but later names may point into it.
    """

    __slots__ = ("_offsets", "_qname", "body")

    def __init__(self, question: bytes, qname: bytes) -> None:
        self.body = bytearray(question)
        self._qname = qname
        self._offsets: dict[bytes, int] = {}  # empty until a name is written: in most replies none is

    @property
    def size(self) -> int:
        """Octets of the message so far, its header included."""
        return HEADER + len(self.body)

    def add(self, records: Iterable[Record]) -> None:
        """Append records."""
        body = self.body
        for owner, rtype, ttl, head, names, tail, wire in records:
            if not owner or owner == self._qname:
                body += _TO_QUESTION
            else:
                self._name(owner)
            if wire:
                body += wire
                if names:
                    self._remember_last(names[0])
                continue
            start = len(body)
            body += _FIXED.pack(rtype, CLASS_IN, ttl, len(head)) + head
            for name in names:
                self._name(name)
            body += tail
            if names:
                body[start + 8 : start + 10] = (len(body) - start - 10).to_bytes(2, "big")

    def _name(self, name: bytes) -> None:
        offsets = self._offsets or self._remember(self._qname, HEADER)
        start = HEADER + len(self.body)
        pos = 0
        while name[pos]:
            known = offsets.get(name[pos:])
            if known is not None:
                self.body += name[:pos]
                self.body += (0xC000 | known).to_bytes(2, "big")
                return
            if start + pos < _POINTERS:
                offsets[name[pos:]] = start + pos
            pos += 1 + name[pos]
        self.body += name

    def _remember_last(self, name: bytes) -> None:
        """Note the name that the message ends with."""
        if not self._offsets:
            self._remember(self._qname, HEADER)
        self._remember(name, HEADER + len(self.body) - len(name))

    def _remember(self, name: bytes, offset: int) -> dict[bytes, int]:
        """Note where a name and its suffixes begin; where one is known, those of it are. Return all that is known."""
        offsets = self._offsets
        pos = 0
        while name[pos] and offset + pos < _POINTERS:
            suffix = name[pos:]
            if suffix in offsets:
                break
            offsets[suffix] = offset + pos
            pos += 1 + name[pos]
        return offsets


def plain_size(question: bytes, *sections: Sequence[Record]) -> int:
    """Octets of a message whose names are not compressed: what Consul measures for clients without EDNS."""
    qname = question[:-4]
    return HEADER + len(question) + sum(record.plain_size(qname) for section in sections for record in section)
