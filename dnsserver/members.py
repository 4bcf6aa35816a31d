"""Instances as DNS sees them: what replies say of each is found out once, and kept for as long as it holds. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from dnsserver.places import Place, find_place
from dnsserver.records import Group
from dnsserver.wire import TYPE_A, TYPE_AAAA, TYPE_ANY
from lb.catalog.model import Instance, Node


class SrvData(NamedTuple):
    """What SRV replies say of an instance. Groups with the same `key` are the same to clients."""

    key: tuple[str, bytes, int]
    group: Group


class Member:
    """An instance and its node, None where the catalog has none. `srv` is kept here by who has made it."""

    __slots__ = ("_any", "_ipv4", "_ipv6", "instance", "node", "srv")

    def __init__(self, instance: Instance, node: Node | None) -> None:
        self.instance = instance
        self.node = node
        self.srv: SrvData | None = None
        # Each is empty until it is asked for, and then holds the one place, or None.
        self._ipv4: tuple[Place | None, ...] = ()
        self._ipv6: tuple[Place | None, ...] = ()
        self._any: tuple[Place | None, ...] = ()

    def place(self, qtype: int) -> Place | None:
        """Return where clients that ask for `qtype` reach the instance; None where they cannot."""
        if qtype == TYPE_A:
            if not self._ipv4:
                self._ipv4 = (find_place(self.instance, self.node, TYPE_A),)
            return self._ipv4[0]
        if qtype == TYPE_AAAA:
            if not self._ipv6:
                self._ipv6 = (find_place(self.instance, self.node, TYPE_AAAA),)
            return self._ipv6[0]
        if not self._any:
            self._any = (find_place(self.instance, self.node, TYPE_ANY),)
        return self._any[0]
