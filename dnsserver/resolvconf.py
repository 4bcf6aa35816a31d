"""Recursors from the text of `/etc/resolv.conf` (resolv.conf(5)), without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from lb.settings import Address

PORT = 53
_ANY = frozenset(("0.0.0.0", "::"))


def parse_resolv_conf(text: str) -> tuple[Address, ...]:
    """Return the name servers in their order, without repeats.

    Lines that do not hold an address are passed over, as resolvers do; so are addresses with a zone
    (`fe80::1%eth0`), which mean nothing without their interface.
    """
    found: dict[Address, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver" or "%" in words[1]:
            continue
        try:
            host = str(ip_address(words[1]))
        except ValueError:
            continue
        found[Address(host, PORT)] = None
    return tuple(found)


def without_own(
    recursors: Iterable[Address], listening: Iterable[Address], own_hosts: Iterable[str] = ()
) -> tuple[Address, ...]:
    """Return the recursors that are not ourselves: asking one of those would go round in circles.

    A listener on all addresses is every loopback address, and every one of `own_hosts`.
    """
    listening = tuple(listening)
    own = frozenset(own_hosts)
    return tuple(recursor for recursor in recursors if not any(_is_same(recursor, here, own) for here in listening))


def _is_same(recursor: Address, here: Address, own: frozenset[str]) -> bool:
    if recursor.port != here.port:
        return False
    if here.host not in _ANY:
        return recursor.host == here.host
    if (":" in recursor.host) != (":" in here.host):
        return False
    return recursor.host in own or recursor.host in _ANY or ip_address(recursor.host).is_loopback
