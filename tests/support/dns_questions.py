"""Questions about the rich catalog: every form of name, with types, transports, sizes, spellings and flags drawn."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from tests.support.dns import Seen, ask_tcp, ask_udp, make_query, read_reply


class Ask(NamedTuple):
    """One question; `edns` is the size that the client offers, `tcp` the transport, `flags` are set beside RD."""

    name: str
    qtype: str = "A"
    edns: int | None = None
    tcp: bool = False
    rd: bool = True
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        extras = [] if self.edns is None else [f"+edns={self.edns}"]
        extras += ["+tcp"] if self.tcp else []
        extras += [] if self.rd else ["+nord"]
        extras += [f"+{flag}" for flag in self.flags]
        return " ".join([self.name, self.qtype, *extras])

    def send(self, port: int, timeout: float = 5.0) -> Seen | None:
        """Ask it; None for silence."""
        query = make_query(self.name, self.qtype, edns=self.edns, rd=self.rd, **dict.fromkeys(self.flags, 1))
        try:
            wire = (ask_tcp if self.tcp else ask_udp)(port, query, timeout=timeout)
        except TimeoutError:
            return None
        return read_reply(wire) if wire else None


SERVICES = (
    *("web", "upper", "down", "sickly", "warned", "weighty", "dotty", "wordy", "own4", "own6", "mapped", "twice"),
    *("inner", "inner5", "to-node", "to-addr", "nowhere", "outer", "mixed", "onout", "onin", "ontagged", "both", "wan"),
    *("chain1", "chain2", "selfish", "five", "many", "many6", "web-proxy", "portless", "consul", "nosuch"),
)
TAGGED = ("primary.web", "V1.2.web", "nosuch.web", "a.b.web", "a.sixmore", "web.web")
RFC_2782 = (
    *("_web._tcp", "_web._primary", "_web._backup", "_web._udp", "_web._", "_outer._tcp", "_many._tcp", "_down._tcp"),
    *("_nosuch._tcp", "_web._v1.2"),
)
NODES = (
    *(
        "n4",
        "N5-Upper",
        "n6",
        "dotted.name",
        "outside",
        "within",
        "tagged",
        "sick",
        "upkeep",
        "aabb",
        "aabbccdd",
        "aab",
    ),
    *("consul-1", "nosuch"),
)
ADDRESSES = ("0a010004", "fd000000000000000000000000000006", "0a01000", "0a01000g", "zz", "0a010004aa", "x.0a010004")
QUERIES = (
    *("plain", "timed", "brief", "dotted.query.name", "primary", "passing", "failover", "empty", "sidecar", "crowd"),
    *("named", "inside", "tpl-five", "tpl-nosuch", "nosuch"),
)
MESH = ("web.connect", "native.connect", "own4.connect", "nosuch.connect", "x.web.connect", "web-proxy.connect")
GATES = ("own4.ingress", "web.ingress", "x.own4.ingress", "web.virtual", "nosuch.virtual")
POINTERS = (
    *("4.0.1.10.in-addr.arpa", "5.0.1.10.in-addr.arpa", "1.0.2.10.in-addr.arpa", "9.0.2.10.in-addr.arpa"),
    *("6." + "0." * 27 + "0.0.d.f.ip6.arpa", "8." + "0." * 27 + "0.0.d.f.ip6.arpa", "44.0.2.10.in-addr.arpa"),
    *("9.9.9.9.in-addr.arpa", "9.in-addr.arpa"),
    *("1.0.5.10.in-addr.arpa", "2.0.5.10.in-addr.arpa", "3.0.5.10.in-addr.arpa", "13.0.1.10.in-addr.arpa"),
)
OTHERS = (
    *("consul", "service.consul", "node.consul", "web.consul", "whatever.consul", "x.y.z.consul", "query.consul"),
    *("_web.consul", "_._tcp.service.consul", "web.service.dc1.extra.consul", "web.service.service.consul"),
    *("www.example.org", "consulx", "example.consul.org"),
)
TYPES = ("A", "AAAA", "SRV", "ANY")
ALL_TYPES = (*TYPES, "TXT", "MX", "SOA", "NS", "CNAME", "PTR")
SIZES = (None, None, 0, 100, 512, 513, 800, 1024, 1232, 1232, 4096, 65535)


def generate(seed: int, own: str = "dc1", other: str = "dc2") -> list[Ask]:
    """Return the questions, the same ones for the same seed; `own` and `other` are datacenters."""
    rng = Random(seed)
    found: dict[Ask, None] = {}
    for name, types in _names(own, other):
        for qtype in types:
            found[_vary(name, qtype, rng)] = None
    return list(found)


def _names(own: str, other: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in (*SERVICES, *TAGGED):
        yield f"{name}.service.consul", (*TYPES, "TXT", "MX")
    for name in ("web", "outer", "primary.web", "many", "nosuch", "only-dc2", "inner"):
        for datacenter in (own, other, "dc9"):
            yield f"{name}.service.{datacenter}.consul", TYPES
    for name in RFC_2782:
        yield f"{name}.service.consul", TYPES
        yield f"{name}.consul", ("SRV", "A")
        yield f"{name}.service.{other}.consul", ("SRV", "AAAA")
    for name in NODES:
        yield f"{name}.node.consul", ("A", "AAAA", "ANY", "TXT", "MX")
        for datacenter in (own, other, "dc9"):
            yield f"{name}.node.{datacenter}.consul", ("A",)
    for name in ADDRESSES:
        yield f"{name}.addr.consul", ("A", "AAAA", "ANY")
        yield f"{name}.addr.dc9.consul", ("A",)
    for name in QUERIES:
        yield f"{name}.query.consul", TYPES
        yield f"{name}.query.{own}.consul", ("A",)
        yield f"{name}.query.dc9.consul", ("A",)
    for name in (*MESH, *GATES):
        yield f"{name}.consul", TYPES
        yield f"{name}.{other}.consul", ("A",)
    for name in POINTERS:
        yield name, ("PTR", "A", "ANY", "SOA")
    yield "SELFISH.service.consul", TYPES
    for name in OTHERS:
        yield name, ALL_TYPES


def _vary(name: str, qtype: str, rng: Random) -> Ask:
    if rng.random() < 0.2:
        name = "".join(rng.choice((letter.lower(), letter.upper())) for letter in name)
    flags = tuple(flag for flag in ("ad", "cd") if rng.random() < 0.1)
    return Ask(name, qtype, rng.choice(SIZES), rng.random() < 0.25, rng.random() < 0.9, flags)
