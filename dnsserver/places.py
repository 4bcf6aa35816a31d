"""Where clients reach an instance: Consul's choice between its own address and its node's. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from dnsserver.records import packed_address
from dnsserver.wire import TYPE_A, TYPE_AAAA
from lb.catalog.model import Instance, Node

LAN_IPV4 = "lan_ipv4"
LAN_IPV6 = "lan_ipv6"

_NO_ADDRESS = ("", 0)
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Place(NamedTuple):
    """An address as text, and packed: None for a host name. `at_node`: the node's name leads there."""

    text: str
    packed: bytes | None
    at_node: bool


def find_place(instance: Instance, node: Node | None, qtype: int) -> Place | None:
    """Return where clients that ask for `qtype` reach an instance; None where they cannot.

    That is the instance's own address or, where it has none at all, its node's.
    """
    default, tagged = instance.service_address, instance.tagged_addresses
    if default or tagged:
        ipv4, ipv6 = tagged.get(LAN_IPV4, _NO_ADDRESS)[0], tagged.get(LAN_IPV6, _NO_ADDRESS)[0]
        own = choose_address(default, ipv4, ipv6, qtype)
        if own:
            return Place(own, packed_address(own), False)
        if default:
            return None
    return find_node_place(instance, node, qtype)


def find_node_place(instance: Instance, node: Node | None, qtype: int) -> Place | None:
    """Return where clients that ask for `qtype` reach the node of an instance; None where they cannot."""
    address = instance.node_address or (node.address if node else "")
    chosen = choose_node_address(address, node.tagged_addresses if node else _NOTHING, qtype)
    return Place(chosen, packed_address(chosen), chosen == address) if chosen else None


def choose_node_address(address: str, tagged: Mapping[str, str], qtype: int) -> str:
    """Return the address of a node for a question, "" if there is none of the asked family."""
    return choose_address(address, tagged.get(LAN_IPV4, ""), tagged.get(LAN_IPV6, ""), qtype)


def choose_address(default: str, ipv4: str, ipv6: str, qtype: int) -> str:
    """Return the address for a question, "" if there is none of the asked family.

    Tagged addresses (`ipv4`, `ipv6`) go first, and IPv6 first of them where any family will do; a host name will
    always do.
    """
    if qtype == TYPE_A:
        return ipv4 or (default if _family(default) != TYPE_AAAA else "")
    if qtype == TYPE_AAAA:
        return ipv6 or (default if _family(default) != TYPE_A else "")
    return ipv6 or ipv4 or default


def _family(address: str) -> int:
    """Return the record type of an address, 0 for a host name."""
    packed = packed_address(address)
    if packed is None:
        return 0
    return TYPE_A if len(packed) == 4 else TYPE_AAAA
