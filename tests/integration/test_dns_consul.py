"""The same questions to a real Consul and to our server over the same catalog: the replies are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from lb.catalog import decode
from lb.catalog.model import Snapshot
from lb.settings import DnsSettings
from tests.support.consul import Consul, running_consul
from tests.support.dns import Row, Seen, ask_tcp, ask_udp, make_query, read_reply
from tests.support.dns_server import LOOPBACK, running_dns
from tests.support.process import wait_until


class Ask(NamedTuple):
    """One question; `edns` is the size that the client offers, `tcp` the transport."""

    name: str
    qtype: str = "A"
    edns: int | None = None
    tcp: bool = False
    rd: bool = True

    def __str__(self) -> str:
        extras = [f"+edns={self.edns}"] if self.edns else []
        extras += ["+tcp"] if self.tcp else []
        extras += [] if self.rd else ["+nord"]
        return " ".join([self.name, self.qtype, *extras])


@dataclass(frozen=True)
class Wanted:
    """A difference from Consul that we want, and the questions that show it."""

    reason: str
    names: tuple[str, ...]
    parts: frozenset[str]


WANTED = (
    Wanted(
        "TC is set on a reply that was cut, so that a client can ask over TCP",
        ("many.service.consul", "five.service.consul"),
        frozenset({"tc"}),
    ),
    Wanted(
        "a node without the asked type is NOERROR with the SOA, an unknown one is NXDOMAIN",
        ("n4.node.consul", "nosuch.node.consul"),
        frozenset({"authority", "rcode"}),
    ),
    Wanted(
        "an unknown reverse name without recursors is NXDOMAIN with the SOA",
        ("9.9.9.9.in-addr.arpa", "9.in-addr.arpa"),
        frozenset({"rcode", "authority", "aa", "ra"}),
    ),
    Wanted("a CNAME chased for AAAA gives no A", ("inner.service.consul",), frozenset({"answer"})),
    Wanted("our own EDNS size in the reply", (), frozenset({"edns"})),
)

NODES: dict[str, dict[str, Any]] = {
    "n4": {"Address": "10.1.0.4", "NodeMeta": {"rack": "r1", "rfc1035-note": "bare"}},
    "N5-Upper": {"Address": "10.1.0.5"},
    "n6": {"Address": "fd00::6"},
    "dotted.name": {"Address": "10.1.0.7"},
    "outside": {"Address": "www.example.net"},
}


def fill(consul: Consul) -> None:
    """Write a catalog with something of every kind."""
    for node, body in NODES.items():
        consul.put("/v1/catalog/register", {"Node": node, **body})
    put = _Putter(consul)
    put("n4", "web", tags=["primary", "V1.2"], weights=(7, 3))
    put("N5-Upper", "web", tags=["backup"], status="warning", weights=(5, 2))
    put("n6", "web", tags=["primary"])
    put("n4", "web", id="web-down", port=81, status="critical")
    put("n4", "down", status="critical")
    put("n4", "own4", address="10.2.0.1")
    put("n4", "own6", address="fd00:2::1")
    put("n4", "sixmore", address="fd00:2::2", tags=["a"])
    put("N5-Upper", "twice", id="t1", address="10.2.0.9")
    put("N5-Upper", "twice", id="t2", address="10.2.0.9")
    put("N5-Upper", "twice", id="t3", address="10.2.0.9", port=90)
    put("n4", "twice", id="t4", address="10.2.0.9")
    put("n4", "inner", address="web.service.consul")
    put("n4", "outer", address="db.example.net")
    put("n4", "mixed", id="m1", address="db.example.net")
    put("n4", "mixed", id="m2", address="10.2.0.3")
    put("outside", "onout")
    put("n4", "Upper", port=443)
    put("dotted.name", "dotty")
    put("n4", "both", address="10.2.0.4", tagged={"lan_ipv6": "fd00:2::4"})
    put("n4", "chain", address="chain2.service.consul")
    put("n4", "chain2", address="chain3.service.consul")
    put("n4", "chain3", address="chain4.service.consul")
    put("n4", "chain4", address="chain5.service.consul")
    put("n4", "chain5", address="10.2.0.5")
    put("n4", "selfish", address="selfish.service.consul")
    for number in range(5):
        put("n4", "five", id=f"five-{number}", address=f"10.3.0.{number}", port=1000 + number)
    for number in range(40):
        put("n4", "many", id=f"many-{number}", address=f"10.4.0.{number}", port=2000 + number)


class _Putter:
    def __init__(self, consul: Consul) -> None:
        self._consul = consul

    def __call__(
        self,
        node: str,
        name: str,
        *,
        id: str = "",
        address: str = "",
        port: int = 80,
        tags: list[str] | None = None,
        status: str = "passing",
        weights: tuple[int, int] = (1, 1),
        tagged: dict[str, str] | None = None,
    ) -> None:
        service = {
            "Service": name,
            "ID": id or name,
            "Address": address,
            "Port": port,
            "Tags": tags or [],
            "Weights": {"Passing": weights[0], "Warning": weights[1]},
            "TaggedAddresses": {k: {"Address": v, "Port": port} for k, v in (tagged or {}).items()},
        }
        check = {"CheckID": f"c-{id or name}", "Name": "c", "Status": status, "ServiceID": id or name}
        body = {"Node": node, **NODES[node], "SkipNodeUpdate": True, "Service": service, "Check": check}
        self._consul.put("/v1/catalog/register", body)


def read_snapshot(consul: Consul) -> Snapshot:
    """Return the agent's whole catalog as a snapshot."""
    services = {
        name: decode.service(name, consul.get(f"/v1/health/service/{name}")).service
        for name in consul.get("/v1/catalog/services")
    }
    nodes = decode.nodes(consul.get("/v1/catalog/nodes"))
    return Snapshot(MappingProxyType(services), MappingProxyType(nodes), consul.datacenter, generation=1)


