"""One catalog seen as a DNS zone: lookups without case, and the zone's own names. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from ipaddress import IPv6Address

from dnsserver.members import Member
from dnsserver.records import Answer, Record, soa
from dnsserver.wire import MAX_NAME, encode_name, fold, name_from_text, split_name, to_bytes
from lb.catalog.model import Instance, Node, Service, Snapshot
from lb.settings import DnsSettings


class Zone:
    """A snapshot under `settings.domain`.

    `serial` is that of the SOA record. `answers` are those for all instances of a service, by its name and the type of
    the question: whoever finds one that hangs on its service alone may put it there. Indexes are made when something
    first needs them, and those of the zone `before` are kept as far as they hold: so a new snapshot costs little.
    """

    def __init__(self, snapshot: Snapshot, settings: DnsSettings, serial: int, before: Zone | None = None) -> None:
        self.snapshot = snapshot
        self.node_ttl = settings.ttl if settings.node_ttl is None else settings.node_ttl
        self.only_passing = settings.only_passing
        self.datacenter = settings.datacenter or snapshot.datacenter
        self.apex = name_from_text(settings.domain)
        self.domain = tuple(split_name(self.apex))
        self._ttl = settings.ttl
        self._ttls = {fold(name): ttl for name, ttl in settings.service_ttls}
        self._datacenter = fold(self.datacenter)
        self._serial = serial
        self._suffixes: dict[tuple[bytes, str], bytes] = {}
        self._members: dict[bytes, tuple[Member, ...]] = {}
        self.answers: dict[tuple[bytes, int], Answer] = {}
        self._services = _Services(snapshot.services)
        self._owners = _Owners()
        self._nodes = _Nodes(snapshot.nodes)
        if before is not None:
            self._keep(before)

    def _keep(self, before: Zone) -> None:
        """Go on with the indexes of another zone that are the same for this one."""
        old, new = before.snapshot, self.snapshot
        if old.nodes == new.nodes:
            self._nodes = before._nodes
        gone = self.changed_since(before)
        if gone is not None:
            self._members = {name: members for name, members in before._members.items() if name not in gone}
            self.answers = {key: found for key, found in before.answers.items() if found.service not in gone}
        if old.services.keys() != new.services.keys():
            return
        self._services = before._services
        changed = [service for name, service in new.services.items() if old.services[name] is not service]
        if all(_owned(service) == _owned(old.services[service.name]) for service in changed):
            self._owners = before._owners

    def changed_since(self, before: Zone) -> frozenset[bytes] | None:
        """Return the names, in lower case, of the services that are not what they were; None if nodes changed, too.

        Both zones have the same settings.
        """
        if self._nodes is not before._nodes or self.datacenter != before.datacenter or not before.known:
            return None
        old, new = before.snapshot.services, self.snapshot.services
        changed = [name for name, service in new.items() if old.get(name) is not service]
        changed += old.keys() - new.keys()
        return frozenset(map(fold, changed))

    @property
    def known(self) -> bool:
        """Whether a catalog has been learned at all."""
        return self.snapshot.generation > 0

    def serves(self, datacenter: bytes) -> bool:
        """Tell whether a datacenter label, empty if there was none, is ours."""
        return datacenter in (b"", self._datacenter)

    def service_ttl(self, name: bytes) -> int:
        """The TTL (seconds) of a service's records: its own, else that of the longest `prefix*`, else the default."""
        ttls = self._ttls
        if not ttls:
            return self._ttl
        patterns = (name, *(name[:end] + b"*" for end in range(len(name), -1, -1)))
        return next((ttls[pattern] for pattern in patterns if pattern in ttls), self._ttl)

    @cached_property
    def soa(self) -> Record:
        """The zone's SOA record."""
        return soa(self.apex, b"\2ns" + self.apex, b"\x0ahostmaster" + self.apex, self._serial)

    def service(self, name: bytes) -> tuple[Member, ...]:
        """The instances, of any health, of a service named without regard to case."""
        members = self._members.get(name)
        if members is None:
            services, nodes = self.snapshot.services, self.snapshot.nodes
            members = tuple(
                Member(instance, nodes.get(instance.node))
                for service in self._services.by_name.get(name, ())
                for instance in services[service].instances
            )
            if members:
                self._members[name] = members
        return members

    def node(self, name: bytes) -> Node | None:
        """A node by name, by ID, or by a prefix that only one ID has; as in Consul, an odd digit does not count."""
        return self._nodes.by_name.get(name) or self._nodes.by_id(name)

    def pointer(self, address: str) -> bytes | None:
        """The wire name that an address (canonical text) belongs to: a node's, else a service's."""
        node = self._nodes.by_address.get(address)
        if node is not None:
            return self.node_name(node)
        service = self._owners.find(address, self.snapshot.services)
        return None if service is None else self._under(b"service", service)

    def node_name(self, node: str, datacenter: str = "") -> bytes | None:
        """The wire name of a node, of our datacenter unless it is another; None if DNS cannot carry it."""
        return self._under(b"node", node, datacenter)

    def address_name(self, packed: bytes, datacenter: str = "") -> bytes:
        """The wire name `<hex>.addr.<dc>.<domain>` of a packed address."""
        digits = packed.hex().encode()
        return bytes((len(digits),)) + digits + self._suffix(b"addr", datacenter)

    def _under(self, kind: bytes, name: str, datacenter: str = "") -> bytes | None:
        return _join(name, self._suffix(kind, datacenter))

    def _suffix(self, kind: bytes, datacenter: str = "") -> bytes:
        key = (kind, datacenter or self.datacenter)
        suffix = self._suffixes.get(key)
        if suffix is None:
            suffix = encode_name((kind, *to_bytes(key[1]).split(b".")))[:-1] + self.apex
            self._suffixes[key] = suffix
        return suffix


