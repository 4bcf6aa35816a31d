"""Catalogs for DNS tests, and a responder that answers from one without sockets."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from types import MappingProxyType
from typing import Any

from dnsserver.responder import Responder
from dnsserver.stats import DnsStats
from dnsserver.zone import Zone
from lb.catalog.model import Instance, Node, Service, Snapshot
from lb.settings import DnsSettings
from tests.support.dns import Seen, make_query, read_reply

SERIAL = 1_700_000_000


def node(name: str, address: str, **fields: Any) -> Node:
    """Return a node of dc1."""
    return Node(name, address, datacenter="dc1", **fields)


def instance(service: str, number: int = 1, **fields: Any) -> Instance:
    """Return an instance on node `n<number>` at 10.0.0.<number>, port 80, unless fields say otherwise."""
    place = fields.pop("node_address", f"10.0.0.{number}")
    defaults: dict[str, Any] = {
        "id": f"{service}-{number}",
        "node": f"n{number}",
        "port": 80,
        "datacenter": "dc1",
        "node_address": place,
        "address": fields.get("service_address") or place,
    }
    return Instance(service=service, **{**defaults, **fields})


def snapshot(instances: Iterable[Instance] = (), nodes: Iterable[Node] = (), generation: int = 1) -> Snapshot:
    """Return a catalog of dc1; nodes that are not given are made from the instances."""
    services: dict[str, list[Instance]] = {}
    known = {each.name: each for each in nodes}
    for each in instances:
        services.setdefault(each.service, []).append(each)
        if each.node not in known:
            known[each.node] = node(each.node, each.node_address, meta=each.node_meta)
    return Snapshot(
        MappingProxyType({name: Service(name, tuple(members)) for name, members in services.items()}),
        MappingProxyType(known),
        "dc1",
        generation=generation,
    )


def responder(catalog: Snapshot, settings: DnsSettings | None = None, stats: DnsStats | None = None) -> Responder:
    """Return a responder without recursors over a catalog."""
    settings = settings or DnsSettings()
    return Responder(settings, stats or DnsStats(), None, Zone(catalog, settings, SERIAL), Random(1))


def respond(server: Responder, packet: bytes, *, tcp: bool = False) -> bytes | None:
    """Return what a responder without recursors answers a packet, None for silence."""
    sent: list[bytes] = []
    server.respond(packet, server.tcp if tcp else server.udp, sent.append)
    assert len(sent) <= 1
    return sent[0] if sent else None


def ask(server: Responder, name: str, qtype: str = "A", *, edns: int | None = None, tcp: bool = False) -> Seen:
    """Ask a responder a question."""
    reply = respond(server, make_query(name, qtype, edns=edns), tcp=tcp)
    assert reply is not None
    return read_reply(reply)
