"""Packets that are not plain queries: the rcode, the header, or the silence that each gets."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dnsserver.stats import DnsStats
from lb.settings import DnsSettings
from tests.support.dns import check_wire, make_query, read_reply
from tests.support.dns_catalog import ask, instance, respond, responder, snapshot

CATALOG = snapshot(
    [instance("web", number, node_meta={"rack": "r" * 40}) for number in range(1, 40)]
    + [instance("outer", 1, service_address="db.example.net"), instance("consul", 1)]
)
STATS = DnsStats()
SERVER = responder(CATALOG, stats=STATS)
QUERY = make_query("web.service.consul", "SRV")
QUESTION = QUERY[12:]
TYPES = ("A", "AAAA", "SRV", "ANY", "TXT", "NS", "SOA", "PTR", "AXFR")


def header(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!6H", 7, flags, *counts)


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def with_opt(options: bytes = b"", *, version: int = 0, length: int | None = None, size: int = 1232) -> bytes:
    opt = struct.pack("!BHHIH", 0, 41, size, version << 16, len(options) if length is None else length)
    return header(counts=(1, 0, 0, 1)) + QUESTION + opt + options


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, header(0x8100) + QUESTION], ids=["empty", "stump", "reply"])
def test_silence(packet: bytes) -> None:
    assert respond(SERVER, packet) is None


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (header(), "REFUSED"),
        (header(counts=(0, 0, 0, 0)) + QUESTION, "FORMERR"),
        (header(counts=(2, 0, 0, 0)) + QUESTION * 2, "FORMERR"),
        (header(counts=(1, 2, 0, 0)) + QUESTION, "FORMERR"),
        (header(counts=(1, 0, 2, 0)) + QUESTION, "FORMERR"),
        (header(counts=(1, 0, 0, 3)) + QUESTION, "FORMERR"),
        (header() + QUESTION[:-1], "FORMERR"),
        (header() + QUESTION[:5], "FORMERR"),
        (header() + b"\x40" + QUESTION, "FORMERR"),
        (header() + b"\xc0\x0c\0\1\0\1", "FORMERR"),
        (header() + b"\x3f" + b"x" * 63 + (b"\x3f" + b"x" * 63) * 3 + b"\0\0\1\0\1", "FORMERR"),
        (header(0x1100) + QUESTION, "NOTIMP"),
        (header(0x2900) + QUESTION, "NOTIMP"),
    ],
)
def test_bare_header(packet: bytes, rcode: str) -> None:
    reply = respond(SERVER, packet)
    assert reply is not None
    assert len(reply) == 12
    seen = read_reply(reply)
    assert (reply[:2], seen.rcode, seen.flags) == (packet[:2], rcode, {"rd"})


@pytest.mark.parametrize(
    ("packet", "rcode", "edns"),
    [
        (header() + QUESTION[:-1] + b"\3", "REFUSED", None),
        (header() + QUESTION[:-2] + b"\0\xff", "REFUSED", None),
        (with_opt(version=1), "16", 1232),
        (with_opt(length=4), "FORMERR", None),
        (with_opt(b"\0\x08\0"), "FORMERR", None),
        (with_opt(option(8, b"\0\3\x18\0\x0a\0\0")), "FORMERR", None),
        (with_opt(option(8, b"\0\1\x21\0\x0a\0\0\1\1")), "FORMERR", None),
        (with_opt(option(8, b"\0\1")), "FORMERR", None),
        (header() + QUESTION + b"trailing", "NOERROR", None),
        (header(counts=(1, 0, 0, 1)) + QUESTION, "NOERROR", None),
        (with_opt(option(10, b"cookie!!")), "NOERROR", 1232),
        (header(0x2100) + QUESTION, "NOERROR", None),
    ],
)
def test_question_is_echoed(packet: bytes, rcode: str, edns: int | None) -> None:
    reply = respond(SERVER, packet)
    assert reply is not None
    record = dnslib.DNSRecord.parse(reply)
    extended = sum(rr.ttl >> 24 << 4 for rr in record.ar if rr.rtype == dnslib.QTYPE.OPT)
    code = record.header.rcode | extended
    assert (dnslib.RCODE.get(code) or str(code)) in (rcode, "BADVERS" if rcode == "16" else rcode)
    assert read_reply(reply).edns_size == edns
    assert reply[12 : 12 + len(QUESTION)] == packet[12 : 12 + len(QUESTION)]


def test_client_subnet_is_echoed_masked_and_with_scope_0() -> None:
    reply = respond(SERVER, with_opt(option(8, b"\0\1\x14\x10\x0a\x01\xff")))
    assert reply is not None
    assert reply.endswith(option(8, b"\0\1\x14\0\x0a\x01\xf0"))


def test_zone_transfer_is_not_implemented() -> None:
    seen = ask(SERVER, "consul", "AXFR", tcp=True)
    assert (seen.rcode, seen.flags) == ("NOTIMP", {"aa", "rd"})


def test_rd_and_cd_come_back_and_ad_does_not() -> None:
    reply = respond(SERVER, header(0x0130) + QUESTION)
    assert reply is not None
    assert read_reply(reply).flags == {"aa", "rd", "cd", "tc"}
    plain = respond(SERVER, header(0x0000) + make_query("consul")[12:])
    assert plain is not None
    assert read_reply(plain).flags == {"aa"}


def allowed(packet: bytes) -> int:
    """What a client allows over UDP: 512, or what any OPT record in the packet may say, up to our own size."""
    return 512 if b"\0\x29" not in packet else DnsSettings().udp_size


@st.composite
def mutated_queries(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(["web.service.consul", "outer.service.consul", "n1.node.consul", "consul", "x.org"]))
    packet = bytearray(
        make_query(name, draw(st.sampled_from(TYPES)), edns=draw(st.sampled_from([None, 0, 512, 700, 65535])))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(packet) - 1))
        match draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                packet[at] = draw(st.integers(0, 255))
            case "cut":
                del packet[at : at + draw(st.integers(1, 8))]
            case "insert":
                packet[at:at] = draw(st.binary(max_size=8))
        if not packet:
            break
    return bytes(packet)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(mutated_queries(), st.binary(max_size=100)), st.booleans())
@example(QUERY, False)
@example(with_opt(size=65535), False)
def test_whatever_comes_gets_a_legal_reply_or_silence(packet: bytes, tcp: bool) -> None:
    reply = respond(SERVER, packet, tcp=tcp)
    assert not STATS.faults
    if reply is None:
        assert len(packet) < 12 or packet[2] & 0x80
        return
    assert reply[:2] == packet[:2]
    assert reply[2] & 0x80
    assert len(reply) <= (65535 if tcp else allowed(packet))
    check_wire(reply)