SERVICES = ("web", "own4", "own6", "twice", "inner", "outer", "mixed", "onout", "both", "chain", "dotty")
QUESTIONS = [
    *(Ask(f"{name}.service.consul", qtype, 1232) for name in SERVICES for qtype in ("A", "AAAA", "SRV", "ANY")),
    *(Ask("web.service.consul", qtype) for qtype in ("A", "AAAA", "SRV", "ANY", "TXT", "MX", "NS", "SOA")),
    *(Ask("web.service.consul", "A", size) for size in (0, 100, 512, 4096, 65535)),
    Ask("web.service.consul", "SRV", tcp=True),
    Ask("web.service.consul", "A", rd=False),
    Ask("WEB.Service.CONSUL"),
    Ask("upper.service.consul"),
    Ask("primary.web.service.consul"),
    Ask("PRIMARY.web.service.consul", "SRV"),
    Ask("v1.2.web.service.consul"),
    Ask("nosuch.web.service.consul"),
    Ask("web.service.dc1.consul"),
    Ask("web.service.DC1.consul", "SRV"),
    Ask("web.service.dc9.consul"),
    Ask("web.service.dc1.extra.consul"),
    Ask("down.service.consul"),
    Ask("nosuch.service.consul"),
    Ask("nosuch.service.consul", "SRV", 1232),
    Ask("service.consul"),
    Ask("web.consul"),
    Ask("consul"),
    Ask("consul", "ANY"),
    Ask("consul", "SOA", 1232),
    Ask("consul", "NS", 1232),
    Ask("whatever.consul", "NS"),
    Ask("consul.service.consul"),
    Ask("selfish.service.consul"),
    Ask("outer.service.consul", "TXT"),
    Ask("outer.service.consul", "MX"),
    *(Ask("_web._tcp.service.consul", qtype) for qtype in ("A", "AAAA", "SRV", "ANY")),
    Ask("_web._tcp.consul", "SRV"),
    Ask("_web._tcp.consul", "A"),
    Ask("_web._primary.service.dc1.consul", "SRV"),
    Ask("_web._backup.consul", "SRV", 1232),
    Ask("_web._udp.service.consul", "SRV"),
    Ask("_web._.service.consul", "SRV"),
    Ask("_web.consul", "SRV"),
    Ask("_._tcp.service.consul", "SRV"),
    *(Ask("n4.node.consul", qtype, 1232) for qtype in ("A", "AAAA", "ANY", "TXT", "MX")),
    Ask("N4.NODE.dc1.consul"),
    Ask("n5-upper.node.consul"),
    Ask("n6.node.consul", "AAAA"),
    Ask("dotted.name.node.consul"),
    Ask("outside.node.consul"),
    Ask("n4.node.dc9.consul"),
    Ask("nosuch.node.consul"),
    Ask("nosuch.node.consul", "MX"),
    Ask("0a010004.addr.consul"),
    Ask("0A010004.addr.dc9.consul", "AAAA"),
    Ask("fd000000000000000000000000000006.addr.consul", "AAAA"),
    Ask("0a01000.addr.consul"),
    Ask("0a01000g.addr.consul"),
    Ask("zz.addr.consul"),
    Ask("4.0.1.10.in-addr.arpa", "PTR"),
    Ask("4.0.1.10.in-addr.arpa", "A"),
    Ask("4.0.1.10.in-addr.arpa", "SOA"),
    Ask("1.0.2.10.in-addr.arpa", "PTR"),
    Ask("6." + "0." * 27 + "0.0.d.f.ip6.arpa", "PTR"),
    Ask("9.9.9.9.in-addr.arpa", "PTR"),
    Ask("9.in-addr.arpa", "PTR"),
    Ask("nosuch.query.consul"),
    Ask("nosuch.connect.consul"),
    Ask("www.example.org"),
    Ask("www.example.org", edns=1232),
    Ask("five.service.consul"),
    Ask("five.service.consul", "SRV"),
    Ask("five.service.consul", "SRV", 512),
    Ask("five.service.consul", "SRV", 4096),
    Ask("many.service.consul"),
    Ask("many.service.consul", edns=1232),
    Ask("many.service.consul", "SRV", 1232),
    Ask("many.service.consul", "SRV", 800),
    Ask("many.service.consul", "SRV", tcp=True),
    Ask("many.service.consul", "A", tcp=True),
]

