"""PROXY headers: as HAProxy sends them, to the letter of the specification, and broken; whole and in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.errors import WireError
from lb.wire.proxyprotocol import Address, ProxyHeader, crc32c, parse_proxy_header, write_v1, write_v2
from tests.lb.http1.reading import deliveries

LIMIT = 1024
PAYLOAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def read_pieces(pieces: Sequence[bytes], limit: int = LIMIT) -> ProxyHeader | WireError | None:
    """Read a header as a session does: from a buffer that grows, until there is a result."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        before = bytes(buffer)
        try:
            found = parse_proxy_header(buffer, limit=limit)
        except WireError as error:
            return error
        assert buffer == before, "the octets were changed"
        if found is not None:
            return found
    return None


def accepted(header: bytes) -> tuple[int, Address | None, Address | None]:
    """What a header says: the same however it is delivered, and whatever follows it."""
    found = set()
    for pieces in (*deliveries(header), [header + PAYLOAD], [header[:9], header[9:] + PAYLOAD]):
        result = read_pieces(pieces)
        assert isinstance(result, ProxyHeader)
        assert result.size == len(header)
        found.add(result[:3])
    assert len(found) == 1
    return found.pop()


def refusal(header: bytes, limit: int = LIMIT) -> tuple[str, str]:
    """Why octets are refused: the same however they are delivered, and whatever follows them."""
    found = set()
    for pieces in (*deliveries(header), [header + PAYLOAD]):
        error = read_pieces(pieces, limit)
        assert isinstance(error, WireError)
        found.add((error.kind, error.reason))
    assert len(found) == 1
    return found.pop()


def v2(command: int, family: int, block: bytes, size: int | None = None) -> bytes:
    """A header of version 2; `command` with its version, `family` with its transport protocol."""
    return SIGNATURE + bytes((command, family)) + (len(block) if size is None else size).to_bytes(2) + block


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2) + value


PROXY, LOCAL = 0x21, 0x20
TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DATAGRAM = 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
ENDS4 = bytes((10, 0, 0, 1, 10, 0, 0, 2)) + b"\x30\x39\x01\xbb"
ENDS6 = IPv6Address("2001:db8::1").packed + IPv6Address("::2").packed + b"\x30\x39\x01\xbb"
SAID4 = (2, ("10.0.0.1", 12345), ("10.0.0.2", 443))
SAID6 = (2, ("2001:db8::1", 12345), ("::2", 443))
NOTHING1, NOTHING2 = (1, None, None), (2, None, None)


# As HAProxy 2.6 sends them


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            b"PROXY TCP4 127.0.0.1 127.0.0.1 56160 28412\r\n",
            (1, ("127.0.0.1", 56160), ("127.0.0.1", 28412)),
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 45836 28416\r\n",
            (1, ("2001:db8::1", 45836), ("::ffff:127.0.0.1", 28416)),
        ),
        (
            SIGNATURE
            + b"!\x11\x00\x16\x7f\x00\x00\x01\x7f\x00\x00\x01\x94\xe2n\xfb\x03\x00\x04\x16a\xb7\x1c\x05\x00\x00",
            (2, ("127.0.0.1", 38114), ("127.0.0.1", 28411)),
        ),
        (
            SIGNATURE + b"!!\x00." + bytes(15) + b"\x01" + bytes(15) + b"\x01\xd6\xe8n\xfd"
            b"\x03\x00\x04\xb5\xf2Xd\x05\x00\x00",
            (2, ("::1", 55016), ("::1", 28413)),
        ),
        (
            SIGNATURE
            + b"!!\x00$ \x01\r\xb8"
            + bytes(11)
            + b"\x01"
            + bytes(10)
            + b"\xff\xff\x7f\x00\x00\x01\xb8\xbcn\xff",
            (2, ("2001:db8::1", 47292), ("::ffff:127.0.0.1", 28415)),
        ),
        (SIGNATURE + b" \x00\x00\x00", NOTHING2),
        (b"PROXY UNKNOWN\r\n", NOTHING1),
    ],
)
def test_headers_of_haproxy_are_read(header: bytes, said: tuple[int, Address | None, Address | None]) -> None:
    assert accepted(header) == said


