"""Which addresses are this machine's own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress


def local_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Return those of some addresses that belong to this machine: they can be bound."""
    return frozenset(host for host in hosts if _is_local(host))


def _is_local(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.bind((host, 0))
        return True
    return False
