"""The PROXY protocol: how a proxy tells the next one whose connection it passes on.

Source: HAProxy's specification "The PROXY protocol, versions 1 & 2", named by its sections here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

from lb.errors import WireError

Address: TypeAlias = tuple[str, int]
"""Host and port, as the kernel tells them."""

_V1_PREFIX = b"PROXY "
_V1_MAX = 107  # section 2.1: the longest line there can be, CRLF included
_V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
_V1_HOSTS: dict[bytes, tuple[re.Pattern[bytes], type[IPv4Address | IPv6Address]]] = {
    b"TCP4": (re.compile(rb"[0-9.]+"), IPv4Address),
    b"TCP6": (re.compile(rb"[0-9A-Fa-f:.]+"), IPv6Address),
}
_V1_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEADER = 16
_VERSION_2 = 2
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DATAGRAM = 1, 2
_ADDRESSES = {_INET: 12, _INET6: 36, _UNIX: 216}  # octets of two addresses and, but for UNIX, two ports
_V2_LOCAL = _V2_SIGNATURE + bytes((_VERSION_2 << 4 | _LOCAL, _UNSPEC, 0, 0))

_CRC32C = 3  # the type of the only TLV that says something about the header itself
_CRC32C_SIZE = 4


class Ends(NamedTuple):
    """Both ends of a connection: who has made it, and to where."""

    source: Address
    destination: Address


class ProxyHeader(NamedTuple):
    """A header that was read, and how many octets of the connection it took.

    `source` and `destination` are the ends of the connection that is passed on; both are None where the sender does
    not tell (LOCAL, UNKNOWN, a socket that is not TCP's): the connection's own addresses hold then.
    """

    version: int
    source: Address | None
    destination: Address | None
    size: int

    @property
    def ends(self) -> Ends | None:
        """Both ends, if the sender tells."""
        return Ends(self.source, self.destination) if self.source and self.destination else None


def parse_proxy_header(buffer: bytes | bytearray, *, limit: int) -> ProxyHeader | None:
    """Return the header that a connection begins with, or None while more is needed.

    `buffer` holds everything from the connection's first octet on, `limit` is how many octets of addresses and TLVs a
    header of version 2 may have. Raises WireError as soon as it can be told: `no_proxy_header` when the first octets
    belong to something else, `bad_proxy_header` for a header that breaks a rule.
    """
    if buffer.startswith(_V2_SIGNATURE[: len(buffer)]):
        return _parse_v2(buffer, limit)
    if buffer.startswith(_V1_PREFIX[: len(buffer)]):
        return _parse_v1(buffer)
    raise WireError("no_proxy_header", "a connection that does not begin with a PROXY header")


def write_proxy_header(version: str, ends: Ends | None) -> bytes:
    """Return the header of version `v1` or `v2`; without `ends` it says that they are not known."""
    if version == "v1":
        return write_v1(*ends) if ends else _V1_UNKNOWN
    return write_v2(*ends) if ends else _V2_LOCAL


def write_v1(source: Address, destination: Address) -> bytes:
    """Return the header of version 1; it says UNKNOWN where the two are not of one family.

    Raises ValueError for a host that is no IP address.
    """
    ends = _same_family(source[0], destination[0])
    if ends is None:
        return _V1_UNKNOWN
    family = 4 if isinstance(ends[0], IPv4Address) else 6
    return b"PROXY TCP%d %b %b %d %d\r\n" % (
        family,
        _text(ends[0]).encode(),
        _text(ends[1]).encode(),
        source[1],
        destination[1],
    )


def write_v2(source: Address, destination: Address) -> bytes:
    """Return the header of version 2; it is LOCAL, which every receiver takes, where the two are not of one family.

    Raises ValueError for a host that is no IP address.
    """
    ends = _same_family(source[0], destination[0])
    if ends is None:
        return _V2_LOCAL
    family = _INET if isinstance(ends[0], IPv4Address) else _INET6
    return b"".join(
        (
            _V2_SIGNATURE,
            bytes((_VERSION_2 << 4 | _PROXY, family << 4 | _STREAM)),
            _ADDRESSES[family].to_bytes(2),
            ends[0].packed,
            ends[1].packed,
            source[1].to_bytes(2),
            destination[1].to_bytes(2),
        )
    )


# Version 1 (section 2.1)


def _parse_v1(buffer: bytes | bytearray) -> ProxyHeader | None:
    end = buffer.find(b"\n", 0, _V1_MAX) + 1
    if not end:
        if len(buffer) >= _V1_MAX:
            raise _bad(f"a line of more than {_V1_MAX} octets")
        return None
    line = bytes(buffer[:end])
    if not line.endswith(b"\r\n"):
        raise _bad("a line that ends in a bare LF")
    _, protocol, *fields = line[:-2].split(b" ")
    if protocol == b"UNKNOWN":  # what follows on the line is to be ignored
        return ProxyHeader(1, None, None, end)
    if protocol not in _V1_HOSTS:
        raise _bad("a protocol other than TCP4, TCP6 and UNKNOWN")
    if len(fields) != 4:
        raise _bad("a line without exactly two addresses and two ports, each after one space")
    source = _host(protocol, fields[0], "source"), _port(fields[2], "source")
    destination = _host(protocol, fields[1], "destination"), _port(fields[3], "destination")
    return ProxyHeader(1, source, destination, end)


def _host(protocol: bytes, text: bytes, whose: str) -> str:
    characters, address = _V1_HOSTS[protocol]
    if characters.fullmatch(text):
        with suppress(AddressValueError):
            return _text(address(text.decode()))
    raise _bad(f"a {whose} that is not an address of {protocol.decode()}")


def _port(text: bytes, whose: str) -> int:
    if _V1_PORT.fullmatch(text) is None or int(text) > 0xFFFF:
        raise _bad(f"a {whose} port that is not a number from 0 to 65535 without leading zeros")
    return int(text)


# Version 2 (section 2.2)


def _parse_v2(buffer: bytes | bytearray, limit: int) -> ProxyHeader | None:
    if len(buffer) < _V2_HEADER:
        return None
    version, command = divmod(buffer[12], 16)
    family, transport = divmod(buffer[13], 16)
    if version != _VERSION_2:
        raise _bad("a binary header of a version other than 2")
    if command not in (_LOCAL, _PROXY):
        raise _bad(f"the unknown command {command}")
    size = int.from_bytes(buffer[14:_V2_HEADER])
    if size > limit:
        raise _bad(f"more than {limit} octets of addresses and TLVs")
    end = _V2_HEADER + size
    if command == _PROXY:  # LOCAL: what follows is to be ignored, whatever it is
        _check_family(family, transport, size)
    if len(buffer) < end:
        return None
    if command == _LOCAL or _UNSPEC in (family, transport):  # nobody can tell where addresses end and TLVs begin
        return ProxyHeader(2, None, None, end)
    header = bytes(buffer[:end])
    _check_tlvs(header, _V2_HEADER + _ADDRESSES[family])
    if family == _UNIX or transport != _STREAM:
        return ProxyHeader(2, None, None, end)
    return ProxyHeader(2, *_v2_addresses(header, family), end)


def _check_family(family: int, transport: int, size: int) -> None:
    if family > _UNIX:
        raise _bad(f"the unknown address family {family}")
    if transport > _DATAGRAM:
        raise _bad(f"the unknown transport protocol {transport}")
    if transport != _UNSPEC and size < _ADDRESSES.get(family, 0):
        raise _bad("a length too short for its addresses")


def _v2_addresses(header: bytes, family: int) -> tuple[Address, Address]:
    ports = _V2_HEADER + _ADDRESSES[family] - 4
    middle = (_V2_HEADER + ports) // 2
    hosts = header[_V2_HEADER:middle], header[middle:ports]
    source, destination = (_text(IPv4Address(host) if family == _INET else IPv6Address(host)) for host in hosts)
    return (
        (source, int.from_bytes(header[ports : ports + 2])),
        (destination, int.from_bytes(header[ports + 2 : ports + 4])),
    )


def _check_tlvs(header: bytes, start: int) -> None:
    """Check that the TLVs fill the header, and its checksum if it has one (section 2.2.3); others are skipped."""
    checksum = 0  # where it is
    while start < len(header):
        value = start + 3
        end = value + int.from_bytes(header[start + 1 : value])
        if end > len(header):  # true of a cut length, too, as `value` is behind the end then
            raise _bad("a TLV that is cut short")
        if header[start] == _CRC32C:
            if checksum:
                raise _bad("two checksums")
            if end - value != _CRC32C_SIZE:
                raise _bad(f"a checksum of {end - value} octets instead of {_CRC32C_SIZE}")
            checksum = value
        start = end
    if checksum:
        behind = checksum + _CRC32C_SIZE
        expected = crc32c(header[:checksum] + bytes(_CRC32C_SIZE) + header[behind:])
        if expected != int.from_bytes(header[checksum:behind]):
            raise _bad("a wrong checksum")


def _crc32c_of_octet(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)  # the polynomial, its bits reversed
    return octet


_CRC32C_TABLE = tuple(map(_crc32c_of_octet, range(256)))


def crc32c(octets: bytes) -> int:
    """Return the CRC32c of `octets` (RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CRC32C_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


# Both versions


def _same_family(
    source: str, destination: str
) -> tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address] | None:
    """Return both addresses, without their scopes, if they are of one family."""
    first, second = (ip_address(host.partition("%")[0]) for host in (source, destination))
    if isinstance(first, IPv4Address) and isinstance(second, IPv4Address):
        return first, second
    if isinstance(first, IPv6Address) and isinstance(second, IPv6Address):
        return first, second
    return None


def _text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as the kernel writes it: one of IPv4 within IPv6 keeps its dots."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return f"::ffff:{mapped}" if mapped else str(address)


def _bad(reason: str) -> WireError:
    return WireError("bad_proxy_header", reason)
