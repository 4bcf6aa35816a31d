"""Addresses on the command line, and which of them are free."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Collection

from lb import values
from lb.settings import Address

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM

_ATTEMPTS = 100


def parse_address(text: str) -> Address:
    """Read an address to listen on, `ADDR:PORT`; for argparse, whose error it raises."""
    try:
        return values.address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_host(text: str) -> str:
    """Read an IP address to listen on; for argparse, whose error it raises."""
    try:
        return values.host(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_target(text: str) -> Address:
    """Read a target to call, `NAME:PORT`; for argparse, whose error it raises."""
    name, colon, port = text.rpartition(":")
    if not (colon and name and port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PORT")
    return Address(name, int(port))


def is_free(address: Address, kinds: Collection[socket.SocketKind] = (TCP,)) -> bool:
    """Tell whether the port of the address can be listened on now, for every kind of socket."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    for kind in kinds:
        with socket.socket(family, kind) as sock:
            if kind == TCP:
                # As a server would: connections of an earlier one that linger are no obstacle.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(address)
                if kind == TCP:
                    sock.listen()
            except OSError:
                return False
    return True


def free_port(hosts: Collection[str], kinds: Collection[socket.SocketKind] = (TCP,)) -> int:
    """Return a port that is free on all hosts for every kind of socket; raises OSError when there is none."""
    first = next(iter(hosts))
    family = socket.AF_INET6 if ":" in first else socket.AF_INET
    for _ in range(_ATTEMPTS):
        with socket.socket(family, TCP) as sock:
            sock.bind((first, 0))
            port: int = sock.getsockname()[1]
        if all(is_free(Address(host, port), kinds) for host in hosts):
            return port
    raise OSError(f"no port is free on all of {', '.join(hosts)}")


def choose_port(hosts: Collection[str], preferred: int, kinds: Collection[socket.SocketKind] = (TCP,)) -> int:
    """Return `preferred` if it is free on all hosts, else a port that is."""
    if preferred and all(is_free(Address(host, preferred), kinds) for host in hosts):
        return preferred
    return free_port(hosts, kinds)