CUT = ("many.service.consul", "five.service.consul")
"""Services of which a UDP reply holds some instances only: how many is compared, not which."""


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with running_consul(tmp_path_factory.mktemp("consul")) as running:
        fill(running)
        wait_until(lambda: ask(running.dns_port, Ask("many.service.consul")).answer, what="Consul's DNS")
        yield running


@pytest.fixture(scope="module")
def our_port(consul: Consul) -> Iterator[int]:
    with running_dns(DnsSettings(listen=LOOPBACK), read_snapshot(consul)) as running:
        yield running.port


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_replies_are_alike(consul: Consul, our_port: int, question: Ask) -> None:
    assert compare(consul.dns_port, our_port, question) == []


def compare(theirs: int, ours: int, question: Ask) -> list[str]:
    """Return the differences between two servers' replies that nobody wants."""
    wanted = {part for case in WANTED if not case.names or question.name in case.names for part in case.parts}
    pair = [parts(ask(port, question), question) for port in (theirs, ours)]
    return [
        f"{part}: Consul {pair[0][part]}, we {pair[1][part]}"
        for part in pair[0]
        if part not in wanted and pair[0][part] != pair[1][part]
    ]


def ask(port: int, question: Ask) -> Seen:
    """Ask one question of one server."""
    query = make_query(question.name, question.qtype, edns=question.edns, rd=question.rd)
    return read_reply((ask_tcp if question.tcp else ask_udp)(port, query))


def parts(seen: Seen, question: Ask) -> dict[str, Any]:
    """Return what of a reply is compared: order counts for nothing, nor does the serial of the SOA."""
    cut = question.name in CUT and not question.tcp
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
    owner, qtype, ttl, data = row
    if qtype == "SOA":
        words = data.split()
        words[2] = "SERIAL"
        data = " ".join(words)
    return owner, qtype, ttl, data
