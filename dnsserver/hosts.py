"""Names and addresses of a hosts(5) file: reading its text, and answering from it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from dnsserver import records
from dnsserver.answers import Asked
from dnsserver.records import Answer, Group, Record
from dnsserver.wire import TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_PTR, name_from_text

TTL = 10
"""Seconds for which clients may keep what the file says: it may change at any moment."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_MAPPED = b"\0" * 10 + b"\xff\xff"
"""Begins an IPv6 address that maps IPv4."""

_FAMILIES = {TYPE_A: 4, TYPE_AAAA: 16}


class Hosts:
    """What a hosts file says. It has the last word on its names: another type, or the other family, is NODATA.

    Both tables are keyed by wire names in lower case; a file may hold some 100,000.
    """

    def __init__(self) -> None:
        self._addresses: dict[bytes, tuple[bytes, ...]] = {}
        self._names: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, packed: bytes, names: Iterable[bytes]) -> None:
        """Add one line: a packed address and its wire names. The first name that an address ever had is its PTR."""
        alone = (packed,)
        pointer = _reverse(packed)
        for name in names:
            key = name.lower()
            known = self._addresses.setdefault(key, alone)
            if packed not in known:
                self._addresses[key] = (*known, packed)
            self._names.setdefault(pointer, name)

    def answer(self, asked: Asked) -> Answer | None:
        """Answer a question; None where the file does not hold the name."""
        key = asked.qname.lower()
        addresses = self._addresses.get(key)
        if addresses is not None:
            return Answer(groups=[Group((record,)) for record in _wanted(asked, addresses)])
        name = self._names.get(key)
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
        packed = _packed(words[0])
        if packed is None:
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


def _packed(text: str) -> bytes | None:
    """The octets of an address; one with a zone (`fe80::1%eth0`) means nothing to others."""
    packed = None if "%" in text else records.packed_address(text)
    if packed is not None and len(packed) == 16 and packed.startswith(_MAPPED):
        return packed[12:]
    return packed


def _wire_name(text: str) -> bytes:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not a host name")
    try:
        return name_from_text(text)
    except ValueError as error:
        raise ValueError(f"{text[:80]!r}: {error}") from None


@lru_cache(maxsize=1024)
def _reverse(packed: bytes) -> bytes:
    """The wire name of an address's PTR record (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if len(packed) == 4:
        return name_from_text(".".join(map(str, reversed(packed))) + ".in-addr.arpa")
    return name_from_text(".".join(reversed(packed.hex())) + ".ip6.arpa")


def _wanted(asked: Asked, addresses: Iterable[bytes]) -> Iterator[Record]:
    for packed in addresses:
        if asked.qtype == TYPE_ANY or _FAMILIES.get(asked.qtype) == len(packed):
            yield records.address(asked.qname, packed, TTL)
