"""One catalog seen as a DNS zone: lookups without case, and the zone's own names. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property, lru_cache
from ipaddress import IPv6Address

from dnsserver.records import Record, packed_address, soa
from dnsserver.wire import MAX_NAME, encode_name, fold, name_from_text, split_name, to_bytes
from lb.catalog.model import Instance, Node, Snapshot
from lb.settings import DnsSettings


class Zone:
    """A snapshot under `settings.domain`.

    `serial` is that of the SOA record. Indexes are made when something first needs them, so that a
    new snapshot costs nothing until it is asked.
    """

    def __init__(self, snapshot: Snapshot, settings: DnsSettings, serial: int) -> None:
        self.snapshot = snapshot
        self.ttl = settings.ttl
        self.only_passing = settings.only_passing
        self.datacenter = settings.datacenter or snapshot.datacenter
        self.apex = name_from_text(settings.domain)
        self.domain = tuple(split_name(self.apex))
        self._datacenter = fold(self.datacenter)
        self._serial = serial
        self._suffixes: dict[bytes, bytes] = {}

    @property
    def known(self) -> bool:
        """Whether a catalog has been learned at all."""
        return self.snapshot.generation > 0

    def serves(self, datacenter: bytes) -> bool:
        """Tell whether a datacenter label, empty if there was none, is ours."""
        return datacenter in (b"", self._datacenter)

    @cached_property
    def soa(self) -> Record:
        """The zone's SOA record."""
        return soa(self.apex, b"\2ns" + self.apex, b"\x0ahostmaster" + self.apex, self._serial)

    def service(self, name: bytes) -> tuple[Instance, ...]:
        """The instances, of any health, of a service named without regard to case."""
        return self._services.get(name, ())

    def node(self, name: bytes) -> Node | None:
        """A node by name, by ID, or by a prefix of even length that only one ID has."""
        return self._nodes.get(name) or self._node_by_id(name)

    def node_of(self, instance: Instance) -> Node | None:
        """The node that an instance is on."""
        return self.snapshot.nodes.get(instance.node)

    def pointer(self, address: str) -> bytes | None:
        """The wire name that an address (canonical text) belongs to: a node's, else a service's."""
        node = self._node_addresses.get(address)
        if node is not None:
            return self.node_name(node)
        service = self._service_addresses.get(address)
        return None if service is None else self._under(b"service", service)

    def node_name(self, node: str) -> bytes | None:
        """The wire name of a node, None if DNS cannot carry it."""
        return self._under(b"node", node)

    def address_name(self, packed: bytes) -> bytes:
        """The wire name `<hex>.addr.<dc>.<domain>` of a packed address."""
        digits = packed.hex().encode()
        return bytes((len(digits),)) + digits + self._suffix(b"addr")

    def _under(self, kind: bytes, name: str) -> bytes | None:
        return _join(name, self._suffix(kind))

    def _suffix(self, kind: bytes) -> bytes:
        suffix = self._suffixes.get(kind)
        if suffix is None:
            suffix = encode_name((kind, *to_bytes(self.datacenter).split(b".")))[:-1] + self.apex
            self._suffixes[kind] = suffix
        return suffix

    @cached_property
    def _services(self) -> Mapping[bytes, tuple[Instance, ...]]:
        index: dict[bytes, tuple[Instance, ...]] = {}
        for service in self.snapshot.services.values():
            name = fold(service.name)
            index[name] = index.get(name, ()) + service.instances
        return index

    @cached_property
    def _nodes(self) -> Mapping[bytes, Node]:
        return {fold(node.name): node for node in self.snapshot.nodes.values()}

    @cached_property
    def _ids(self) -> list[tuple[bytes, str]]:
        return sorted((fold(node.id), name) for name, node in self.snapshot.nodes.items() if node.id)

    def _node_by_id(self, prefix: bytes) -> Node | None:
        digits = prefix.replace(b"-", b"")
        if len(digits) % 2 or digits.strip(b"0123456789abcdef"):
            return None
        at = bisect_left(self._ids, (prefix, ""))
        matches = [name for known, name in self._ids[at : at + 2] if known.startswith(prefix)]
        return self.snapshot.nodes[matches[0]] if len(matches) == 1 else None

    @cached_property
    def _node_addresses(self) -> Mapping[str, str]:
        index: dict[str, str] = {}
        for node in self.snapshot.nodes.values():
            index.setdefault(canonical(node.address), node.name)
        return index

    @cached_property
    def _service_addresses(self) -> Mapping[str, str]:
        index: dict[str, str] = {}
        for instance in self.snapshot.instances():
            if instance.service_address:
                index.setdefault(canonical(instance.service_address), instance.service)
        return index


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
    packed = packed_address(address)
    return address if packed is None else str(IPv6Address(packed))
