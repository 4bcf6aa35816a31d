"""ClientHellos: those of a real client, and made by hand, octet by octet."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence

from lb.errors import WireError
from lb.wire.clienthello import ClientHello, ClientHelloReader

HELLO_TYPE = 1
SERVER_NAME, GROUPS, ALPN, PADDING = 0, 10, 16, 21
LIMIT = 16384


def client_context(
    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    *,
    ciphers: str = "DEFAULT",
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """A client that trusts anybody: what it says first is all that counts here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = lowest, highest
    context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def real_hello(name: str | None, context: ssl.SSLContext | None = None) -> bytes:
    """What OpenSSL sends first, records and all."""
    sent = ssl.MemoryBIO()
    client = (context or client_context()).wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without a server")


def names_seen_by_openssl(wire: bytes) -> list[str | None]:
    """The name that a server on OpenSSL finds in these octets; none at all if it gives up on them."""
    seen: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    received = ssl.MemoryBIO()
    received.write(wire)
    server = context.wrap_bio(received, ssl.MemoryBIO(), server_side=True)
    with contextlib.suppress(ssl.SSLError):  # it has no certificate; but the name comes first
        server.do_handshake()
    return seen


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def names(*hosts: bytes) -> bytes:
    """A server_name extension with these host names."""
    return extension(SERVER_NAME, vector(2, b"".join(b"\0" + vector(2, host) for host in hosts)))


def body(
    *extensions: bytes,
    version: bytes = b"\3\3",
    session: bytes = bytes(32),
    ciphers: bytes = b"\x13\x01\x13\x02",
    compressions: bytes = b"\0",
) -> bytes:
    """The body of a hello; with no extensions, it has not even an empty list of them."""
    head = version + bytes(range(32)) + vector(1, session) + vector(2, ciphers) + vector(1, compressions)
    return head + (vector(2, b"".join(extensions)) if extensions else b"")


def message(content: bytes, kind: int = HELLO_TYPE) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(content: bytes, size: int = 16384, kind: int = 22, version: bytes = b"\3\1") -> bytes:
    """These octets as TLS records, each of `size` octets but the last."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return b"".join(bytes([kind]) + version + vector(2, piece) for piece in pieces)


def messages_of(wire: bytes) -> bytes:
    """What is in the records, put together."""
    content = b""
    while wire:
        size = int.from_bytes(wire[3:5])
        content += wire[5 : 5 + size]
        wire = wire[5 + size :]
    return content


def hello(*extensions: bytes) -> bytes:
    """A hello with these extensions, in one record."""
    return records(message(body(*extensions)))


def read_pieces(pieces: Sequence[bytes], limit: int = LIMIT) -> ClientHello | WireError | None:
    """Read a hello as a session does: from a buffer that grows, until there is a result."""
    reader = ClientHelloReader(limit=limit)
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        before = bytes(buffer)
        try:
            found = reader.read(buffer)
        except WireError as error:
            return error
        assert buffer == before, "the octets were changed"
        if found is not None:
            return found
    return None
