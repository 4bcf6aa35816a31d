"""Listening sockets: one address, one port, UDP and TCP."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import NamedTuple

from lb.errors import ListenError
from lb.settings import Address

BACKLOG = 1024
_PORT_ATTEMPTS = 16


class Pair(NamedTuple):
    """Both sockets of one address, bound and non-blocking; the TCP one listens."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def address(self) -> Address:
        """The address as bound."""
        host, port = self.udp.getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def bind_pair(address: Address, *, reuse_port: bool = False) -> Pair:
    """Bind UDP and TCP to an address; port 0 finds a port that is free for both.

    `reuse_port` lets several processes share the port. Raises ListenError.
    """
    attempts = _PORT_ATTEMPTS if address.port == 0 else 1
    while True:
        attempts -= 1
        try:
            return _bind(address, reuse_port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and attempts:
                continue
            reason = error.strerror or str(error)
            raise ListenError(f"DNS cannot listen on {address}: {reason}") from error


def bind_pairs(addresses: Iterable[Address], *, reuse_port: bool = False) -> list[Pair]:
    """Bind all addresses as `bind_pair` does, or none of them; raises ListenError."""
    with ExitStack() as bound:
        pairs = []
        for address in addresses:
            pair = bind_pair(address, reuse_port=reuse_port)
            bound.callback(pair.close)
            pairs.append(pair)
        bound.pop_all()
        return pairs


def local_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Return those of some addresses that belong to this machine: they can be bound."""
    return frozenset(host for host in hosts if _is_local(host))


def _is_local(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.bind((host, 0))
        return True
    return False


def _bind(address: Address, reuse_port: bool) -> Pair:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    tcp = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without this a closed server could not be followed by another one while old connections fade.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (udp, tcp):
            sock.setblocking(False)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                # `::` is IPv6 alone, so that `0.0.0.0` can be listened on beside it.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        udp.bind((address.host, address.port))
        tcp.bind((address.host, udp.getsockname()[1]))
        tcp.listen(BACKLOG)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return Pair(udp, tcp)
