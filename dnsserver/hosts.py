"""Names and addresses of a hosts(5) file: reading its text, and answering from it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address

from dnsserver import records
from dnsserver.answers import Asked
from dnsserver.records import Answer, Group, Record
from dnsserver.wire import TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_PTR, name_from_text, split_name

TTL = 10
"""Seconds for which clients may keep what the file says: it may change at any moment."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_FAMILIES = {TYPE_A: 4, TYPE_AAAA: 16}

Labels = tuple[bytes, ...]


class Hosts:
    """What a hosts file says. It has the last word on its names: another type, or the other family, is NODATA."""

    def __init__(self) -> None:
        self._addresses: dict[Labels, list[bytes]] = {}
        self._names: dict[Labels, bytes] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, packed: bytes, names: Iterable[bytes]) -> None:
        """Add one line: a packed address and its wire names. The first name that an address ever had is its PTR."""
        for name in names:
            addresses = self._addresses.setdefault(_labels(name), [])
            if packed not in addresses:
                addresses.append(packed)
            self._names.setdefault(_reverse(packed), name)

    def answer(self, asked: Asked) -> Answer | None:
        """Answer a question; None where the file does not hold the name."""
        addresses = self._addresses.get(asked.labels)
        if addresses is not None:
            return Answer(groups=[Group((record,)) for record in _wanted(asked, addresses)])
        name = self._names.get(asked.labels)
        if name is None:
            return None
        found = asked.qtype in (TYPE_PTR, TYPE_ANY)
        return Answer(groups=[Group((records.ptr(asked.qname, name, TTL),))] if found else ())


def parse_hosts(text: str) -> tuple[Hosts, list[str]]:
    """Read a file's text; return what it holds, and for each fault `LINE: reason`.

    What is wrong is skipped: a whole line for its address, else one name.
    """
    hosts = Hosts()
    problems: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            packed = _packed(words[0])
        except ValueError:
            problems.append(f"{number}: {words[0][:80]!r} is not an IP address")
            continue
        if len(words) == 1:
            problems.append(f"{number}: {words[0]} has no name")
        names = []
        for word in words[1:]:
            try:
                names.append(_wire_name(word))
            except ValueError as error:
                problems.append(f"{number}: {error}")
        hosts.add(packed, names)
    return hosts, problems


def _packed(text: str) -> bytes:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone means nothing to others")
        return (address.ipv4_mapped or address).packed
    return address.packed


def _wire_name(text: str) -> bytes:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a host name")
    try:
        return name_from_text(text)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r}: {error}") from None


def _labels(name: bytes) -> Labels:
    return tuple(split_name(name.lower()))


def _reverse(packed: bytes) -> Labels:
    """The labels under which the PTR record of an address is (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if len(packed) == 4:
        return (*(str(octet).encode() for octet in reversed(packed)), b"in-addr", b"arpa")
    return (*(digit.encode() for digit in reversed(packed.hex())), b"ip6", b"arpa")


def _wanted(asked: Asked, addresses: Iterable[bytes]) -> Iterator[Record]:
    for packed in addresses:
        if asked.qtype == TYPE_ANY or _FAMILIES.get(asked.qtype) == len(packed):
            yield records.address(asked.qname, packed, TTL)
