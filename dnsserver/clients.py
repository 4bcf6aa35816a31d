"""Which clients are answered, and how often: no I/O.

A server that answers everyone is a lever for attacks on others, who get its replies to forged questions (RFC 5358).
So only clients on networks that are not public are answered, and those that are allowed besides; and over UDP, where
a sender can be forged, a client may be given no more than so many replies a second.
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
"""Addresses of clients that are remembered, and networks that have an allowance of their own."""

SITE_PREFIX = 56
"""Bits of an IPv6 address that all hosts of a site have in common."""

SHARED_ALLOWANCES = 1024
"""Allowances that all other clients share, each by a hash of its network."""

UNLIMITED = 1 << 62
"""Replies a second that nobody reaches."""


class Allowance:
    """How many more replies over UDP a client, or all of its network, is given this second; below 0: too many."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Clients:
    """Tells clients that are answered from strangers: `allow` are networks beside the local ones.

    `rate` is how many replies a second one client network is given over UDP, 0: any number. A network is an IPv4
    address or an IPv6 /56, which is what a site gets (RFC 6177 section 2).

    `known` are the addresses that were admitted lately, with their allowances: a fast path looks there before it asks
    `admit`. A stranger never gets into it. Once it is full nothing is added until the next `sweep`, so that a flood of
    forged local addresses costs no more than if nothing were remembered.
    """

    def __init__(self, allow: Iterable[Network] = (), rate: int = 0) -> None:
        self._networks = (*LOCAL_NETWORKS, *allow)
        self.rate = rate
        self.known: dict[str, Allowance] = {}
        self._unlimited = Allowance(UNLIMITED)
        self._own: dict[str | int, Allowance] = {}
        self._shared = [Allowance(rate) for _ in range(SHARED_ALLOWANCES if rate else 0)]

    def admit(self, host: str) -> bool:
        """Tell whether a client is answered; `host` is its address as a socket gives it."""
        if host in self.known:
            return True
        if not is_within(host, self._networks):
            return False
        if len(self.known) < MAX_KNOWN:
            self.known[host] = self._own_allowance(host) if self.rate else self._unlimited
        return True

    def allowance(self, host: str) -> Allowance:
        """Return the allowance of any client; strangers, and whom there is no room for, share a fixed number of them.

        So no memory is spent on forged addresses, however many there are.
        """
        known = self.known.get(host)
        if known is not None:
            return known
        return self._shared[hash(client_network(host)) % SHARED_ALLOWANCES] if self.rate else self._unlimited

    def sweep(self) -> None:
        """To be called each second: renews the allowances, and makes room for other clients."""
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
            self._own.clear()
        for allowance in (*self._own.values(), *self._shared):
            allowance.left = self.rate

    def _own_allowance(self, host: str) -> Allowance:
        network = client_network(host)
        allowance = self._own.get(network)
        if allowance is None:
            allowance = self._own[network] = Allowance(self.rate)
        return allowance


def client_network(host: str) -> str | int:
    """Return what clients are limited by: an IPv4 or link-local address as it is, of other IPv6 the /56."""
    if ":" not in host:
        return host
    address = ip_address(host)
    assert isinstance(address, IPv6Address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return host if address.is_link_local else int(address) >> (128 - SITE_PREFIX)


def is_within(host: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of some networks; IPv6 that maps IPv4 counts as the latter."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in networks)
