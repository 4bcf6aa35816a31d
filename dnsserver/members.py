"""Instances as DNS sees them: what SRV replies say of each is found out once, and kept while it holds. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from dnsserver.places import Place, find_place
from dnsserver.records import Group
from lb.catalog.model import Instance, Node


class SrvData(NamedTuple):
    """What SRV replies say of an instance. Groups with the same `key` are the same to clients."""

    key: tuple[str, bytes, int]
    group: Group


class Member:
    """An instance and its node, None where the catalog has none. `srv` is kept here by who has made it."""

    __slots__ = ("instance", "node", "srv")

    def __init__(self, instance: Instance, node: Node | None) -> None:
        self.instance = instance
        self.node = node
        self.srv: SrvData | None = None

    def place(self, qtype: int) -> Place | None:
        """Return where clients that ask for `qtype` reach the instance; None where they cannot."""
        return find_place(self.instance, self.node, qtype)
