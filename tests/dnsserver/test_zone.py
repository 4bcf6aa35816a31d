"""A zone that goes on with the indexes of the one before answers as one that has made its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnsserver.zone import Zone
from lb.catalog.model import Instance, Node, Service, Snapshot
from lb.settings import DnsSettings

NAMES = ("web", "WEB", "db")
ADDRESSES = ("", "10.0.9.1", "10.0.9.2", "fd00::9")

some_instances = st.lists(st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(("passing", "critical"))), max_size=3)
some_catalog = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), some_instances),
    st.dictionaries(st.sampled_from(("n1", "N2")), st.sampled_from(ADDRESSES[1:])),
)


def snapshot(catalog: tuple[dict[str, list[tuple[str, str]]], dict[str, str]], before: Snapshot) -> Snapshot:
    """Services and nodes that are as before are the same objects."""
    services, nodes = {}, {}
    for name, instances in sorted(catalog[0].items()):
        found = (
            Instance(name, f"{name}-{n}", "n1", address, 80, health=health, service_address=address)  # type: ignore[arg-type]
            for n, (address, health) in enumerate(instances)
        )
        service = Service(name, tuple(found))
        services[name] = before.services[name] if before.services.get(name) == service else service
    for name, address in sorted(catalog[1].items()):
        node = Node(name, address, id=f"{address.encode().hex():0<32}"[:32])
        nodes[name] = before.nodes[name] if before.nodes.get(name) == node else node
    return Snapshot(services, nodes, "dc1", before.generation + 1)


@given(st.lists(some_catalog, min_size=2, max_size=6), st.booleans())
def test_a_chain_of_zones_answers_as_a_new_one(
    catalogs: list[tuple[dict[str, list[tuple[str, str]]], dict[str, str]]], asked: bool
) -> None:
    settings = DnsSettings()
    current = Snapshot()
    zone = Zone(current, settings, 1)
    for number, catalog in enumerate(catalogs, 1):
        current = snapshot(catalog, current)
        zone = Zone(current, settings, 1, zone)
        if not asked and number < len(catalogs):
            continue  # indexes that nobody has asked for are not there yet
        fresh = Zone(current, settings, 1)
        ids = [node.id.encode() for node in current.nodes.values()]
        for name in (b"web", b"db", b"other"):
            assert [m.instance for m in zone.service(name)] == [m.instance for m in fresh.service(name)]
        for name in (b"n1", b"n2", b"n3", *ids, *(node_id[:2] for node_id in ids)):
            assert zone.node(name) == fresh.node(name)
        for address in ADDRESSES[1:]:
            assert zone.pointer(address) == fresh.pointer(address)


def test_a_shared_address_is_that_of_the_first_by_node_and_id_without_case() -> None:
    one = Instance("alpha", "B", "N1", "10.0.9.1", 80, service_address="10.0.9.1")
    two = Instance("zulu", "a", "n1", "10.0.9.1", 80, service_address="10.0.9.1")
    nodes = {name: Node(name, "10.0.0.1") for name in ("Nb", "na")}
    services = {"alpha": Service("alpha", (one,)), "zulu": Service("zulu", (two,))}
    for order in (1, -1):
        turned = Snapshot(dict(list(services.items())[::order]), dict(list(nodes.items())[::order]), "dc1", 1)
        zone = Zone(turned, DnsSettings(), 1)
        assert zone.pointer("10.0.9.1") == b"\4zulu\7service\3dc1\6consul\0"
        assert zone.pointer("10.0.0.1") == b"\2na\4node\3dc1\6consul\0"