# Version 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"TCP4 192.168.0.1 192.168.0.11 56324 443", (1, ("192.168.0.1", 56324), ("192.168.0.11", 443))),
        (b"TCP4 0.0.0.0 255.255.255.255 0 65535", (1, ("0.0.0.0", 0), ("255.255.255.255", 65535))),
        (b"TCP6 ::1 :: 1 2", (1, ("::1", 1), ("::", 2))),
        (b"TCP6 2001:0DB8:0:0:0:0:0:A 1:2:3:4:5:6:7:8 1 2", (1, ("2001:db8::a", 1), ("1:2:3:4:5:6:7:8", 2))),
        (b"TCP6 ::ffff:1.2.3.4 ::ffff:506:708 1 2", (1, ("::ffff:1.2.3.4", 1), ("::ffff:5.6.7.8", 2))),
        (b" ".join((b"TCP6", *[b":".join([b"ffff"] * 8)] * 2, b"65535", b"65535")), None),
        (b"UNKNOWN", NOTHING1),
        (b"UNKNOWN ", NOTHING1),
        (b"UNKNOWN whatever  it is, \xff", NOTHING1),
        (b" ".join((b"UNKNOWN", *[b":".join([b"ffff"] * 8)] * 2, b"65535", b"65535")), NOTHING1),
    ],
)
def test_lines_of_version_1(line: bytes, said: tuple[int, Address | None, Address | None] | None) -> None:
    longest = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    assert accepted(b"PROXY %b\r\n" % line) == (said or (1, longest, longest))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"UDP4 1.1.1.1 2.2.2.2 3 4", "a protocol other than TCP4, TCP6 and UNKNOWN"),
        (b"tcp4 1.1.1.1 2.2.2.2 3 4", "a protocol other than TCP4, TCP6 and UNKNOWN"),
        (b"UNKNOWNS", "a protocol other than TCP4, TCP6 and UNKNOWN"),
        (b"", "a protocol other than TCP4, TCP6 and UNKNOWN"),
        (b" TCP4 1.1.1.1 2.2.2.2 3 4", "a protocol other than TCP4, TCP6 and UNKNOWN"),
        (b"TCP4", "a line without exactly two addresses and two ports, each after one space"),
        (b"TCP4 1.1.1.1 2.2.2.2 3", "a line without exactly two addresses and two ports, each after one space"),
        (b"TCP4 1.1.1.1 2.2.2.2 3 4 ", "a line without exactly two addresses and two ports, each after one space"),
        (b"TCP4 1.1.1.1  2.2.2.2 3 4", "a line without exactly two addresses and two ports, each after one space"),
        (b"TCP4 01.1.1.1 2.2.2.2 3 4", "a source that is not an address of TCP4"),
        (b"TCP4 256.1.1.1 2.2.2.2 3 4", "a source that is not an address of TCP4"),
        (b"TCP4 1.1.1 2.2.2.2 3 4", "a source that is not an address of TCP4"),
        (b"TCP4 1.1.1.1/8 2.2.2.2 3 4", "a source that is not an address of TCP4"),
        (b"TCP4 ::1 2.2.2.2 3 4", "a source that is not an address of TCP4"),
        (b"TCP4 1.1.1.1 ::1 3 4", "a destination that is not an address of TCP4"),
        (b"TCP4 1.1.1.1 \xd9\xa1.2.2.2 3 4", "a destination that is not an address of TCP4"),
        (b"TCP6 1.1.1.1 ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP6 ::1 1::2::3 3 4", "a destination that is not an address of TCP6"),
        (b"TCP6 ::12345 ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP6 1:2:3:4:5:6:7 ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP6 fe80::1%eth0 ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP6 [::1] ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP6 ::ffff:1.2.3.04 ::1 3 4", "a source that is not an address of TCP6"),
        (b"TCP4 1.1.1.1 2.2.2.2 65536 4", "a source port that is not a number from 0 to 65535 without leading zeros"),
        (b"TCP4 1.1.1.1 2.2.2.2 03 4", "a source port that is not a number from 0 to 65535 without leading zeros"),
        (b"TCP4 1.1.1.1 2.2.2.2 +3 4", "a source port that is not a number from 0 to 65535 without leading zeros"),
        (
            b"TCP4 1.1.1.1 2.2.2.2 3 0x4",
            "a destination port that is not a number from 0 to 65535 without leading zeros",
        ),
        (
            b"TCP4 1.1.1.1 2.2.2.2 3 4\r",
            "a destination port that is not a number from 0 to 65535 without leading zeros",
        ),
    ],
)
def test_bad_lines_of_version_1(line: bytes, reason: str) -> None:
    assert refusal(b"PROXY %b\r\n" % line) == ("bad_proxy_header", reason)


