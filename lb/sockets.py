"""Listening sockets: opened once, kept open, and shared by all workers.

Who opens them is not who accepts on them. The keeper holds one socket for each worker and address (SO_REUSEPORT: the
kernel spreads connections over them). A worker that ends takes no socket along: what waits in its queue is accepted
by the next one. Sockets may also be inherited: from the program that this one replaces, or from systemd.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from lb.errors import ListenError
from lb.settings import Address

BACKLOG = 4096
_PORT_ATTEMPTS = 16

_TYPES = {
    "http": socket.SOCK_STREAM,
    "tls": socket.SOCK_STREAM,
    "tcp": socket.SOCK_STREAM,
    "admin": socket.SOCK_STREAM,
    "dns-tcp": socket.SOCK_STREAM,
    "dns-udp": socket.SOCK_DGRAM,
}


class Place(NamedTuple):
    """What listening sockets are for: `kind` is `http`, `tls`, `tcp`, `admin`, `dns-tcp` or `dns-udp`."""

    kind: str
    address: Address

    def __str__(self) -> str:
        return f"{self.kind} {self.address}"


def address_of(sock: socket.socket) -> Address:
    """The address that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def adopt(descriptor: int) -> socket.socket:
    """Make a socket of a descriptor that came from another process, which may go on using it.

    Python takes such a socket for a blocking one, and `dup` would make it so, for every process that has it: another
    worker that is just about to accept would hang there.
    """
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


def listen(place: Place, count: int = 1) -> list[socket.socket]:
    """Bind so many sockets to an address that nobody has, and listen; port 0 is one port for all.

    Raises ListenError; nothing is left open then.
    """
    try:
        with _fresh(place) as first:
            # Alone first: with SO_REUSEPORT a second program of the same user would get a part of the connections.
            first.bind(place.address)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # The others join before this one, which holds the address until then, is closed.
            return join(Place(place.kind, address_of(first)), count)
    except OSError as error:
        raise ListenError(f"{place.address}: {error.strerror or error}") from error


def join(place: Place, count: int) -> list[socket.socket]:
    """Bind so many sockets to an address beside those that are there, and listen. Raises ListenError."""
    with contextlib.ExitStack() as undo:
        socks = [undo.enter_context(_fresh(place)) for _ in range(count)]
        try:
            for sock in socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(place.address)
                if sock.type == socket.SOCK_STREAM:
                    sock.listen(BACKLOG)
        except OSError as error:
            raise ListenError(f"{place.address}: {error.strerror or error}") from error
        undo.pop_all()
        return socks


def _fresh(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.address.host else socket.AF_INET
    sock = socket.socket(family, _TYPES[place.kind])
    sock.setblocking(False)
    if sock.type == socket.SOCK_STREAM:
        # Without this an address could not be had again while old connections fade.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        # `::` is IPv6 alone, so that `0.0.0.0` can be listened on beside it.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


class Inherited:
    """Sockets that another program opened, until somebody asks for their address.

    `socks` come with the kind of place that they were for; an empty kind (systemd's) fits any.
    """

    def __init__(self, socks: Iterable[tuple[str, socket.socket]] = ()) -> None:
        self._socks = list(socks)

    def take(self, place: Place) -> list[socket.socket]:
        """Give out the sockets of a place, to the asker's keeping; port 0 fits any one port of the same kind."""
        for kind, sock in self._socks:
            if _fits(kind, sock, place):
                place = Place(place.kind, address_of(sock))
                break
        taken = [sock for kind, sock in self._socks if _fits(kind, sock, place)]
        self._socks = [(kind, sock) for kind, sock in self._socks if sock not in taken]
        return taken

    def close(self, kinds: Collection[str]) -> list[Address]:
        """Close those of some kinds that nobody asked for; return where they listened."""
        unwanted = [sock for kind, sock in self._socks if kind in kinds]
        self._socks = [(kind, sock) for kind, sock in self._socks if sock not in unwanted]
        addresses = [address_of(sock) for sock in unwanted]
        for sock in unwanted:
            sock.close()
        return addresses


def _fits(kind: str, sock: socket.socket, place: Place) -> bool:
    if kind not in ("", place.kind) or sock.type != _TYPES[place.kind]:
        return False
    host, port = address_of(sock)
    return host == place.address.host and (port == place.address.port or (place.address.port == 0 and kind != ""))


class SharedSockets:
    """The sockets of one place, for a number of workers.

    There is one for each worker, or one for all of them where it was opened without SO_REUSEPORT (systemd's).
    """

    def __init__(self, place: Place, socks: Sequence[socket.socket]) -> None:
        self.place = place
        self.socks = tuple(socks)

    def share(self, number: int, workers: int) -> tuple[socket.socket, ...]:
        """The sockets on which worker `number` of so many accepts: together they leave none out."""
        if len(self.socks) < workers:
            return self.socks
        return self.socks[number::workers]

    def close(self) -> None:
        """Close them; connections that wait there are lost unless another process has the sockets, too."""
        for sock in self.socks:
            sock.close()


def open_place(place: Place, workers: int, inherited: Inherited) -> SharedSockets:
    """Open, or take over, the sockets of a place for so many workers. Raises ListenError."""
    socks = inherited.take(place)
    if not socks:
        socks = listen(place, workers)
    elif len(socks) < workers and all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in socks):
        # More workers than before: their sockets join those that are there.
        socks += join(Place(place.kind, address_of(socks[0])), workers - len(socks))
    return SharedSockets(Place(place.kind, address_of(socks[0])), socks)


def open_pair(address: Address, workers: int, inherited: Inherited) -> tuple[SharedSockets, SharedSockets]:
    """Open UDP and TCP for DNS on one address; port 0 finds a port that is free for both. Raises ListenError."""
    for attempt in range(_PORT_ATTEMPTS):
        udp = open_place(Place("dns-udp", address), workers, inherited)
        try:
            return udp, open_place(Place("dns-tcp", udp.place.address), workers, inherited)
        except ListenError:
            udp.close()
            if address.port or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
