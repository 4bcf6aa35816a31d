"""Turning a name into an address by asking one DNS server, for the sample services."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from lb.errors import EdgeError
from lb.settings import Address

ATTEMPTS = 3
TIMEOUT = 1.0
"""Seconds that one attempt waits for the reply; a datagram may be lost."""


class ResolveError(EdgeError):
    """A name has no address, or nobody said so in time; the text names it and the reason."""


async def resolve(name: str, server: Address | None) -> str:
    """Return an IPv4 address of `name`: the first that `server` gives, or the system's without a server.

    Raises `ResolveError`.
    """
    if server is None:
        return await _ask_system(name)
    question = DNSRecord.question(name, "A")
    for _ in range(ATTEMPTS):
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await _exchange(question, server)
        except TimeoutError:
            continue
        except OSError as error:
            raise ResolveError(f"{name}: DNS server {server}: {error.strerror or error}") from error
        addresses = [str(record.rdata) for record in reply.rr if record.rtype == QTYPE.A]
        if addresses:
            return addresses[0]
        raise ResolveError(f"{name}: {RCODE.get(reply.header.rcode)}, no address")
    raise ResolveError(f"{name}: no reply from DNS server {server}")


async def _ask_system(name: str) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ResolveError(f"{name}: {error.strerror or error}") from error
    return str(found[0][4][0])


class _Exchange(asyncio.DatagramProtocol):
    """One question and its reply; what is not the reply to it is not heard."""

    def __init__(self, question: DNSRecord) -> None:
        self._question = question
        self.reply: asyncio.Future[DNSRecord] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self._question.pack())

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            reply = DNSRecord.parse(data)
        except DNSError:
            return
        if reply.header.id == self._question.header.id and not self.reply.done():
            self.reply.set_result(reply)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _exchange(question: DNSRecord, server: Address) -> DNSRecord:
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(
        lambda: _Exchange(question), remote_addr=(server.host, server.port)
    )
    try:
        return await exchange.reply
    finally:
        transport.close()
