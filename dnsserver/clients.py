"""Which clients are answered: those on networks that are not public, and those that are allowed besides. No I/O.

A server that answers everyone is a lever for attacks on others, who get its replies to forged questions (RFC 5358).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from lb.settings import Network

LOCAL_NETWORKS: tuple[Network, ...] = (
    ip_network("127.0.0.0/8"),
    ip_network("10.0.0.0/8"),  # private: RFC 1918 section 3
    ip_network("172.16.0.0/12"),
    ip_network("192.168.0.0/16"),
    ip_network("100.64.0.0/10"),  # behind carrier-grade NAT: RFC 6598 section 7
    ip_network("169.254.0.0/16"),  # link-local: RFC 3927 section 2.1
    ip_network("::1/128"),
    ip_network("fc00::/7"),  # private: RFC 4193 section 3.1
    ip_network("fe80::/10"),  # link-local: RFC 4291 section 2.4
)
"""Networks whose clients are always answered."""

MAX_KNOWN = 4096
"""Addresses of clients that are remembered."""


class Clients:
    """Tells clients that are answered from strangers: `allow` are networks beside the local ones.

    `known` are addresses that were admitted lately: a fast path looks there before it asks `admit`. A stranger
    never gets into it. Once it is full nothing is added until the next `sweep`, so that a flood of forged local
    addresses costs no more than if nothing were remembered.
    """

    def __init__(self, allow: Iterable[Network] = ()) -> None:
        self._networks = (*LOCAL_NETWORKS, *allow)
        self.known: set[str] = set()

    def admit(self, host: str) -> bool:
        """Tell whether a client is answered; `host` is its address as a socket gives it."""
        if host in self.known:
            return True
        if not is_within(host, self._networks):
            return False
        if len(self.known) < MAX_KNOWN:
            self.known.add(host)
        return True

    def sweep(self) -> None:
        """To be called each second: makes room for other clients."""
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()


def is_within(host: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of some networks; IPv6 that maps IPv4 counts as the latter."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in networks)