def test_a_bare_lf_ends_no_line() -> None:
    for line in (b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\n", b"PROXY UNKNOWN\n", b"PROXY UNKNOWN a\nb\r\n", b"PROXY \n"):
        assert refusal(line) == ("bad_proxy_header", "a line that ends in a bare LF")


def test_a_bare_cr_ends_no_line() -> None:
    assert read_pieces([b"PROXY UNKNOWN\r"]) is None
    assert read_pieces([b"PROXY UNKNOWN\rabc\r"]) is None


def test_a_line_has_107_octets_at_most() -> None:
    assert accepted(b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n") == NOTHING1
    reason = "a line of more than 107 octets"
    assert refusal(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n") == ("bad_proxy_header", reason)
    assert read_pieces([b"PROXY UNKNOWN " + b"x" * 92]) is None
    assert refusal(b"PROXY UNKNOWN " + b"x" * 93) == ("bad_proxy_header", reason)


# Version 2


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (v2(PROXY, TCP4, ENDS4), SAID4),
        (v2(PROXY, TCP6, ENDS6), SAID6),
        (v2(PROXY, TCP4, ENDS4 + tlv(4, b"") + tlv(1, b"h2") + tlv(0xE0, bytes(200))), SAID4),
        (v2(LOCAL, 0, b""), NOTHING2),
        # Of LOCAL, family and all that follows are ignored.
        (v2(LOCAL, TCP4, ENDS4), NOTHING2),
        (v2(LOCAL, 0xFF, b"anything"), NOTHING2),
        (v2(PROXY, 0, b""), NOTHING2),
        (v2(PROXY, 0, b"anything"), NOTHING2),
        (v2(PROXY, 0x10, ENDS4), NOTHING2),
        (v2(PROXY, 0x01, b""), NOTHING2),
        (v2(PROXY, UDP4, ENDS4), NOTHING2),
        (v2(PROXY, UDP6, ENDS6), NOTHING2),
        (v2(PROXY, UNIX_STREAM, bytes(216)), NOTHING2),
        (v2(PROXY, UNIX_DATAGRAM, bytes(216) + tlv(4, b"??")), NOTHING2),
    ],
)
def test_headers_of_version_2(header: bytes, said: tuple[int, Address | None, Address | None]) -> None:
    assert accepted(header) == said


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (v2(0x11, TCP4, ENDS4), "a binary header of a version other than 2"),
        (v2(0x31, TCP4, ENDS4), "a binary header of a version other than 2"),
        (v2(0x22, TCP4, ENDS4), "the unknown command 2"),
        (v2(PROXY, 0x41, ENDS6), "the unknown address family 4"),
        (v2(PROXY, 0x13, ENDS4), "the unknown transport protocol 3"),
        (v2(PROXY, TCP4, ENDS4[:-1]), "a length too short for its addresses"),
        (v2(PROXY, TCP6, ENDS4), "a length too short for its addresses"),
        (v2(PROXY, UDP4, b""), "a length too short for its addresses"),
        (v2(PROXY, UNIX_STREAM, bytes(215)), "a length too short for its addresses"),
        (v2(PROXY, TCP4, ENDS4 + b"\4"), "a TLV that is cut short"),
        (v2(PROXY, TCP4, ENDS4 + b"\4\0"), "a TLV that is cut short"),
        (v2(PROXY, TCP4, ENDS4 + b"\4\0\1"), "a TLV that is cut short"),
        (v2(PROXY, UDP4, ENDS4 + tlv(4, b"??")[:-1]), "a TLV that is cut short"),
        (v2(PROXY, TCP4, ENDS4 + tlv(3, b"123")), "a checksum of 3 octets instead of 4"),
        (v2(PROXY, TCP4, ENDS4 + tlv(3, b"1234") * 2), "two checksums"),
        (v2(PROXY, TCP4, ENDS4 + tlv(3, b"1234")), "a wrong checksum"),
    ],
)
def test_bad_headers_of_version_2(header: bytes, reason: str) -> None:
    assert refusal(header) == ("bad_proxy_header", reason)


def test_addresses_and_tlvs_have_a_limit() -> None:
    header = v2(PROXY, TCP4, ENDS4 + tlv(4, bytes(85)))
    assert isinstance(read_pieces([header], limit=100), ProxyHeader)
    reason = "more than 99 octets of addresses and TLVs"
    assert refusal(header, limit=99) == ("bad_proxy_header", reason)
    assert refusal(header[:16], limit=99) == ("bad_proxy_header", reason)  # nothing of them is waited for
    assert refusal(v2(LOCAL, 0, b"", size=100), limit=99) == ("bad_proxy_header", reason)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.data())
