"""A recursor that follows a script: what it answers over UDP and TCP is up to the test; and servers that ask it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dnslib

from lb.settings import Address, DnsSettings
from tests.support.dns import Seen, ask_udp, make_query, read_frame, read_reply
from tests.support.dns_catalog import instance, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import free_ports

CATALOG = snapshot([instance("web", 1), instance("ext", 1, service_address="db.example.net")])

Script = Callable[[bytes], list[bytes]]
"""Query -> the messages that are sent back, none for silence."""


class Recursor:
    """Answers on one port, UDP and TCP, each by its script; `queries` are those seen, by transport."""

    def __init__(self, udp: Script, tcp: Script | None = None) -> None:
        self.udp = udp
        self.tcp = tcp
        self.queries: list[tuple[str, bytes]] = []
        self.peers: list[tuple[str, int]] = []
        self.address = Address("127.0.0.1", free_ports(1)[0])
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(self.address)
        self._listener = socket.create_server(self.address)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def names(self) -> list[str]:
        """What was asked, in order; a packet that was sent again counts once."""
        return [qname(query) for query in dict.fromkeys(query for _, query in self.queries)]

    def close(self) -> None:
        """End both threads."""
        self._closing.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.address)
        with socket.create_connection(self.address):
            pass
        for thread in self._threads:
            thread.join(timeout=10)
        self.sock.close()
        self._listener.close()

    def _serve_udp(self) -> None:
        while True:
            query, peer = self.sock.recvfrom(4096)
            if self._closing.is_set():
                return
            self.queries.append(("udp", query))
            self.peers.append(peer)
            for reply in self.udp(query):
                self.sock.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._closing.is_set():
                    return
                query = read_frame(connection)
                self.queries.append(("tcp", query))
                for reply in self.tcp(query) if self.tcp else []:
                    connection.sendall(struct.pack("!H", len(reply)) + reply)


@contextlib.contextmanager
def running_recursor(udp: Script, tcp: Script | None = None) -> Iterator[Recursor]:
    """Run a recursor until the end of the `with` block."""
    recursor = Recursor(udp, tcp)
    try:
        yield recursor
    finally:
        recursor.close()


def answer(query: bytes, zone: str = "", *, rcode: str = "NOERROR", authority: str = "", **flags: int) -> bytes:
    """Return a reply to a query with the records of a zone file's text."""
    record = dnslib.DNSRecord.parse(query)
    reply = record.reply(ra=1, aa=0)
    reply.header.rcode = getattr(dnslib.RCODE, rcode)
    for name, value in flags.items():
        setattr(reply.header, name, value)
    reply.add_answer(*dnslib.RR.fromZone(zone))
    reply.add_auth(*dnslib.RR.fromZone(authority))
    return bytes(reply.pack())


def qname(query: bytes) -> str:
    """Return the name that a query asks for, as spelled."""
    labels = []
    pos = 12
    while query[pos]:
        labels.append(query[pos + 1 : pos + 1 + query[pos]].decode())
        pos += 1 + query[pos]
    return ".".join(labels) + "."


def good(address: str = "192.0.2.1", ttl: int = 60) -> Script:
    """Answer every question with one address."""
    return lambda query: [answer(query, f"{qname(query)} {ttl} A {address}")]


def fails(rcode: str) -> Script:
    """Answer every question with an rcode."""
    return lambda query: [answer(query, rcode=rcode)]


def silent(query: bytes) -> list[bytes]:
    """Answer nothing."""
    return []


@contextlib.contextmanager
def forwarding(*recursors: Recursor | Address, timeout: float = 0.3, **more: Any) -> Iterator[RunningDns]:
    """Run a server over `CATALOG` that asks these recursors; `more` are further settings."""
    addresses = tuple(each.address if isinstance(each, Recursor) else each for each in recursors)
    settings = DnsSettings(**{"listen": LOOPBACK, "recursors": addresses, "recursor_timeout": timeout, **more})
    with running_dns(settings, CATALOG) as dns:
        yield dns


def ask(dns: RunningDns, name: str = "www.example.org", qtype: str = "A", **options: Any) -> Seen:
    """Ask a server over UDP."""
    return read_reply(ask_udp(dns.port, make_query(name, qtype, **options)))
