"""One exchange with one recursor: UDP, and TCP where the reply was truncated."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from dnsserver.message import Query
from dnsserver.upstream import ForeignReply, foreign_query, is_reply, is_truncated, parse_reply
from dnsserver.wire import FORMERR, MAX_MESSAGE, NOTIMP, FormatError
from lb.settings import Address

SENDS = 2
"""How often a question goes out over UDP, evenly over the time for the reply: packets get lost."""


async def ask_recursor(
    recursor: Address, query: Query, within: float, udp_size: int, on_mismatch: Callable[[], None]
) -> ForeignReply:
    """Return a recursor's reply to a client's question, whatever its rcode.

    A server that does not understand EDNS is asked again without it (RFC 6891 section 6.2.2). `on_mismatch` is called
    for each packet that is not a reply to what was sent. Raises TimeoutError after `within` seconds in all, OSError
    or EOFError where there is nobody, FormatError for a reply that cannot be read.
    """
    async with asyncio.timeout(within):
        reply = await _ask(recursor, query, udp_size, within, on_mismatch)
        if reply.rcode in (FORMERR, NOTIMP):
            reply = await _ask(recursor, query, 0, within, on_mismatch)
        return reply


async def _ask(
    recursor: Address, query: Query, udp_size: int, within: float, on_mismatch: Callable[[], None]
) -> ForeignReply:
    sent = foreign_query(query, secrets.randbelow(1 << 16), udp_size)
    message = await _over_udp(recursor, sent, query.question, within, on_mismatch)
    if is_truncated(message):
        message = await _over_tcp(recursor, sent, query.question)
    return parse_reply(message, query.question)


async def _over_udp(
    recursor: Address, sent: bytes, question: bytes, within: float, on_mismatch: Callable[[], None]
) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in recursor.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # Connecting draws a random port, and lets the kernel refuse what comes from elsewhere.
        sock.connect(recursor)
        for again in range(SENDS):
            await loop.sock_sendall(sock, sent)
            waiting = None if again == SENDS - 1 else within / SENDS
            try:
                async with asyncio.timeout(waiting):
                    return await _receive(sock, sent, question, on_mismatch)
            except TimeoutError:
                continue
    raise TimeoutError


async def _receive(sock: socket.socket, sent: bytes, question: bytes, on_mismatch: Callable[[], None]) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        message = await loop.sock_recv(sock, MAX_MESSAGE)
        if is_reply(message, sent, question):
            return message
        on_mismatch()


async def _over_tcp(recursor: Address, sent: bytes, question: bytes) -> bytes:
    """Ask over TCP (RFC 7766); raise FormatError for a reply to something else."""
    reader, writer = await asyncio.open_connection(recursor.host, recursor.port, limit=MAX_MESSAGE + 2)
    try:
        writer.write(len(sent).to_bytes(2, "big") + sent)
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = await reader.readexactly(length)
    finally:
        writer.close()
    if not is_reply(message, sent, question):
        raise FormatError("a reply over TCP that is not one to our question")
    return message