def test_one_wrong_bit_is_found_by_the_checksum(before: bytes, behind: bytes, data: st.DataObject) -> None:
    blank = v2(PROXY, TCP4, ENDS4 + tlv(5, before) + tlv(3, bytes(4)) + tlv(4, behind))
    addresses = range(16, 28)
    value = range(31, 31 + len(before))
    checksum = range(value.stop + 3, value.stop + 7)
    last_value = range(checksum.stop + 3, len(blank))
    header = bytearray(blank)
    header[checksum.start : checksum.stop] = crc32c(blank).to_bytes(4)
    assert read_pieces([bytes(header)]) == ProxyHeader(*SAID4, len(header))

    wrong = data.draw(st.sampled_from([*addresses, *value, *checksum, *last_value]))
    header[wrong] ^= 1 << data.draw(st.integers(0, 7))
    error = read_pieces([bytes(header)])
    assert isinstance(error, WireError)
    assert error.reason == "a wrong checksum"


# Neither


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\3\1\0\5",
        b"PROX\r\n",
        b"PROXYTCP4",
        b"proxy TCP4",
        b"\r\n\r\nGET",
        b"\0",
        b" PROXY",
    ],
)
def test_what_is_no_header_is_told_so(octets: bytes) -> None:
    assert refusal(octets) == ("no_proxy_header", "a connection that does not begin with a PROXY header")


def test_nothing_yet_is_no_error() -> None:
    assert read_pieces([b""]) is None


# Written


def test_headers_are_written_to_the_letter() -> None:
    source, destination = ("192.168.0.1", 56324), ("192.168.0.11", 443)
    assert write_v1(source, destination) == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    assert write_v1(("::1", 1), ("2001:db8::2", 2)) == b"PROXY TCP6 ::1 2001:db8::2 1 2\r\n"
    assert write_v2(("10.0.0.1", 12345), ("10.0.0.2", 443)) == v2(PROXY, TCP4, ENDS4)
    assert write_v2(("2001:db8::1", 12345), ("::2", 443)) == v2(PROXY, TCP6, ENDS6)


def test_a_scope_means_nothing_to_others() -> None:
    assert write_v1(("fe80::1%eth0", 1), ("fe80::2%eth0", 2)) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    assert write_v2(("fe80::1%eth0", 1), ("::2", 2)) == write_v2(("fe80::1", 1), ("::2", 2))


def test_two_families_are_not_mixed() -> None:
    for ends in ((("10.0.0.1", 1), ("::1", 2)), (("::1", 1), ("10.0.0.1", 2))):
        assert write_v1(*ends) == b"PROXY UNKNOWN\r\n"
        assert write_v2(*ends) == v2(LOCAL, 0, b"")


def test_only_addresses_are_written() -> None:
    for write in (write_v1, write_v2):
        with pytest.raises(ValueError, match=r"example\.com"):
            write(("example.com", 1), ("10.0.0.1", 2))


PORTS = st.integers(0, 65535)
HOSTS4 = st.ip_addresses(v=4).map(str)
# Addresses of IPv4 within IPv6 are rare among all, and written in a way of their own.
MAPPED = st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}")
HOSTS6 = st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:")) | MAPPED
ENDS = st.tuples(st.tuples(HOSTS4, PORTS), st.tuples(HOSTS4, PORTS)) | st.tuples(
    st.tuples(HOSTS6, PORTS), st.tuples(HOSTS6, PORTS)
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(ENDS, st.binary(max_size=20))
def test_what_is_written_is_read(ends: tuple[Address, Address], payload: bytes) -> None:
    for version, header in ((1, write_v1(*ends)), (2, write_v2(*ends))):
        assert parse_proxy_header(header + payload, limit=36) == ProxyHeader(version, *ends, len(header))
        for cut in range(len(header)):
            assert parse_proxy_header(header[:cut], limit=36) is None


# Whatever comes

HEADERS = st.sampled_from(
    [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 45836 28416\r\n",
        v2(PROXY, TCP4, ENDS4 + tlv(3, b"1234") + tlv(4, b"")),
        v2(PROXY, TCP6, ENDS6 + tlv(5, bytes(20))),
        v2(PROXY, UNIX_STREAM, bytes(216)),
    ]
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(HEADERS, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4), st.integers(0, 300))
def test_nothing_but_our_error_is_raised(header: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    mutated = bytearray(header)
    for position, octet in changes:
        mutated[position % len(header)] = octet
    for octets in (bytes(mutated), bytes(mutated[:cut]), bytes(mutated) + PAYLOAD):
        found = read_pieces([octets])
        if isinstance(found, ProxyHeader):
            assert found.size <= len(octets)
            for end in (found.source, found.destination):
                assert end is None or (IPv6Address if ":" in end[0] else IPv4Address)(end[0])
                assert end is None or 0 <= end[1] <= 65535


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_octets_behind_a_good_start_raise_nothing_else(octets: bytes) -> None:
    read_pieces([b"PROXY " + octets + b"\r\n"])
    read_pieces([SIGNATURE + octets])
    read_pieces([v2(PROXY, TCP4, ENDS4 + octets)])
