"""Two servers' replies to one question, and the differences between them that are wanted, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.dns import Row, Seen
from tests.support.dns_questions import Ask

OWN_SIZE = 1232
"""The largest reply that our server sends over UDP, whatever the client allows."""


@dataclass(frozen=True)
class Pair:
    """A question, Consul's reply to it (None: silence), and ours."""

    ask: Ask
    theirs: Seen | None
    ours: Seen

    @property
    def name(self) -> str:
        """The name without case."""
        return self.ask.name.lower()

    @property
    def allowed(self) -> int:
        """Octets that the client and we allow a reply."""
        if self.ask.tcp:
            return 65535
        return max(512, min(self.ask.edns or 0, OWN_SIZE))

    @property
    def cut(self) -> bool:
        """Whether answers were left out for want of room."""
        return "tc" in self.ours.flags

    def holds(self, part: str, theirs: object, ours: object) -> bool:
        """Whether a part of both replies is as given."""
        return self.theirs is not None and getattr(self.theirs, part) == theirs and getattr(self.ours, part) == ours


@dataclass(frozen=True)
class Wanted:
    """A difference that we want: where it may show, and in which parts of a reply."""

    reason: str
    shows: Callable[[Pair], bool]
    parts: frozenset[str]


def _owner_kind(pair: Pair, kind: str) -> bool:
    return f".{kind}." in pair.name and pair.name.endswith(".consul")


def _soa_only(seen: Seen) -> bool:
    return not seen.answer and [row[1] for row in seen.authority] == ["SOA"]


WANTED = (
    Wanted("our own EDNS size in the reply", lambda pair: pair.ask.edns is not None, frozenset({"edns"})),
    Wanted(
        "TC is set on a reply that was cut, so that a client can ask over TCP",
        lambda pair: pair.cut and not pair.ask.tcp,
        frozenset({"tc"}),
    ),
    Wanted(
        "a reply is never larger than the client allows, nor than 1232 octets over UDP",
        lambda pair: pair.cut and pair.theirs is not None and len(pair.theirs.wire) > pair.allowed,
        frozenset({"answer", "additional"}),
    ),
    Wanted(
        "ANY over UDP gets 512 octets at most; who wants more asks over TCP",
        lambda pair: pair.ask.qtype == "ANY" and not pair.ask.tcp and "tc" in pair.ours.flags,
        frozenset({"answer", "additional", "tc"}),
    ),
    Wanted(
        "a node without the asked type is NOERROR with the SOA",
        lambda pair: _owner_kind(pair, "node") and pair.holds("rcode", "NOERROR", "NOERROR") and _soa_only(pair.ours),
        frozenset({"authority"}),
    ),
    Wanted(
        "a node that does not exist is NXDOMAIN, whatever type is asked",
        lambda pair: _owner_kind(pair, "node") and pair.holds("rcode", "NOERROR", "NXDOMAIN") and _soa_only(pair.ours),
        frozenset({"authority", "rcode"}),
    ),
    Wanted(
        "an unknown reverse name without recursors is NXDOMAIN with the SOA",
        lambda pair: pair.name.endswith(".arpa") and pair.holds("rcode", "SERVFAIL", "NXDOMAIN"),
        frozenset({"rcode", "authority", "aa", "ra"}),
    ),
    Wanted("PTR records have the TTL of nodes", lambda pair: pair.name.endswith(".arpa"), frozenset({"ttl"})),
    Wanted(
        "a CNAME chased inside the domain brings the asked family only",
        lambda pair: any(row[1] == "CNAME" for row in pair.ours.answer) and _asked_family(pair),
        frozenset({"answer"}),
    ),
    Wanted(
        "a CNAME to the asked name itself, in other letters, is none: names have no case (RFC 4343)",
        lambda pair: pair.name == "selfish.service.consul" and pair.ask.name != pair.name,
        frozenset({"answer", "authority", "additional"}),
    ),
    Wanted(
        "a name chased inside the domain brings all of its addresses that fit, not three of them",
        lambda pair: "inner5" in pair.name and _three_of(pair.theirs) and not _three_of(pair.ours),
        frozenset({"answer", "additional"}),
    ),
)


def _three_of(seen: Seen | None) -> bool:
    """Whether a reply has a CNAME and three addresses of its target."""
    rows = (*seen.answer, *seen.additional) if seen is not None else ()
    return len([row for row in rows if row[1] in ("A", "AAAA")]) == 3


def _asked_family(pair: Pair) -> bool:
    """Whether we give what Consul does of the asked family, and nothing of the other."""
    assert pair.theirs is not None
    kept = {row for row in pair.theirs.answer if row[1] in (pair.ask.qtype, "CNAME")}
    types = {row[1] for row in pair.ours.answer}
    return kept <= set(pair.ours.answer) and types <= {"A", "AAAA", "CNAME"} & {pair.ask.qtype, "CNAME"}


def unwanted(ask: Ask, theirs: Seen | None, ours: Seen, shown: set[str] | None = None) -> list[str]:
    """Return the differences that nobody wants; the reasons of those that are wanted go to `shown`."""
    pair = Pair(ask, theirs, ours)
    assert len(ours.wire) <= pair.allowed
    if theirs is None:
        return []
    both = _parts(theirs, pair), _parts(ours, pair)
    different = {part for part in both[0] if both[0][part] != both[1][part]}
    if _ttls(theirs, ours) != _ttls(ours, theirs):
        different.add("ttl")
    for wanted in WANTED:
        if different & wanted.parts and wanted.shows(pair):
            different -= wanted.parts
            if shown is not None:
                shown.add(wanted.reason)
    return [f"{part}: Consul {both[0].get(part)}, we {both[1].get(part)}" for part in sorted(different)]


def _ttls(seen: Seen, other: Seen) -> set[tuple[str, int]]:
    """The TTLs of each type of record that another reply has, too."""
    types = {row[1] for row in (*other.answer, *other.authority, *other.additional)}
    return {(row[1], row[2]) for row in (*seen.answer, *seen.authority, *seen.additional) if row[1] in types}


def _parts(seen: Seen, pair: Pair) -> dict[str, Any]:
    """Return what of a reply is compared: order counts for nothing, nor does the serial of the SOA.

    Of a reply that was cut, how many records there are is compared, not which: they are drawn.
    """
    cut = pair.cut
    compared: dict[str, Any] = {
        "rcode": seen.rcode,
        "answer": len(seen.answer) if cut else sorted(map(_row, seen.answer)),
        "authority": sorted(map(_row, seen.authority)),
        "additional": len(seen.additional) if cut else sorted(map(_row, seen.additional)),
        "edns": seen.edns_size,
        "has edns": seen.edns_size is not None,
    }
    return compared | {flag: flag in seen.flags for flag in ("aa", "ra", "rd", "tc", "ad", "cd")}


def _row(row: Row) -> Row:
    """A record without TTL, which is compared apart, and without serial."""
    owner, qtype, _, data = row
    if qtype == "SOA":
        words = data.split()
        words[2] = "SERIAL"
        data = " ".join(words)
    return owner, qtype, 0, data
