"""Hostile DNS packets by the thousand: what real programs send, mutated, and what every reply has to be.

All of it follows from a seed, so that a packet that does harm can be sent again.
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import cast

import dnslib

from dnsserver.foreign import ForeignCache, Found
from dnsserver.forwarder import Deliver, Forwarder
from dnsserver.health import RecursorHealth
from dnsserver.message import Query
from dnsserver.responder import Responder
from dnsserver.stats import DnsStats
from dnsserver.upstream import parse_reply
from dnsserver.wire import NOERROR, NXDOMAIN, FormatError
from dnsserver.zone import Zone
from lb.catalog.model import Snapshot
from lb.settings import DnsSettings
from tests.support.dns import check_wire, make_query
from tests.support.dns_catalog import SERIAL, instance, node, snapshot

NAMES = (
    *("web.service.consul", "v1.web.service.dc1.consul", "_web._tcp.service.consul", "WeB.SeRvIcE.cOnSuL"),
    *("six.service.consul", "outer.service.consul", "chased.service.consul", "nosuch.service.consul"),
    *("n1.node.consul", "big.node.dc1.consul", "0a000001.addr.dc1.consul", "consul", "ns.consul"),
    *("1.0.0.10.in-addr.arpa", "www.example.org", "example.org", "", "a." * 60 + "service.consul"),
)
TYPES = ("A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "OPT", "AXFR", "IXFR", "ANY")
SIZES = (None, None, 0, 511, 512, 513, 700, 1232, 4096, 65535)

WEB = b"\3web\7service\6consul\0"
IN_A = b"\0\1\0\1"


def _packet(body: bytes, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!6H", 4711, flags, *counts) + body


def _with_opt(question: bytes, options: bytes = b"", *, size: int = 1232, ttl: int = 0) -> bytes:
    opt = struct.pack("!BHHIH", 0, 41, size, ttl, len(options))
    return _packet(question + opt + options, counts=(1, 0, 0, 1))


RECORDED = (
    _packet(WEB + IN_A),  # the stub resolver of glibc
    _with_opt(WEB + IN_A, b"\0\x0a\0\x08\xc0\xff\xee\0\xc0\xff\xee\0"),  # dig, with a cookie
    _with_opt(WEB + b"\0\x1c\0\1", size=1472, ttl=0x8000),  # systemd-resolved, which wants DNSSEC
    _with_opt(WEB + IN_A, b"\0\x0c\0\x10" + bytes(16), size=4096),  # padded: RFC 7830
    _with_opt(WEB + IN_A, b"\0\x08\0\x07\0\1\x18\0\x0a\0\0"),  # a client's subnet: RFC 7871
    _with_opt(WEB + IN_A, b"\xfd\xe9\0\4\xde\xad\xbe\xef", ttl=0x10000),  # EDNS version 1, an option of nobody's
    _packet(WEB + IN_A + b"\0\0\x29\4\0\0\0\0\0\0\0" * 2, counts=(1, 0, 0, 2)),  # OPT twice
    _packet(b"\7version\4bind\0\0\x10\0\3"),  # a scanner
    _packet(b"\6consul\0\0\xfc\0\1", 0x0000),  # zone transfer
    _packet(b"\6consul\0\0\6\0\1\xc0\x0c\0\6\0\1" + bytes(28), 0x2400, (1, 1, 0, 0)),  # NOTIFY
    _packet(b"\6consul\0\0\6\0\1" + WEB + IN_A + b"\0\0\0\x3c\0\4\x0a\0\0\1", 0x2800, (1, 0, 1, 0)),  # UPDATE
    _packet(WEB + IN_A + b"\xc0\x0c" + IN_A + b"\0\0\0\x3c\0\4\xc0\0\2\x50", 0x8180, (1, 1, 0, 0)),  # a reply
    _packet(b"\x20CK" + b"A" * 30 + b"\0\0\x21\0\1", 0x0000),  # NetBIOS: what is your name?
    _with_opt(b"\0\0\xff\0\1", size=9000),  # the root's ANY, for a forged client
    _packet(b"\xc0\x0c" + IN_A),  # a name that points at itself,
    _packet(b"\xc0\xff" + IN_A),  # past the end,
    _packet(b"\3web\xc0\0" + IN_A),  # into the header,
    _packet(b"\1a\xc0\x0e\xc0\x0c" + IN_A),  # in a circle
    _packet(b"\x41" + b"a" * 65 + b"\0" + IN_A),  # a label type that is not in use
    _packet(WEB + IN_A, counts=(1, 0xFFFF, 0xFFFF, 0xFFFF)),  # more is promised than there is
    _packet(b""),
    _packet(WEB[:9]),
)
"""Packets as programs, scanners and attackers send them."""

FOREIGN_RECORDS = (
    b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1",
    b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\2",
    b"\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1b\xc0\x0c",
    b"\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(16),
    b"\7example\0\0\x10\0\1\xff\xff\xff\xff\0\5\4text",
)
"""Records as recursors send them, after any question."""

NUMBERS = (0, 1, 2, 11, 12, 41, 63, 64, 127, 128, 191, 192, 255)
WORDS = (0, 1, 12, 41, 255, 256, 511, 512, 513, 1232, 0x7FFF, 0x8000, 0xC00C, 0xC0FF, 0xFFFF)


def hostile_catalog() -> Snapshot:
    """Return a catalog in which answers are as large and as odd as a registration can make them."""
    meta = {f"key{number}": "x" * 200 for number in range(12)}
    instances = [instance("web", number, tags=("v1", "a.b")) for number in range(1, 60)]
    instances += [instance("six", number, node_address=f"2001:db8::{number}") for number in range(1, 30)]
    instances += [instance("outer", 1, service_address="db.example.org")]
    instances += [instance("chased", 1, service_address="outer.service.consul"), instance("x" * 70, 1)]
    return snapshot(instances, [node("big", "10.1.0.1", meta=meta), node("y" * 64, "10.1.0.2")])


class Fuzzer:
    """Makes hostile packets, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)

    def packet(self) -> bytes:
        """Return the next packet: seldom a good query, mostly one that was mutated, or noise."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.02:
            return rng.randbytes(rng.randrange(100))
        packet = rng.choice(RECORDED) if kind < 0.4 else self._query()
        ident = rng.randbytes(2)
        return self.mutated(ident + packet[2:]) if rng.random() < 0.9 else ident + packet[2:]

    def mutated(self, packet: bytes) -> bytes:
        """Return a packet with up to four changes."""
        changed = bytearray(packet)
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            if not changed:
                break
            self._change(changed)
        return bytes(changed)

    def _query(self) -> bytes:
        rng = self.rng
        return make_query(rng.choice(NAMES), rng.choice(TYPES), edns=rng.choice(SIZES), rd=rng.random() < 0.9)

    def _change(self, packet: bytearray) -> None:
        rng = self.rng
        at = rng.randrange(len(packet))
        match rng.randrange(9):
            case 0:
                packet[at] = rng.randrange(256)
            case 1:
                packet[at] ^= 1 << rng.randrange(8)
            case 2:
                packet[at] = rng.choice(NUMBERS)
            case 3:
                packet[at : at + 2] = struct.pack("!H", rng.choice(WORDS))
            case 4:
                del packet[at : at + rng.randint(1, 8)]
            case 5:
                packet[at:at] = rng.randbytes(rng.randint(1, 8))
            case 6:
                packet[at:at] = packet[rng.randrange(len(packet)) :][: rng.randint(1, 64)]
            case 7:
                del packet[at:]
            case 8:
                packet += rng.choice(RECORDED)[rng.randrange(12) :]


class HostileRecursors:
    """In place of a forwarder: answers at once, seldom right, mostly mutated or not at all."""

    def __init__(self, fuzzer: Fuzzer) -> None:
        self._fuzzer = fuzzer
        self.in_flight = 0
        self.cache = ForeignCache(1)
        self.health = RecursorHealth(())

    def serves(self, labels: Sequence[bytes]) -> bool:
        """Whatever is asked."""
        return True

    def ask(self, query: Query, deliver: Deliver) -> None:
        """Deliver what came of the question."""
        rng = self._fuzzer.rng
        count = rng.choice((0, 1, 3, 100))
        records = b"".join(rng.choices(FOREIGN_RECORDS, k=count))
        flags = rng.choice((0x8180, 0x8180, 0x8183, 0x8380))
        reply = struct.pack("!6H", 1, flags, 1, count, 0, 0) + query.question + records
        if rng.random() < 0.7:
            reply = reply[:2] + self._fuzzer.mutated(reply[2:12])[:10].ljust(10, b"\0") + reply[12:]
            reply = reply[: 12 + len(query.question)] + self._fuzzer.mutated(reply[12 + len(query.question) :])
        found = None
        with contextlib.suppress(FormatError):
            found = parse_reply(reply, query.question)
        usable = found is not None and found.rcode in (NOERROR, NXDOMAIN)
        deliver(Found(found, rng.choice((0, 0, 30))) if found is not None and usable else None)


@dataclass
class Tally:
    """What became of the packets."""

    silent: int = 0
    largest: int = 0
    rcodes: Counter[int] = field(default_factory=Counter)


class FuzzRun:
    """A responder over a hostile catalog, with hostile recursors behind it, and the judge of its replies."""

    def __init__(self, seed: int) -> None:
        self.settings = DnsSettings()
        self.stats = DnsStats()
        self.tally = Tally()
        self.fuzzer = Fuzzer(seed)
        self._zone = Zone(hostile_catalog(), self.settings, SERIAL)
        recursors = cast(Forwarder, HostileRecursors(self.fuzzer))
        self._servers = [
            Responder(self.settings, self.stats, forwarder, self._zone, Random(seed)) for forwarder in (None, recursors)
        ]

    def send(self, count: int) -> None:
        """Send so many packets; AssertionError for the first reply that must not be, with its packet."""
        rng = self.fuzzer.rng
        for number in range(count):
            server = rng.choice(self._servers)
            tcp = rng.random() < 0.2
            packet = self.fuzzer.packet()
            sent: list[bytes] = []
            handle = rng.choice((server.respond, server.respond, server.respond, server.slip, server.refuse))
            handle(packet, server.tcp if tcp else server.udp, sent.append)
            try:
                self._judge(packet, sent, tcp)
                if server is self._servers[0] and sent:
                    # What hostile recursors put into records is theirs; all else can be read by anyone.
                    parsed = dnslib.DNSRecord.parse(legible(sent[0]))
                    assert len(parsed.rr) == parsed.header.a, "as many answers as the header says"
            except Exception as error:
                raise AssertionError(f"{handle.__name__} {packet.hex()} -> {[each.hex() for each in sent]}") from error
            if number % 1000 == 999:
                server.sweep()
            if number % 10_000 == 9_999:
                server.apply(self._zone)

    def _judge(self, packet: bytes, sent: list[bytes], tcp: bool) -> None:
        assert not self.stats.faults, f"a bug: {self.stats.faults}"
        assert len(sent) <= 1, "one packet, one reply"
        if not sent:
            self.tally.silent += 1
            return
        reply = sent[0]
        assert len(packet) >= 12, "no reply to a stump"
        assert not packet[2] & 0x80, "no reply to a reply"
        assert reply[:2] == packet[:2], "the ID comes back"
        assert reply[2] & 0x80, "a reply says that it is one"
        assert len(reply) <= (65535 if tcp else allowed_size(packet, len(reply), self.settings.udp_size)), "the size"
        check_wire(reply)
        self.tally.rcodes[reply[3] & 15] += 1
        self.tally.largest = max(self.tally.largest, len(reply))


def allowed_size(packet: bytes, size: int, own: int) -> int:
    """Return what a client allows a reply of `size` octets over UDP; what is sent in any case need not be looked at."""
    if size <= 512:
        return 512
    try:
        additional = dnslib.DNSRecord.parse(legible(packet)).ar
    except dnslib.DNSError:
        return own if b"\0\x29" in packet else 512  # too broken to be sure
    sizes = [record.rclass for record in additional if record.rtype == dnslib.QTYPE.OPT]
    return max(512, min(sizes[-1], own)) if sizes else 512


def legible(message: bytes) -> bytes:
    """Return a message with `x` for what is not ASCII in the name of its question, which dnslib cannot read."""
    readable = bytearray(message)
    pos = 12
    while pos < len(readable) and 0 < (length := readable[pos]) < 64:
        for at in range(pos + 1, min(pos + 1 + length, len(readable))):
            if readable[at] >= 0x80:
                readable[at] = ord("x")
        pos += 1 + length
    return bytes(readable)
