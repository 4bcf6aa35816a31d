"""Asking DNS servers in tests: queries and replies by an independent library, sockets by hand."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import dnslib

Row = tuple[str, str, int, str]
"""A record as a test reads it: owner as spelled, type, TTL, data."""


@dataclass(frozen=True)
class Seen:
    """A reply as a client sees it; `wire` is the whole message."""

    rcode: str
    flags: set[str]
    answer: tuple[Row, ...]
    authority: tuple[Row, ...]
    additional: tuple[Row, ...]
    edns_size: int | None
    wire: bytes

    @property
    def data(self) -> list[str]:
        """The data of the answers, sorted."""
        return sorted(row[3] for row in self.answer)


def make_query(
    name: str, qtype: str = "A", *, ident: int = 4711, edns: int | None = None, rd: bool = True, **flags: int
) -> bytes:
    """Return a query; `edns` is the UDP size to advertise, `flags` more header fields of dnslib."""
    record = dnslib.DNSRecord(
        dnslib.DNSHeader(id=ident, qr=0, rd=int(rd), **flags),
        q=dnslib.DNSQuestion(name, getattr(dnslib.QTYPE, qtype)),
    )
    if edns is not None:
        record.add_ar(dnslib.EDNS0(udp_len=edns))
    return bytes(record.pack())


def read_reply(wire: bytes) -> Seen:
    """Parse a reply; fails for one that is malformed or has octets left over."""
    record = dnslib.DNSRecord.parse(wire)
    header = record.header
    flags = {name for name in ("aa", "tc", "rd", "ra", "ad", "cd") if getattr(header, name)}
    opt = [rr for rr in record.ar if rr.rtype == dnslib.QTYPE.OPT]
    assert header.qr == 1
    assert len(opt) <= 1
    return Seen(
        rcode=dnslib.RCODE.get(header.rcode) or str(header.rcode),
        flags=flags,
        answer=_rows(record.rr),
        authority=_rows(record.auth),
        additional=_rows([rr for rr in record.ar if rr not in opt]),
        edns_size=int(opt[0].rclass) if opt else None,
        wire=wire,
    )


def _rows(records: list[Any]) -> tuple[Row, ...]:
    return tuple((str(rr.rname), str(dnslib.QTYPE.get(rr.rtype)), int(rr.ttl), _data(rr)) for rr in records)


def _data(rr: Any) -> str:
    if rr.rtype == dnslib.QTYPE.AAAA:
        return str(ip_address(bytes(rr.rdata.data)))
    return str(rr.rdata)


def check_wire(message: bytes) -> None:
    """Assert that a message is well formed to its last octet; unlike `read_reply` it takes any octets in names."""
    questions, *counts = struct.unpack_from("!4H", message, 4)
    pos = 12
    for _ in range(questions):
        pos = _check_name(message, pos) + 4
    for _ in range(sum(counts)):
        pos = _check_name(message, pos)
        pos += 10 + struct.unpack_from("!H", message, pos + 8)[0]
        assert pos <= len(message)
    assert pos == len(message)


def _check_name(message: bytes, pos: int) -> int:
    """Follow a name and its pointers; return where it ends in place."""
    end = 0
    total = 0
    while message[pos]:
        if message[pos] >= 0xC0:
            end = end or pos + 2
            target = struct.unpack_from("!H", message, pos)[0] & 0x3FFF
            assert 12 <= target < pos
            pos = target
            continue
        assert message[pos] < 64
        total += 1 + message[pos]
        assert total < 255
        pos += 1 + message[pos]
    return end or pos + 1


def ask_udp(port: int, query: bytes, *, host: str = "127.0.0.1", timeout: float = 5.0) -> bytes:
    """Send one packet and return the reply to it; raises TimeoutError for silence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.send(query)
        return sock.recv(65535)


def ask_tcp(port: int, query: bytes, *, host: str = "127.0.0.1", timeout: float = 5.0) -> bytes:
    """Ask over a TCP connection of its own."""
    with socket.create_connection((host, port), timeout=timeout) as sock:
        sock.sendall(struct.pack("!H", len(query)) + query)
        return read_frame(sock)


def read_frame(sock: socket.socket) -> bytes:
    """Read one length-framed message; b"" at the end of the stream."""
    head = _read_exactly(sock, 2)
    return _read_exactly(sock, struct.unpack("!H", head)[0]) if head else b""


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            assert not data, "the stream ends within a message"
            return b""
        data += more
    return data
