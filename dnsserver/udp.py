"""DNS over UDP: a socket that is read in bounded batches, straight from the loop's readiness call.

The hot path is two look-ups, of the client and of the query, between `recvfrom` and `sendto`. That serves a few per
cent more than a `DatagramProtocol`, and allows to answer from the address that was asked on a socket bound to all
addresses.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

from dnsserver.clients import Allowance, Clients
from dnsserver.responder import Responder, Send
from dnsserver.stats import DnsStats

log = logging.getLogger(__name__)

BATCH = 64
"""Packets that are read before other work of the loop gets its turn."""

GATHERED = 16
"""Replies made anew that are sent together: none waits for longer than the others take to be made."""

MAX_QUERY = 4096
"""Octets of a packet that are read; a query has no use for more."""

BUFFER = 4 << 20
"""Socket buffers that are asked for; the kernel gives up to its limit."""

SLIP = 2
"""Of the replies over a client's rate, each so many-th is sent, cut to nothing."""

SLIPPED = "slip"
DROP = "drop"

IP_PKTINFO = 8
"""Linux's number; Python 3.11 does not name it."""

ANCILLARY_SIZE = 64
"""Octets for the control data of one packet."""

MAX_SOURCES = 1024
"""Own addresses whose control data is remembered."""

_IN_PKTINFO = Struct("=I4s4s")
_IN6_PKTINFO = Struct("=16sI")

Ancillary = list[tuple[int, int, bytes]]


class UdpPort:
    """Serves one bound, non-blocking UDP socket, which it owns."""

    def __init__(self, sock: socket.socket, responder: Responder, clients: Clients, stats: DnsStats) -> None:
        self._sock = sock
        self._responder = responder
        self._clients = clients
        self._stats = stats
        self._lane = responder.udp
        self._sources: dict[bytes, Ancillary] = {}
        self._gathering = False
        self._gathered: list[tuple[bytes, Any, Ancillary | None]] = []
        host = sock.getsockname()[0]
        self._read_batch: Callable[[], None] = self._read
        if host in ("0.0.0.0", "::"):
            self._read_batch = self._read_any
            _ask_for_destination(sock)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read."""
        loop.add_reader(self._sock.fileno(), self._on_readable)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop reading; what is still to be answered can be."""
        loop.remove_reader(self._sock.fileno())

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _on_readable(self) -> None:
        self._gathering = True
        try:
            self._read_batch()
        except Exception as error:
            self._stats.fault(log, error)
        finally:
            self._gathering = False
            self._flush()

    def _read(self) -> None:
        """Answer a batch on a socket that is bound to one address."""
        receive, send = self._sock.recvfrom, self._sock.sendto
        find_local, find_foreign = self._lane.local.find, self._lane.foreign.find
        known, admit = self._clients.known, self._clients.admit
        limited, find_allowance = self._clients.rate > 0, self._clients.allowance
        for _ in range(BATCH):
            try:
                packet, peer = receive(MAX_QUERY)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                continue
            if peer[0] not in known and not admit(peer[0]):
                self._refuse(packet, peer[0], partial(self._send, peer, None))
                continue
            if limited:
                allowance = known.get(peer[0]) or find_allowance(peer[0])
                allowance.left -= 1
                if allowance.left < 0:
                    self._limit(packet, allowance, partial(self._send, peer, None))
                    continue
            key = packet[2:]
            entry = find_local(key) or find_foreign(key)
            reply = next(entry.replies, None) if entry is not None else None
            if entry is None or reply is None:
                self._responder.respond(packet, self._lane, partial(self._send, peer, None))
                continue
            entry.hits += 1
            try:
                send(packet[:2] + reply, peer)
            except OSError as error:
                self._failed(error)

    def _read_any(self) -> None:
        """Answer a batch on a socket that is bound to all addresses, each from the address it was sent to.

        A host of several addresses would else answer from another one than was asked, and clients drop that.
        """
        receive, send = self._sock.recvmsg, self._sock.sendmsg
        find_local, find_foreign = self._lane.local.find, self._lane.foreign.find
        known, admit = self._clients.known, self._clients.admit
        limited, find_allowance = self._clients.rate > 0, self._clients.allowance
        for _ in range(BATCH):
            try:
                packet, ancillary, _flags, peer = receive(MAX_QUERY, ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                continue
            source = self._source(ancillary)
            if peer[0] not in known and not admit(peer[0]):
                self._refuse(packet, peer[0], partial(self._send, peer, source))
                continue
            if limited:
                allowance = known.get(peer[0]) or find_allowance(peer[0])
                allowance.left -= 1
                if allowance.left < 0:
                    self._limit(packet, allowance, partial(self._send, peer, source))
                    continue
            key = packet[2:]
            entry = find_local(key) or find_foreign(key)
            reply = next(entry.replies, None) if entry is not None else None
            if entry is None or reply is None:
                self._responder.respond(packet, self._lane, partial(self._send, peer, source))
                continue
            entry.hits += 1
            try:
                send((packet[:2], reply), source, 0, peer)
            except OSError as error:
                self._failed(error)

    def _refuse(self, packet: bytes, host: str, send: Send) -> None:
        """Refuse a stranger, as often as its network is allowed replies."""
        allowance = self._clients.allowance(host)
        allowance.left -= 1
        if allowance.left < 0:
            self._stats.limited[DROP] += 1
        else:
            self._responder.refuse(packet, self._lane, send)

    def _limit(self, packet: bytes, allowance: Allowance, send: Send) -> None:
        """Give every second reply that is too many as one without records, with TC, the others not at all.

        A client that was not forged so gets through to TCP, and forged questions bring less than was sent: what BIND
        and NSD call response rate limiting with a slip of 2.
        """
        if allowance.left % SLIP == 0 and self._responder.slip(packet, self._lane, send):
            self._stats.limited[SLIPPED] += 1
        else:
            self._stats.limited[DROP] += 1

    def _source(self, ancillary: Ancillary) -> Ancillary:
        """Return control data that sends from the address a packet came to."""
        if not ancillary:
            return ancillary
        received = ancillary[0][2]
        source = self._sources.get(received)
        if source is None:
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
            self._sources[received] = source = _reversed(ancillary)
        return source

    def _send(self, peer: Any, source: Ancillary | None, reply: bytes) -> None:
        """Send a reply that was made anew, with others that are made in the same turn, from `source` if one is given.

        To send may mean to wake up a client, which costs more than to make a reply: one that is sent several is woken
        up once.
        """
        self._gathered.append((reply, peer, source))
        if not self._gathering or len(self._gathered) >= GATHERED:
            self._flush()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        for reply, peer, source in gathered:
            try:
                if source is None:
                    self._sock.sendto(reply, peer)
                else:
                    self._sock.sendmsg((reply,), source, 0, peer)
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Count a packet that could not be received or sent: a full buffer, a peer that went away."""
        reason = "udp_blocked" if isinstance(error, BlockingIOError) else "udp_error"
        self._stats.dropped[reason] += 1
        log.debug("DNS over UDP: %s", error)


def _ask_for_destination(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _reversed(ancillary: Ancillary) -> Ancillary:
    """Return control data that sends from the address a packet was received on, by whatever interface."""
    sources: Ancillary = []
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, _ = _IN_PKTINFO.unpack(data)
            sources.append((level, kind, _IN_PKTINFO.pack(0, local, b"\0\0\0\0")))
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            local, interface = _IN6_PKTINFO.unpack(data)
            # A link-local address means nothing without its interface.
            kept = interface if local[:2] == b"\xfe\x80" else 0
            sources.append((level, kind, _IN6_PKTINFO.pack(local, kept)))
    return sources
