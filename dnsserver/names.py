"""What a name asks for: the lookup forms of Consul's DNS, without I/O.

Labels are bytes in lower case. A name is read from its right end: domain, datacenter, kind,
and what is asked of that kind.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple

from dnsserver.wire import TYPE_SRV

Labels = tuple[bytes, ...]

_KINDS = frozenset((b"service", b"node", b"addr", b"connect", b"ingress", b"query"))


class ServiceName(NamedTuple):
    """`[tag.]<service>.service[.<dc>]` or `_<service>._<tag>[.service][.<dc>]`; empty parts: not given."""

    service: bytes
    tag: bytes
    datacenter: bytes


class NodeName(NamedTuple):
    """`<node>.node[.<dc>]`."""

    node: bytes
    datacenter: bytes


class MeshName(NamedTuple):
    """`<service>.connect[.<dc>]`: the mesh proxies of a service; `.ingress`: the gateways that lead to it.

    As in Consul, labels before the service are not looked at.
    """

    kind: Literal["connect", "ingress"]
    service: bytes
    datacenter: bytes


class QueryName(NamedTuple):
    """`<query>.query[.<dc>]`: a prepared query, by name or ID."""

    query: bytes
    datacenter: bytes


class AddrName(NamedTuple):
    """`<hex>.addr[.<dc>]`."""

    digits: bytes


class PointerName(NamedTuple):
    """A name under `arpa`; `address` is empty where it is not that of a whole address."""

    address: str


class UnknownName(NamedTuple):
    """A name in the domain that asks for nothing we know."""


class ForeignName(NamedTuple):
    """A name outside the domain."""


Name = ServiceName | NodeName | MeshName | QueryName | AddrName | PointerName | UnknownName | ForeignName


def parse_name(labels: Labels, qtype: int, domain: Labels) -> Name:
    """Return what `labels` ask for, `domain` being the labels of our own domain.

    The type matters because `.service` may be left out of an RFC 2782 name that asks for SRV.
    """
    if labels[-len(domain) :] == domain:
        return _parse_inside(labels[: -len(domain)], qtype)
    if labels[-1:] == (b"arpa",):
        return PointerName(_arpa_address(labels))
    return ForeignName()


def _parse_inside(labels: Labels, qtype: int) -> Name:
    for at in range(len(labels) - 1, -1, -1):
        if labels[at] in _KINDS:
            return _parse_kind(labels[at], labels[:at], labels[at + 1 :])
        if qtype == TYPE_SRV and labels[at].startswith(b"_"):
            return _parse_kind(b"service", labels[: at + 1], labels[at + 1 :])
    return UnknownName()


def _parse_kind(kind: bytes, asked: Labels, suffix: Labels) -> Name:
    if kind == b"addr":
        return AddrName(asked[0]) if len(asked) == 1 else UnknownName()
    if not asked or len(suffix) > 1:
        return UnknownName()
    datacenter = suffix[0] if suffix else b""
    if kind == b"service":
        return _parse_service(asked, datacenter)
    if kind == b"node":
        return NodeName(b".".join(asked), datacenter)
    if kind == b"query":
        return QueryName(b".".join(asked), datacenter)
    return MeshName("connect" if kind == b"connect" else "ingress", asked[-1], datacenter)


def _parse_service(asked: Labels, datacenter: bytes) -> ServiceName:
    if len(asked) == 2 and asked[0].startswith(b"_") and asked[1].startswith(b"_"):
        tag = asked[1][1:]
        return ServiceName(asked[0][1:], b"" if tag == b"tcp" else tag, datacenter)
    return ServiceName(asked[-1], b".".join(asked[:-1]), datacenter)


def _arpa_address(labels: Labels) -> str:
    """Return the address whose reverse name this is (RFC 1035 section 3.5, RFC 3596 section 2.5), else ""."""
    digits = labels[-3::-1]
    kind = labels[-2:]
    if kind == (b"in-addr", b"arpa") and len(digits) == 4 and all(map(_is_octet, digits)):
        return str(IPv4Address(bytes(int(part) for part in digits)))
    if kind == (b"ip6", b"arpa") and len(digits) == 32 and all(map(_is_nibble, digits)):
        return str(IPv6Address(bytes.fromhex(b"".join(digits).decode())))
    return ""


def _is_octet(label: bytes) -> bool:
    return label.isdigit() and len(label) <= 3 and int(label) <= 255


def _is_nibble(label: bytes) -> bool:
    return len(label) == 1 and label in b"0123456789abcdef"
