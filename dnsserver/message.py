"""Reading a query (RFC 1035 section 4, RFC 6891, RFC 7871), without I/O.

What is refused, and with how much of the question, follows Consul, so that clients see no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from dnsserver.wire import (
    FLAG_CD,
    FLAG_QR,
    FLAG_RD,
    FORMERR,
    HEADER,
    MAX_LABEL,
    MAX_NAME,
    NOTIMP,
    REFUSED,
    TYPE_OPT,
    FormatError,
    skip_name,
)

OPCODE_QUERY = 0
OPCODE_NOTIFY = 4
OPCODE_MASK = 0x7800
"""Where the opcode is among the flags."""

OPTION_CLIENT_SUBNET = 8

_HEADER = Struct("!HHHHHH")
_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")
_OPTION = Struct("!HH")
_SUBNET_BITS = {1: 32, 2: 128}


class Rejected(FormatError):
    """A query that gets a bare refusal: `rcode`, and `question` to be echoed (empty: the header alone)."""

    def __init__(self, rcode: int, reason: str, question: bytes = b"") -> None:
        super().__init__(reason)
        self.rcode = rcode
        self.question = question


class Edns(NamedTuple):
    """The OPT record of a query. `subnet` is the client subnet option as it is echoed, empty if none."""

    size: int
    version: int
    dnssec_ok: bool
    subnet: bytes


@dataclass(slots=True)
class Query:
    """A query with one question.

    `qname` is the wire name as the client spelled it, `labels` are its labels in lower case,
    `question` is the question section as it came.
    """

    flags: int
    question: bytes
    qname: bytes
    labels: tuple[bytes, ...]
    qtype: int
    qclass: int
    edns: Edns | None

    @property
    def echoed_flags(self) -> int:
        """Flags of every reply to this query."""
        return reply_flags(self.flags)


def reply_flags(flags: int) -> int:
    """Return QR, the opcode, and of a standard query RD and CD; AD and Z are cleared."""
    opcode = flags & OPCODE_MASK
    return FLAG_QR | opcode | (flags & (FLAG_RD | FLAG_CD) if opcode == OPCODE_QUERY else 0)


def parse_query(packet: bytes) -> Query | None:
    """Return the query in a packet, or None where silence is the answer: a stump, or a reply.

    Raises Rejected for one that is to be refused.
    """
    if len(packet) < HEADER:
        return None
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(packet)
    if flags & FLAG_QR:
        return None
    if (flags >> 11) & 15 not in (OPCODE_QUERY, OPCODE_NOTIFY):
        raise Rejected(NOTIMP, "an opcode that is not served")
    if questions != 1 or answers > 1 or authority > 1 or additional > 2:
        raise Rejected(FORMERR, "a query has one question and little else")
    if len(packet) == HEADER:
        raise Rejected(REFUSED, "a header without its question")
    labels, end = _question_labels(packet)
    qtype, qclass = _TYPE_CLASS.unpack_from(packet, end)
    end += 4
    question = packet[HEADER:end]
    edns = None
    if end < len(packet):
        try:
            if (answers, authority, additional) == (0, 0, 1):
                edns = _lone_edns(packet[end:])
            else:
                edns = _find_edns(packet, end, answers + authority, additional)
        except FormatError as error:
            raise Rejected(FORMERR, str(error), question) from None
    return Query(flags, question, question[:-4], labels, qtype, qclass, edns)


def _question_labels(packet: bytes) -> tuple[tuple[bytes, ...], int]:
    """Return the labels, in lower case, of the name after the header, and the offset after it."""
    labels: list[bytes] = []
    folded = packet.lower()
    pos = HEADER
    end = len(packet) - 4
    while pos < end:
        length = packet[pos]
        pos += 1
        if length == 0:
            if pos - HEADER > MAX_NAME:
                break
            return tuple(labels), pos
        if length > MAX_LABEL:
            break
        labels.append(folded[pos : pos + length])
        pos += length
    raise Rejected(FORMERR, "the question is not a name, a type and a class")


@lru_cache(maxsize=256)
def _lone_edns(tail: bytes) -> Edns | None:
    """Return the OPT record of a query whose only record it is: most clients always send the same one."""
    return _find_edns(tail, 0, 0, 1)


def _find_edns(packet: bytes, pos: int, before: int, additional: int) -> Edns | None:
    """Return the last OPT record of the additional section.

    As in Consul, counts that promise more than there is are forgiven, and trailing octets are ignored.
    """
    edns = None
    for number in range(before + additional):
        if pos == len(packet):
            break
        pos = skip_name(packet, pos)
        if pos + _RECORD.size > len(packet):
            raise FormatError("a record is cut off")
        rtype, size, ttl, length = _RECORD.unpack_from(packet, pos)
        pos += _RECORD.size
        if pos + length > len(packet):
            raise FormatError("the data of a record is cut off")
        if rtype == TYPE_OPT and number >= before:
            subnet = _client_subnet(packet[pos : pos + length])
            edns = Edns(size, (ttl >> 16) & 0xFF, bool(ttl & 0x8000), subnet)
        pos += length
    return edns


def _client_subnet(options: bytes) -> bytes:
    """Return the client subnet option of OPT data with scope 0, as it is echoed (RFC 7871 section 7.2.1)."""
    found = b""
    pos = 0
    while pos < len(options):
        if pos + _OPTION.size > len(options):
            raise FormatError("an EDNS option is cut off")
        code, length = _OPTION.unpack_from(options, pos)
        pos += _OPTION.size
        data = options[pos : pos + length]
        if len(data) < length:
            raise FormatError("the data of an EDNS option is cut off")
        pos += length
        if code == OPTION_CLIENT_SUBNET:
            found = _echoed_subnet(data)
    return found


def _echoed_subnet(data: bytes) -> bytes:
    if len(data) < 4:
        raise FormatError("a client subnet is cut off")
    family = int.from_bytes(data[:2], "big")
    source, scope = data[2], data[3]
    bits = _SUBNET_BITS.get(family, 0)
    if source > bits or scope > bits or (family and not bits):
        raise FormatError("a client subnet of no known family or prefix")
    octets = (source + 7) // 8
    prefix = bytearray(data[4 : 4 + octets].ljust(octets, b"\0"))
    if source % 8:
        prefix[-1] &= 0xFF << (8 - source % 8)
    echoed = data[:3] + b"\0" + prefix
    return _OPTION.pack(OPTION_CLIENT_SUBNET, len(echoed)) + echoed
