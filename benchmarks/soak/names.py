"""Clients that ask DNS questions, over UDP and over TCP, and check the addresses they get."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from itertools import cycle
from typing import cast

import dnslib

from benchmarks.macro.site import dns_addresses, dns_name
from benchmarks.soak.clients import LOCAL, PATIENCE, Client, Stream, WrongReply
from benchmarks.soak.ledger import Ledger

NAMES = 50
"""How many names are asked for in turn."""

UDP_PATIENCE = 2.0
"""Seconds until a question without an answer is lost."""


class _Asker(Client):
    """Asks for the names in turn, one at a time, with `pause` seconds in between."""

    def __init__(self, name: str, ledger: Ledger, port: int, pause: float) -> None:
        super().__init__(name, ledger)
        self._port = port
        self._pause = pause
        self._indices = cycle(range(NAMES))


class UdpClient(_Asker):
    """Questions over UDP."""

    async def session(self) -> None:
        """Ask from one socket until a question fails."""
        loop = asyncio.get_running_loop()
        transport, answers = await loop.create_datagram_endpoint(_Answers, remote_addr=(LOCAL, self._port))
        try:
            while True:
                index = next(self._indices)
                self.begin()
                transport.sendto(question(index))
                async with asyncio.timeout(UDP_PATIENCE):
                    check_answer(await answers.next(), index)
                self.succeed()
                await asyncio.sleep(self._pause)
        finally:
            transport.close()


class _Answers(asyncio.DatagramProtocol):
    """What comes to a socket: packets and errors, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Keep a packet."""
        self._queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """Keep an error, such as a port where nobody listens."""
        self._queue.put_nowait(exc)

    async def next(self) -> bytes:
        """Return the next packet, or raise the next error."""
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item


class TcpClient(_Asker):
    """Questions over TCP, each on a connection of its own."""

    async def session(self) -> None:
        """Ask once."""
        index = next(self._indices)
        packet = question(index)
        with await Stream().open(self._port) as stream:
            (size,) = struct.unpack("!H", await stream.ask(struct.pack("!H", len(packet)) + packet, 2))
            async with asyncio.timeout(PATIENCE):
                check_answer(await stream.reader.readexactly(size), index)
        self.succeed()
        await asyncio.sleep(self._pause)


def question(index: int) -> bytes:
    """Return a question for the addresses of a name."""
    return cast("Callable[[], bytes]", dnslib.DNSRecord.question(dns_name(index), "A").pack)()


def check_answer(packet: bytes, index: int) -> None:
    """Raise WrongReply unless the packet has the addresses of the name."""
    try:
        reply = dnslib.DNSRecord.parse(packet)
    except dnslib.DNSError as error:
        raise WrongReply("malformed") from error
    if reply.header.rcode:
        raise WrongReply(f"rcode {dnslib.RCODE.get(reply.header.rcode)}")
    if {str(record.rdata) for record in reply.rr} != set(dns_addresses(index)):
        raise WrongReply("mismatch")
