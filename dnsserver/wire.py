"""Numbers and names of the DNS wire format (RFC 1035), without I/O.

A *wire name* is a domain name as bytes: each label after its length, ended by a zero octet, not compressed.
"""

from __future__ import annotations

from collections.abc import Iterable

from lb.errors import EdgeError

TYPE_A = 1
TYPE_NS = 2
TYPE_CNAME = 5
TYPE_SOA = 6
TYPE_PTR = 12
TYPE_MX = 15
TYPE_TXT = 16
TYPE_AAAA = 28
TYPE_SRV = 33
TYPE_OPT = 41
TYPE_AXFR = 252
TYPE_ANY = 255

CLASS_IN = 1

NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5
BADVERS = 16

FLAG_QR = 0x8000
FLAG_AA = 0x0400
FLAG_TC = 0x0200
FLAG_RD = 0x0100
FLAG_RA = 0x0080
FLAG_AD = 0x0020
FLAG_CD = 0x0010

HEADER = 12
"""Octets of a message's header."""

PLAIN_UDP = 512
"""Octets that every client takes over UDP (RFC 1035 section 2.3.4)."""

MAX_MESSAGE = 65535
"""Octets that the length field of TCP allows."""

MAX_LABEL = 63
MAX_NAME = 255

TYPE_NAMES = {
    TYPE_A: "A",
    TYPE_NS: "NS",
    TYPE_CNAME: "CNAME",
    TYPE_SOA: "SOA",
    TYPE_PTR: "PTR",
    TYPE_MX: "MX",
    TYPE_TXT: "TXT",
    TYPE_AAAA: "AAAA",
    TYPE_SRV: "SRV",
    TYPE_AXFR: "AXFR",
    TYPE_ANY: "ANY",
    64: "SVCB",
    65: "HTTPS",
}
"""The types that metrics name; all others are `other`."""

RCODE_NAMES = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    BADVERS: "BADVERS",
}


class FormatError(EdgeError):
    """A message breaks the wire format."""


def encode_name(labels: Iterable[bytes]) -> bytes:
    """Return the wire name of `labels`; raise ValueError for one that DNS cannot carry."""
    out = bytearray()
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise ValueError(f"a label has 1 to {MAX_LABEL} octets, not {len(label)}")
        out.append(len(label))
        out += label
    out.append(0)
    if len(out) > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} octets, not {len(out)}")
    return bytes(out)


def name_from_text(text: str) -> bytes:
    """Return the wire name of a dotted name, the last dot optional; raise ValueError as `encode_name`."""
    dotted = to_bytes(text).removesuffix(b".")
    return encode_name(dotted.split(b".")) if dotted else b"\0"


def name_to_text(name: bytes) -> str:
    """Return a wire name in dotted form, for logs."""
    return b".".join(split_name(name)).decode("ascii", "backslashreplace") + "."


def split_name(name: bytes) -> list[bytes]:
    """Return the labels of a wire name."""
    labels = []
    pos = 0
    while length := name[pos]:
        labels.append(name[pos + 1 : pos + 1 + length])
        pos += 1 + length
    return labels


def to_bytes(text: str) -> bytes:
    """Return text of the catalog as it goes into labels and strings."""
    return text.encode("utf-8", "replace")


def fold(text: str) -> bytes:
    """Return what names are compared by: ASCII letters without case (RFC 4343)."""
    return to_bytes(text).lower()


def skip_name(message: bytes, pos: int) -> int:
    """Return the offset after the (maybe compressed) name at `pos`; raise FormatError where there is none."""
    end = len(message)
    while pos < end:
        length = message[pos]
        if length == 0:
            return pos + 1
        if length >= 0xC0:
            if pos + 2 > end:
                break
            return pos + 2
        if length > MAX_LABEL:
            raise FormatError("a label type that is not in use")
        pos += 1 + length
    raise FormatError("a name runs past the end")


def read_name(message: bytes, pos: int) -> bytes:
    """Return the wire name at `pos` with all compression undone.

    A pointer must go backwards (RFC 1035 section 4.1.4), so that it cannot loop. Raises FormatError.
    """
    out = bytearray()
    bound = pos
    while True:
        if pos >= len(message):
            raise FormatError("a name runs past the end")
        length = message[pos]
        if length >= 0xC0:
            if pos + 2 > len(message):
                raise FormatError("a name runs past the end")
            pos = int.from_bytes(message[pos : pos + 2], "big") & 0x3FFF
            if not HEADER <= pos < bound:
                raise FormatError("a compression pointer does not go backwards to a name")
            bound = pos
            continue
        if length > MAX_LABEL:
            raise FormatError("a label type that is not in use")
        label = message[pos : pos + 1 + length]
        if len(label) <= length:
            raise FormatError("a name runs past the end")
        out += label
        if len(out) > MAX_NAME:
            raise FormatError(f"a name of more than {MAX_NAME} octets")
        if length == 0:
            return bytes(out)
        pos += 1 + length
