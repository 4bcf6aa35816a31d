"""Replies that are kept over a change of the catalog: what is answered is what a new server would answer."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from dnsserver.responder import Responder
from dnsserver.stats import DnsStats
from dnsserver.zone import Zone
from lb.catalog.model import Instance, Node, Service, Snapshot
from lb.settings import DnsSettings
from tests.support.dns import make_query, read_reply
from tests.support.dns_catalog import SERIAL, instance, node, respond, snapshot

SETTINGS = DnsSettings()
NAMES = ("web", "Web", "db", "tagged.db", "alias", "gone", "_db._tagged", "_web._tcp")
QUESTIONS = [
    *(make_query(f"{name}.service.consul", qtype, edns=4096) for name in NAMES for qtype in ("A", "SRV", "ANY")),
    *(
        make_query(name, qtype)
        for name in ("n1.node.consul", "consul", "1.0.0.10.in-addr.arpa")
        for qtype in ("A", "PTR")
    ),
]


def build_services(random: Random) -> Iterator[Instance]:
    """Some instances of some services; `alias` has a host name that leads to `web`."""
    for service in ("web", "WEB", "db"):
        for number in random.sample(range(1, 5), random.randrange(3)):
            tags = random.choice([(), ("tagged",)])
            yield instance(service, number, tags=tags, health=random.choice(["passing", "critical"]))
    if random.random() < 0.5:
        yield instance("alias", 1, service_address="web.service.consul")


def next_snapshot(random: Random, before: Snapshot) -> Snapshot:
    """Return a snapshot that shares with the one before what did not change, as those of the store do."""
    nodes: list[Node] = [node(f"n{n}", f"10.0.0.{n}") for n in range(1, 5)]
    if random.random() < 0.2:
        nodes[0] = node("n1", "10.0.0.1", meta={"changed": str(random.random())})
    fresh = snapshot(build_services(random), nodes, before.generation + 1)
    kept: dict[str, Service] = {
        name: before.services[name] if before.services.get(name) == service else service
        for name, service in fresh.services.items()
    }
    return Snapshot(kept, fresh.nodes, "dc1", generation=fresh.generation)


def replies(server: Responder, question: bytes) -> list[object]:
    """What is said, whatever its order and however old the SOA is."""
    reply = respond(server, question)
    assert reply is not None
    seen = read_reply(reply)
    return [seen.rcode, sorted(seen.answer), sorted(seen.additional), [record[:2] for record in seen.authority]]


@pytest.mark.parametrize("seed", range(8))
def test_after_each_change_the_answers_are_those_of_a_new_server(seed: int) -> None:
    random = Random(seed)
    catalog = snapshot([])
    zone = Zone(catalog, SETTINGS, SERIAL)
    server = Responder(SETTINGS, DnsStats(), None, zone, Random(1))
    for _ in range(30):
        catalog = next_snapshot(random, catalog)
        zone = Zone(catalog, SETTINGS, SERIAL, zone)
        server.apply(zone)
        anew = Responder(SETTINGS, DnsStats(), None, Zone(catalog, SETTINGS, SERIAL), Random(1))
        for question in QUESTIONS:
            assert replies(server, question) == replies(anew, question)


def test_a_change_of_one_service_keeps_the_replies_of_the_others() -> None:
    stats = DnsStats()
    before = snapshot([instance("web", 1), instance("db", 1)])
    zone = Zone(before, SETTINGS, SERIAL)
    server = Responder(SETTINGS, stats, None, zone, Random(1))
    web, db = (make_query(f"{name}.service.consul") for name in ("web", "db"))
    for question in (web, db):
        respond(server, question)
    changed = snapshot([instance("db", 2)], before.nodes.values(), 2).services["db"]
    after = Snapshot({**before.services, "db": changed}, before.nodes, "dc1", generation=2)
    server.apply(Zone(after, SETTINGS, SERIAL, zone))
    made = stats.built.total()
    respond(server, web)
    assert stats.built.total() == made
    respond(server, db)
    assert stats.built.total() == made + 1


NAMES_OF_ITSELF = (
    "web.service.consul",
    "tagged.web.service.consul",
    "_web._tcp.service.consul",
    "web.service.dc1.consul",
)


@pytest.mark.parametrize("qtype", ["A", "SRV", "ANY"])
def test_what_is_answered_does_not_hang_on_what_was_asked_before(qtype: str) -> None:
    """A service whose address is its own name is answered otherwise under that name than under the others."""
    itself = instance("web", 1, tags=("tagged",), service_address="web.service.consul")
    zone = Zone(snapshot([itself]), SETTINGS, SERIAL)
    server = Responder(SETTINGS, DnsStats(), None, zone, Random(1))
    for name in NAMES_OF_ITSELF:
        question = make_query(name, qtype, edns=4096)
        anew = Responder(SETTINGS, DnsStats(), None, Zone(zone.snapshot, SETTINGS, SERIAL), Random(1))
        assert replies(server, question) == replies(anew, question), name
