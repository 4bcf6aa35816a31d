"""Question and zone -> answer: Consul's rules for every lookup form, without I/O.

The wanted differences from Consul are these: an unknown node is NXDOMAIN and a node without the asked family
carries the SOA; a CNAME chased inside the domain yields only the asked family; PTR has the TTL of its node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from dnsserver import records
from dnsserver.members import Member, SrvData
from dnsserver.names import (
    AddrName,
    ForeignName,
    MeshName,
    Name,
    NodeName,
    PointerName,
    QueryName,
    ServiceName,
    parse_name,
)
from dnsserver.places import Place, choose_node_address, find_node_place
from dnsserver.records import QUESTION, Answer, Group, Record, packed_address
from dnsserver.remote import NOTHING, AgentAnswer, AgentNeeded, Known, RemoteName, agent_question
from dnsserver.wire import (
    NOTIMP,
    NXDOMAIN,
    SERVFAIL,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_AXFR,
    TYPE_CNAME,
    TYPE_NS,
    TYPE_SOA,
    TYPE_SRV,
    TYPE_TXT,
    fold,
    name_from_text,
    split_name,
    to_bytes,
)
from dnsserver.zone import Zone
from lb.catalog.model import Node

MAX_CHASED = 3
"""How often a CNAME inside the domain is followed for one answer."""

MAX_SERVERS = 3
"""NS records in one answer."""

_ADDRESS_TYPES = frozenset((TYPE_A, TYPE_AAAA))
_CHASED_TYPES = frozenset((TYPE_A, TYPE_AAAA, TYPE_CNAME))
_KEPT_TYPES = frozenset((TYPE_A, TYPE_AAAA, TYPE_SRV, TYPE_ANY))


class Asked(NamedTuple):
    """A question: the wire name as spelled by the client, its labels in lower case, the type."""

    qname: bytes
    labels: tuple[bytes, ...]
    qtype: int


class Scope(NamedTuple):
    """Where instances come from: the TTL of their records, their datacenter, and the nodes that they are on."""

    ttl: int
    datacenter: str
    nodes: Mapping[str, Node]


def answer(asked: Asked, zone: Zone, rng: Random, known: Known = MappingProxyType({})) -> Answer | None:
    """Answer a question from the zone; None if it is not ours and recursors are to be asked.

    `rng` chooses between instances where only one can be given. Before the first catalog, names of the domain
    are SERVFAIL: nothing is known of them, not even that they do not exist. Raises AgentNeeded where the answer
    depends on what an agent has to be asked, and that is not among what is `known`.
    """
    return Lookup(asked, zone, rng, known).run()


def pointer_miss(zone: Zone) -> Answer:
    """The answer for a reverse name that nobody knows."""
    if not zone.known:
        return Answer(SERVFAIL, authoritative=False)
    return Answer(NXDOMAIN, authority=(zone.soa,))


class Lookup:
    """One question to one zone. `hops` is how many CNAMEs may still be followed."""

    __slots__ = (
        "_asked",
        "_chased",
        "_dangling",
        "_dangling_ttl",
        "_drawn",
        "_hops",
        "_known",
        "_ordered",
        "_rng",
        "_scope",
        "_zone",
    )

    def __init__(self, asked: Asked, zone: Zone, rng: Random, known: Known, hops: int = MAX_CHASED) -> None:
        self._asked = asked
        self._zone = zone
        self._rng = rng
        self._known = known
        self._scope = Scope(zone.node_ttl, zone.datacenter, zone.snapshot.nodes)
        self._hops = hops
        self._chased = False
        self._dangling: bytes | None = None
        self._dangling_ttl: int | None = None
        self._drawn = False
        self._ordered = False

    def run(self) -> Answer | None:
        """Answer, or return None for a name that is not ours."""
        asked, zone = self._asked, self._zone
        name = parse_name(asked.labels, asked.qtype, zone.domain)
        match name:
            case ForeignName():
                return None
            case PointerName():
                return self._pointer(name)
        if not zone.known:
            return Answer(SERVFAIL, authoritative=False)
        if asked.qtype == TYPE_SOA:
            return self._soa()
        if asked.qtype == TYPE_NS:
            return Answer(groups=self._name_servers(), drawn=self._drawn)
        if asked.qtype == TYPE_AXFR:
            return Answer(NOTIMP)
        return self._inside(name)

    def _inside(self, name: Name) -> Answer:
        match name:
            case ServiceName():
                return self._service(name)
            case NodeName():
                return self._node(name)
            case MeshName() | QueryName():
                return self._elsewhere(name)
            case AddrName():
                return self._addr(name)
            case _:
                return self._nxdomain()

    def _nxdomain(self) -> Answer:
        return Answer(NXDOMAIN, authority=(self._zone.soa,))

    def _found(self, groups: Sequence[Group], additional: Sequence[Record] = ()) -> Answer:
        """An answer of NOERROR, with the SOA where there is nothing of the asked type (RFC 2308)."""
        authority = () if groups else (self._zone.soa,)
        return Answer(
            groups=groups,
            authority=authority,
            additional=additional,
            dangling=self._dangling,
            dangling_ttl=self._dangling_ttl,
            drawn=self._drawn,
            ordered=self._ordered,
        )

    # --- services

    def _service(self, name: ServiceName) -> Answer:
        zone = self._zone
        if not name.service:
            # `_._tcp.service`: what Consul says too.
            return Answer(SERVFAIL)
        if not zone.serves(name.datacenter):
            return self._elsewhere(name)
        kept = zone.answers.get((name.service, self._asked.qtype))
        if kept is not None and not name.tag:
            return kept
        scope = Scope(zone.service_ttl(name.service), zone.datacenter, zone.snapshot.nodes)
        found = self._of_service(self._healthy(zone.service(name.service), name.tag), scope)
        if found.groups and not self._chased:
            found.service = name.service
            if self._asked.qtype in _KEPT_TYPES and not name.tag:
                zone.answers[name.service, self._asked.qtype] = found
        return found

    def _elsewhere(self, name: ServiceName | MeshName | QueryName) -> Answer:
        """Answer for instances that only an agent knows."""
        found = self._ask(name)
        if found is None:
            return Answer(SERVFAIL, authoritative=False)
        zone = self._zone
        match name:
            case QueryName():
                # The agent has left out what is not healthy, and put what is near first.
                members: Sequence[Member] = _members(found)
                service = fold(found.service)
                self._ordered = True
            case MeshName(service=service):
                members = self._healthy(_members(found))
            case ServiceName(service=service):
                members = self._healthy(_members(found), name.tag)
        ttl = zone.service_ttl(service) if found.ttl is None else found.ttl
        return self._of_service(members, Scope(ttl, found.datacenter, found.nodes))

    def _ask(self, name: RemoteName) -> AgentAnswer | None:
        """Return what an agent knows of a name; None if none can be asked. Raises AgentNeeded."""
        question = agent_question(name, self._zone.datacenter)
        if question is None:
            return NOTHING
        if question not in self._known:
            raise AgentNeeded(question)
        return self._known[question]

    def _healthy(self, members: Sequence[Member], tag: bytes = b"") -> Sequence[Member]:
        """Those that pass, or warn where that is enough, and have the tag if one is asked for."""
        healthy = ("passing",) if self._zone.only_passing else ("passing", "warning")
        found = [member for member in members if member.instance.health in healthy]
        return [member for member in found if any(fold(t) == tag for t in member.instance.tags)] if tag else found

    def _of_service(self, members: Sequence[Member], scope: Scope) -> Answer:
        if not members:
            return self._nxdomain()
        self._scope = scope
        self._dangling_ttl = scope.ttl
        if self._asked.qtype == TYPE_SRV:
            return self._found(self._srv(members))
        return self._found(self._service_addresses(members))

    def _service_addresses(self, members: Sequence[Member]) -> list[Group]:
        """Address records without duplicates; where there are none, one CNAME of those there are."""
        asked, ttl = self._asked, self._scope.ttl
        found: dict[Record, None] = {}
        hosts: list[str] = []
        for member in members:
            place = self._place(member)
            if place is None:
                continue
            if place.packed is None:
                hosts.append(place.text)
                continue
            record = records.address(QUESTION, place.packed, ttl)
            if asked.qtype in (record.type, TYPE_ANY, TYPE_TXT):
                found[record] = None
        if found or not hosts:
            return [Group((record,)) for record in found]
        self._drawn = len(hosts) > 1
        return self._cname(self._rng.choice(hosts))

    def _cname(self, host: str) -> list[Group]:
        try:
            target = name_from_text(host)
        except ValueError:
            return []
        record = records.cname(self._asked.qname, target, self._scope.ttl)
        return [Group((record, *self._chase(target, self._asked.qtype)))]

    def _chase(self, target: bytes, qtype: int) -> list[Record]:
        """CNAME and address records of a name of our domain; one outside is left to the recursors."""
        self._chased = True
        labels = tuple(split_name(target.lower()))
        if labels[-len(self._zone.domain) :] != self._zone.domain:
            self._dangling = target
            return []
        if not self._hops:
            return []
        sought = qtype if qtype in _ADDRESS_TYPES else TYPE_ANY
        lookup = Lookup(Asked(target, labels, sought), self._zone, self._rng, self._known, self._hops - 1)
        found = lookup.run() or Answer()
        self._dangling = found.dangling
        self._drawn |= found.drawn
        wanted = _CHASED_TYPES if qtype not in _ADDRESS_TYPES else frozenset((qtype, TYPE_CNAME))
        chased = [record for group in found.groups for record in group.answers if record.type in wanted]
        chased = [record if record.owner else record._replace(owner=target) for record in chased]
        # As in Consul, a service's TTL holds for all that its name leads to.
        ttl = self._dangling_ttl
        return chased if ttl is None else [record.with_ttl(ttl) for record in chased]

    def _srv(self, members: Sequence[Member]) -> list[Group]:
        found: dict[tuple[str, bytes, int], Group] = {}
        for member in members:
            data = member.srv or self._srv_data(member)
            if data is not None:
                found.setdefault(data.key, data.group)
        return list(found.values())

    def _srv_data(self, member: Member) -> SrvData | None:
        """What SRV replies say of an instance; kept, unless it hangs on the question or on where a host name leads."""
        instance = member.instance
        place = self._place(member)
        if place is None:
            return None
        node_name = self._zone.node_name(instance.node, self._scope.datacenter)
        target = self._srv_target(place, node_name)
        if target is None:
            return None
        weight = instance.weight_warning if instance.health == "warning" else instance.weight
        record = records.srv(QUESTION, target, instance.port, weight, self._scope.ttl)
        additional = self._srv_additional(member, place, target, node_name)
        data = SrvData((instance.node, target, instance.port), Group((record,), additional))
        if place.packed is not None and place is member.place(self._asked.qtype):
            member.srv = data
        return data

    def _srv_target(self, place: Place, node_name: bytes | None) -> bytes | None:
        """The node's name, the address as a name, or the host name; None where DNS cannot carry it."""
        if place.packed is None:
            try:
                return name_from_text(place.text)
            except ValueError:
                return None
        return (place.at_node and node_name) or self._zone.address_name(place.packed, self._scope.datacenter)

    def _srv_additional(
        self, member: Member, place: Place, target: bytes, node_name: bytes | None
    ) -> tuple[Record, ...]:
        if place.packed is not None:
            found = [records.address(target, place.packed, self._scope.ttl)]
        else:
            found = self._chase(target, TYPE_ANY)
            self._dangling = None
        if node_name is not None:
            found += self._meta(node_name, member.node.meta if member.node else member.instance.node_meta)
        return tuple(found)

    def _place(self, member: Member) -> Place | None:
        """Where clients of the asked type reach an instance."""
        place = member.place(self._asked.qtype)
        if place is not None and place.packed is None and self._is_asked(place.text):
            self._chased = True  # under its other names the service is answered otherwise
            return find_node_place(member.instance, member.node, self._asked.qtype)
        return place

    def _is_asked(self, host: str) -> bool:
        """Tell whether a host name is the asked one: a CNAME to itself would help nobody."""
        return fold(host).removesuffix(b".").split(b".") == list(self._asked.labels)

    # --- nodes, addresses, the zone itself

    def _node(self, name: NodeName) -> Answer:
        zone, asked = self._zone, self._asked
        if zone.serves(name.datacenter):
            node = zone.node(name.node)
        else:
            found = self._ask(name)
            if found is None:
                return Answer(SERVFAIL, authoritative=False)
            node = next(iter(found.nodes.values()), None)
        if node is None:
            return self._nxdomain()
        meta = self._meta(asked.qname, node.meta)
        if asked.qtype == TYPE_TXT:
            return self._found([Group(tuple(meta))] if meta else [])
        if asked.qtype not in (TYPE_A, TYPE_AAAA, TYPE_ANY):
            return self._found(())
        groups = self._node_addresses(node)
        if asked.qtype == TYPE_ANY:
            addresses = [record for group in groups for record in group.answers]
            return self._found([Group((*addresses, *meta))] if addresses or meta else [])
        return self._found(groups, additional=meta)

    def _node_addresses(self, node: Node) -> list[Group]:
        text = choose_node_address(node.address, node.tagged_addresses, self._asked.qtype)
        packed = packed_address(text)
        if packed is None:
            return self._cname(text) if text else []
        record = records.address(self._asked.qname, packed, self._scope.ttl)
        return [Group((record,))] if self._asked.qtype in (record.type, TYPE_ANY) else []

    def _meta(self, owner: bytes, meta: Mapping[str, str]) -> list[Record]:
        """TXT records of node meta: `key=value`, or the bare value of an `rfc1035-` key."""
        return [records.txt(owner, _meta_text(key, value), self._scope.ttl) for key, value in meta.items()]

    def _addr(self, name: AddrName) -> Answer:
        """The address that a name spells; as in Consul, digits of another length are an empty answer."""
        if len(name.digits) // 2 not in (4, 16):
            return Answer()
        try:
            packed = bytes.fromhex(name.digits.decode("ascii"))
        except ValueError:
            return self._nxdomain()
        return Answer(groups=[Group((records.address(self._asked.qname.lower(), packed, self._zone.node_ttl),))])

    def _pointer(self, name: PointerName) -> Answer | None:
        target = self._zone.pointer(name.address) if name.address else None
        if target is None:
            return None
        record = records.ptr(self._asked.qname, target, self._zone.node_ttl)
        if self._asked.qtype == TYPE_SOA:
            return Answer(groups=[Group((record,))], authority=(self._zone.soa,))
        return Answer(groups=[Group((record,))])

    def _soa(self) -> Answer:
        servers = self._name_servers()
        return Answer(
            groups=[Group((self._zone.soa,))],
            authority=[record for group in servers for record in group.answers],
            additional=[record for group in servers for record in group.additional],
            drawn=self._drawn,
        )

    def _name_servers(self) -> list[Group]:
        """NS records with their addresses: the healthy nodes of the service `consul`."""
        zone = self._zone
        groups: dict[bytes, Group] = {}
        for member in zone.service(b"consul"):
            instance = member.instance
            target = zone.node_name(instance.node)
            if instance.health == "critical" or target is None:
                continue
            packed = packed_address(instance.address)
            glue = () if packed is None else (records.address(target, packed, zone.node_ttl),)
            groups[target] = Group((records.ns(zone.apex, target, zone.node_ttl),), glue)
        self._drawn = len(groups) > MAX_SERVERS
        return self._rng.sample(list(groups.values()), min(MAX_SERVERS, len(groups)))


def _members(found: AgentAnswer) -> list[Member]:
    """Return the instances that an agent has named, on its nodes."""
    return [Member(instance, found.nodes.get(instance.node)) for instance in found.instances]


@lru_cache(maxsize=1 << 12)
def _meta_text(key: str, value: str) -> bytes:
    return to_bytes(value if key.lower().startswith("rfc1035-") else f"{key}={value}")
