"""The server name that a TLS client asks for, read from its ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).

Nothing is decrypted and nothing is changed: whoever reads the name sends the same octets on. The rules are strict where
two readers could understand two different names; what else is wrong in a hello is for the server to say.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lb.errors import WireError

_RECORD_HEADER = 5  # type, version, length
_HANDSHAKE = 22
_OTHER_RECORDS = (20, 21, 23, 24)  # change_cipher_spec, alert, application_data, heartbeat
_MAX_FRAGMENT = 1 << 14

_MESSAGE_HEADER = 4  # type, length
_CLIENT_HELLO = 1
_MAJOR_VERSION = 3  # of SSL 3.0 and of every TLS
_RANDOM = 32
_MAX_SESSION_ID = 32
_SERVER_NAME = 0
_ALPN = 16
_HOST_NAME = 0

_MAX_NAME = 253
# The underscore is no host name's, but in daily use.
_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rb"%b(?:\.%b)*" % (_LABEL, _LABEL))
_IPV4 = re.compile(rb"[0-9]+(?:\.[0-9]+){3}")


class ClientHello(NamedTuple):
    """What a client asks for before anything is encrypted.

    `server_name` is for look-up: lower case, no trailing dot, empty when the client named none. Of a client that
    encrypts its hello it is the outer name. `protocols` are what it offers by ALPN (RFC 7301), the preferred one first.
    """

    server_name: bytes
    protocols: tuple[bytes, ...]


class ClientHelloReader:
    """Reads the ClientHello of one connection, however many segments and TLS records it comes in.

    The hello must end within the first `limit` octets, record headers included.
    """

    __slots__ = ("_fragment_left", "_limit", "_message", "_message_size", "_offset")

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._offset = 0  # of the first octet that was not read yet
        self._fragment_left = 0  # octets of the current record that were not read yet
        self._message = bytearray()
        self._message_size = _MESSAGE_HEADER  # until that header is there and tells the size of all

    def read(self, buffer: bytes | bytearray) -> ClientHello | None:
        """Return the hello, or None while more is needed.

        `buffer` holds everything from the connection's first octet on; what an earlier call saw is not read again,
        so a client that sends single octets costs no more than any other.

        Raises WireError: `not_tls`, `hello_too_large`, `bad_hello`, `bad_server_name`; as soon as it can be told.
        """
        while len(self._message) < self._message_size:
            left = len(buffer) - self._offset
            if not left:
                return None
            if self._fragment_left:
                self._read_fragment(buffer, left)
            elif left < _RECORD_HEADER:
                self._check_type(buffer[self._offset])
                return None
            else:
                self._begin_record(buffer)
        return parse_client_hello(memoryview(self._message)[_MESSAGE_HEADER:])

    def _begin_record(self, buffer: bytes | bytearray) -> None:
        """Read a record's header (RFC 8446 section 5.1); its minor version means nothing."""
        kind, major, _, high, low = buffer[self._offset : self._offset + _RECORD_HEADER]
        size = high << 8 | low
        self._check_type(kind)
        if major != _MAJOR_VERSION:
            raise self._bad_record("a record of an unknown TLS version")
        if not 0 < size <= _MAX_FRAGMENT:
            raise self._bad_record("an empty TLS record" if not size else "a TLS record of more than 16384 octets")
        self._offset += _RECORD_HEADER
        self._fragment_left = size
        self._check_limit()

    def _read_fragment(self, buffer: bytes | bytearray, left: int) -> None:
        """Read what is there of the message in the current record."""
        size = min(left, self._fragment_left, self._message_size - len(self._message))
        self._message += buffer[self._offset : self._offset + size]
        self._offset += size
        self._fragment_left -= size
        if len(self._message) == _MESSAGE_HEADER:
            if self._message[0] != _CLIENT_HELLO:
                raise WireError("bad_hello", "a handshake that does not begin with a ClientHello")
            self._message_size += int.from_bytes(self._message[1:])
            self._check_limit()

    def _check_limit(self) -> None:
        end = self._offset + self._message_size - len(self._message)
        if end > self._limit:
            raise WireError("hello_too_large", f"a ClientHello that does not end within {self._limit} octets")

    def _check_type(self, kind: int) -> None:
        """Check the first octet of a record; of the very first it tells what else a client may have sent."""
        if kind == _HANDSHAKE:
            return
        if self._offset or kind in _OTHER_RECORDS:
            raise self._bad_record("a TLS record that is no handshake, before the ClientHello was whole")
        if kind & 0x80:
            raise self._bad_record("a hello of SSLv2, or no TLS at all")
        if 0x20 <= kind < 0x7F:
            raise self._bad_record("plain text, such as an HTTP request, where TLS was expected")
        raise self._bad_record("something other than TLS")

    def _bad_record(self, reason: str) -> WireError:
        """Return the error for a record: once a first one was good, it is TLS, but bad."""
        return WireError("bad_hello" if self._offset else "not_tls", reason)


