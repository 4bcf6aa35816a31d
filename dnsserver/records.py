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


class Record(NamedTuple):
    """One record of class IN; its data is `head`, then the wire names `names`, then `tail`.

    Without `names` all data is in `head`.
    """

    owner: bytes
    type: int
    ttl: int
    head: bytes
    names: tuple[bytes, ...] = ()
    tail: bytes = b""

    @property
    def plain_size(self) -> int:
        """Octets of the record when no name is compressed."""
        return len(self.owner) + 10 + len(self.head) + sum(map(len, self.names)) + len(self.tail)


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
    try:
        packed = ip_address(text).packed
    except ValueError:
        return None
    return packed[12:] if packed.startswith(_MAPPED) and len(packed) == 16 else packed


def address(owner: bytes, packed: bytes, ttl: int) -> Record:
    """Return the A or AAAA record of a packed address; one of IPv6 that maps IPv4 is an A, as in Consul."""
    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    return Record(owner, TYPE_A if len(packed) == 4 else TYPE_AAAA, ttl, packed)


def cname(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return a CNAME record."""
    return Record(owner, TYPE_CNAME, ttl, b"", (target,))


def ns(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return an NS record."""
    return Record(owner, TYPE_NS, ttl, b"", (target,))


def ptr(owner: bytes, target: bytes, ttl: int) -> Record:
    """Return a PTR record."""
    return Record(owner, TYPE_PTR, ttl, b"", (target,))


def srv_head(port: int, weight: int) -> bytes:
    """Return the data of an SRV record before its target, of priority 1, as all of Consul's."""
    return _SRV.pack(1, min(max(weight, 0), 65535), port)


def soa(apex: bytes, primary: bytes, mailbox: bytes, serial: int) -> Record:
    """Return a zone's SOA record, with Consul's timers; its TTL is the minimum, 0."""
    timers = Struct("!5I").pack(serial & 0xFFFFFFFF, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, SOA_MINIMUM)
    return Record(apex, TYPE_SOA, SOA_MINIMUM, b"", (primary, mailbox), timers)


@lru_cache(maxsize=1 << 16)
def txt(owner: bytes, text: bytes, ttl: int) -> Record:
    """Return a TXT record; a text over 255 octets becomes several strings (RFC 1035 section 3.3.14)."""
    pieces = [text[i : i + 255] for i in range(0, len(text), 255)] or [b""]
    return Record(owner, TYPE_TXT, ttl, b"".join(bytes((len(piece),)) + piece for piece in pieces))


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
        for owner, rtype, ttl, head, names, tail in records:
            if owner == self._qname:
                body += _TO_QUESTION
            else:
                self._name(owner)
            if not names:
                body += _FIXED.pack(rtype, CLASS_IN, ttl, len(head)) + head
                continue
            if rtype == TYPE_SRV:
                target = names[0]
                body += _FIXED.pack(rtype, CLASS_IN, ttl, len(head) + len(target)) + head
                if not self._offsets:
                    self._remember(self._qname, HEADER)
                self._remember(target, HEADER + len(body))
                body += target
                continue
            start = len(body)
            body += _FIXED.pack(rtype, CLASS_IN, ttl, 0) + head
            for name in names:
                self._name(name)
            body += tail
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
    return HEADER + len(question) + sum(record.plain_size for section in sections for record in section)