class _Services:
    """Services by name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    @cached_property
    def by_name(self) -> Mapping[bytes, tuple[str, ...]]:
        """The names of services by what they are without regard to case."""
        index: dict[bytes, tuple[str, ...]] = {}
        for name in self._names:
            folded = fold(name)
            index[folded] = (*index.get(folded, ()), name)
        return index


class _Owners:
    """Services by addresses of their own."""

    def __init__(self) -> None:
        self._by_address: dict[str, Instance] = {}
        self._made = False

    def find(self, address: str, services: Mapping[str, Service]) -> str | None:
        """The service that has an address (canonical text); what services own is the same at each call.

        Of several, it is that of the first instance by node and ID without case: the order of Consul's catalog.
        """
        if not self._made:
            self._made = True
            for service in services.values():
                for instance in _with_addresses(service):
                    self._add(instance)
        owner = self._by_address.get(address)
        return None if owner is None else owner.service

    def _add(self, instance: Instance) -> None:
        address = canonical(instance.service_address)
        other = self._by_address.setdefault(address, instance)
        if other is not instance and _place(instance) < _place(other):
            self._by_address[address] = instance


class _Nodes:
    """Nodes by name, address and ID."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    @cached_property
    def by_name(self) -> Mapping[bytes, Node]:
        """Nodes by their names without regard to case."""
        return {fold(node.name): node for node in self._nodes.values()}

    @cached_property
    def by_address(self) -> Mapping[str, str]:
        """The name of the first node, by name without case, that has an address (canonical text)."""
        index: dict[str, str] = {}
        for node in sorted(self._nodes.values(), key=lambda node: node.name.lower()):
            index.setdefault(canonical(node.address), node.name)
        return index

    @cached_property
    def _ids(self) -> list[tuple[bytes, str]]:
        return sorted((fold(node.id), name) for name, node in self._nodes.items() if node.id)

    def by_id(self, prefix: bytes) -> Node | None:
        """The node whose ID, and no other's, begins so; an odd digit does not count."""
        prefix = prefix[: len(prefix) // 2 * 2]
        digits = prefix.replace(b"-", b"")
        if not digits or len(digits) % 2 or digits.strip(b"0123456789abcdef"):
            return None
        at = bisect_left(self._ids, (prefix, ""))
        matches = [name for known, name in self._ids[at : at + 2] if known.startswith(prefix)]
        return self._nodes[matches[0]] if len(matches) == 1 else None


def _with_addresses(service: Service) -> list[Instance]:
    """Return the instances that have an address of their own."""
    return [instance for instance in service.instances if instance.service_address]


def _owned(service: Service) -> list[tuple[tuple[str, str], str]]:
    """Return what the owners of addresses depend on."""
    return [(_place(instance), instance.service_address) for instance in _with_addresses(service)]


def _place(instance: Instance) -> tuple[str, str]:
    """Return where an instance stands in Consul's catalog."""
    return instance.node.lower(), instance.id.lower()


@lru_cache(maxsize=1 << 16)
def _join(name: str, suffix: bytes) -> bytes | None:
    """Return the wire name of `name` under a wire name, None if DNS cannot carry it."""
    try:
        whole = encode_name(to_bytes(name).split(b"."))[:-1] + suffix
    except ValueError:
        return None
    return whole if len(whole) <= MAX_NAME else None


def canonical(address: str) -> str:
    """Return an address in its one canonical spelling; what is no IPv6 literal is returned as it is."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Address(address))
    except ValueError:
        return address