def parse_client_hello(body: bytes | memoryview) -> ClientHello:
    """Parse the body of a ClientHello message, its header taken off.

    Raises WireError: `bad_hello` for lengths that do not fit and for an extension that comes twice,
    `bad_server_name` for one that is no host name.
    """
    hello = _Structure(memoryview(body))
    if hello.take(2, "version")[0] != _MAJOR_VERSION:
        raise WireError("bad_hello", "a ClientHello of an unknown TLS version")
    hello.take(_RANDOM, "random")
    if len(hello.vector(1, "session ID")) > _MAX_SESSION_ID:
        raise WireError("bad_hello", "a session ID of more than 32 octets")
    ciphers = len(hello.vector(2, "list of cipher suites"))
    if not ciphers or ciphers % 2:
        raise WireError("bad_hello", "a list of cipher suites that is empty or cut short")
    if not hello.vector(1, "list of compression methods"):
        raise WireError("bad_hello", "no compression method, not even none")
    if not hello.left:  # as before TLS 1.3 it may (RFC 5246 section 7.4.1.2)
        return ClientHello(b"", ())
    extensions = _extensions(hello.vector(2, "list of extensions"))
    hello.end("list of extensions")
    name, protocols = extensions.get(_SERVER_NAME), extensions.get(_ALPN)
    return ClientHello(
        b"" if name is None else _server_name(name),
        () if protocols is None else _protocols(protocols),
    )


def _extensions(octets: memoryview) -> dict[int, memoryview]:
    """Return the extensions by their type, of which each may come once (RFC 8446 section 4.2)."""
    rest = _Structure(octets)
    found: dict[int, memoryview] = {}
    while rest.left:
        kind = rest.number(2, "list of extensions")
        if kind in found:
            raise WireError("bad_hello", f"two extensions of type {kind}")
        found[kind] = rest.vector(2, f"extension {kind}")
    return found


def _server_name(extension: memoryview) -> bytes:
    """Return the host name in a server_name extension, in the form for look-up; names of other kinds are skipped."""
    names = _only_list(extension, "list of server names")
    found: list[memoryview] = []
    while names.left:
        kind = names.number(1, "list of server names")
        name = names.vector(2, "server name")  # RFC 6066: names of all kinds begin with such a length
        if kind == _HOST_NAME:
            found.append(name)
    if len(found) > 1:
        raise WireError("bad_server_name", "two server names")
    return _host(bytes(found[0])) if found else b""


def _host(name: bytes) -> bytes:
    host = name.lower().removesuffix(b".")
    if len(host) > _MAX_NAME or _NAME.fullmatch(host) is None:
        raise WireError("bad_server_name", "a server name that is not a host name")
    if _IPV4.fullmatch(host):  # RFC 6066 permits no address; one of IPv6 is no host name anyway
        raise WireError("bad_server_name", "an IP address instead of a server name")
    return host


def _protocols(extension: memoryview) -> tuple[bytes, ...]:
    """Return the names in an ALPN extension (RFC 7301 section 3.1)."""
    names = _only_list(extension, "list of application protocols")
    found: list[bytes] = []
    while names.left:
        found.append(bytes(names.vector(1, "name of an application protocol")))
    if not all(found):
        raise WireError("bad_hello", "an application protocol without a name")
    return tuple(found)


def _only_list(extension: memoryview, what: str) -> _Structure:
    """Return the list that makes up an extension, and that must have members."""
    outer = _Structure(extension)
    members = _Structure(outer.vector(2, what))
    outer.end(what)
    if not members.left:
        raise WireError("bad_hello", f"an empty {what}")
    return members


class _Structure:
    """Takes the fields of a structure one by one (RFC 8446 section 3), and copies none.

    `what` names the field in the error (WireError, `bad_hello`) that is raised when it does not fit.
    """

    __slots__ = ("_octets", "_offset", "left")

    def __init__(self, octets: memoryview) -> None:
        self._octets = octets
        self._offset = 0
        self.left = len(octets)

    def take(self, size: int, what: str) -> memoryview:
        """Return the next `size` octets."""
        if size > self.left:
            raise WireError("bad_hello", f"a ClientHello whose {what} is cut short")
        start = self._offset
        self._offset += size
        self.left -= size
        return self._octets[start : self._offset]

    def number(self, size: int, what: str) -> int:
        """Return the next number, of `size` octets."""
        return int.from_bytes(self.take(size, what))

    def vector(self, size: int, what: str) -> memoryview:
        """Return the next vector, whose length is a number of `size` octets."""
        return self.take(self.number(size, what), what)

    def end(self, what: str) -> None:
        """Check that nothing is left behind the last field."""
        if self.left:
            raise WireError("bad_hello", f"a ClientHello with octets behind its {what}")
