"""What a connection begins with, before there is a session for it: a PROXY header, a TLS ClientHello."""

from __future__ import annotations

import asyncio
import functools
from ipaddress import ip_address
from typing import ClassVar, Protocol, cast

from lb.deadlines import NEVER, Timed
from lb.errors import WireError
from lb.proxy.balancer import Balancer
from lb.proxy.context import HttpContext, TcpContext
from lb.proxy.relay import has_unread, reset
from lb.proxy.tcp_session import TcpSession
from lb.settings import ProxyProtocolSettings, TlsSettings
from lb.wire.clienthello import ClientHelloReader
from lb.wire.proxyprotocol import Ends, parse_proxy_header


class Make(Protocol):
    """Makes the protocol of a connection; without `ends` its own addresses hold."""

    def __call__(self, ends: Ends | None = None) -> asyncio.Protocol:
        """Make it."""


def admitting(context: HttpContext | TcpContext, settings: ProxyProtocolSettings, make: Make) -> Make:
    """Return what makes the protocols of a listener that takes PROXY headers: `make` itself if nobody may send one."""
    if not settings.networks:
        return make
    return cast(Make, functools.partial(ProxyIntake, context, settings, make))


class Intake(asyncio.Protocol):
    """The protocol of a connection until its beginning was read; then its heir has it.

    A connection whose beginning is wrong, late (`timeout` seconds) or cut short is closed and counted by kind.
    """

    __slots__ = ("_buffer", "_context", "_draining", "_timeout", "_transport", "bucket", "deadline", "filed")

    late: ClassVar[str]
    """The kind of a connection whose beginning did not come in time."""

    def __init__(self, context: HttpContext | TcpContext, timeout: float) -> None:
        self._context = context
        self._timeout = timeout
        self._buffer = bytearray()
        self._draining = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.deadline = NEVER
        self.filed = NEVER
        self.bucket: set[Timed] | None = None

    def read(self, buffer: bytearray) -> tuple[asyncio.Protocol, int] | None:
        """Return the heir and how many octets of `buffer` are not its own, or None while more is needed.

        Raises WireError.
        """
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        context = self._context
        self._transport = cast(asyncio.Transport, transport)
        context.sessions.add(self)
        context.stats.accept()
        context.deadlines.set(self, self._timeout)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        try:
            found = self.read(self._buffer)
        except WireError as error:
            self._turn_away(error.kind)
        else:
            if found is not None:
                heir, taken = found
                self.hand_over(heir, bytes(self._buffer[taken:]))

    def hand_over(self, heir: asyncio.Protocol, data: bytes = b"") -> None:
        """Give the connection to its heir, and what came of the client's own words."""
        self._leave()
        self._context.stats.accepted -= 1  # the heir counts it anew, at once
        self._transport.set_protocol(heir)
        heir.connection_made(self._transport)
        if data and not self._transport.is_closing():
            heir.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: whoever has closed its side before there is a session has left, too."""
        if self in self._context.sessions:
            self._turn_away("client_left")

    def on_deadline(self) -> None:
        """See `Deadlines`."""
        if not self._draining:
            self._turn_away(self.late)
        elif self._buffer or has_unread(self._transport):
            self._draining = False
            self._context.deadlines.set(self, self._timeout)  # it has begun: it has its time
        else:
            self._turn_away("draining")

    def drain(self, patience: float) -> None:
        """Who has said nothing for `patience` seconds is closed; whose beginning is under way may go on."""
        since = self.silent_since
        if since != NEVER:
            self._draining = True
            self._context.deadlines.set(self, min(self.deadline, since + patience) - self._context.loop.time())

    @property
    def silent_since(self) -> float:
        """Loop time at which the client came; NEVER once it has said something."""
        return NEVER if self._buffer else self.deadline - self._timeout

    def close_silent(self) -> bool:
        """Close, as nothing was said yet; tells whether it did: what is here already is read first."""
        if has_unread(self._transport):
            return False
        self._turn_away("no_room")
        return True

    def abort(self) -> None:
        """End it at once: the time to drain is over."""
        self._turn_away("aborted")
        reset(self._transport)

    def _turn_away(self, kind: str) -> None:
        self._context.stats.turn_away(kind)
        self._leave()
        self._transport.close()

    def _leave(self) -> None:
        self._context.sessions.discard(self)
        self._context.deadlines.cancel(self)
        self._context.stats.leave()


class ProxyIntake(Intake):
    """Reads the PROXY header of a connection from a network that sends them; of any other it reads nothing."""

    __slots__ = ("_make", "_settings")

    late = "late_proxy_header"

    def __init__(self, context: HttpContext | TcpContext, settings: ProxyProtocolSettings, make: Make) -> None:
        super().__init__(context, settings.timeout)
        self._settings = settings
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if peer is None or not self._trusted(peer[0]):
            self.hand_over(self._make())

    def _trusted(self, host: str) -> bool:
        address = ip_address(host)
        return any(address in network for network in self._settings.networks)

    def read(self, buffer: bytearray) -> tuple[asyncio.Protocol, int] | None:
        """See Intake."""
        header = parse_proxy_header(buffer, limit=self._settings.max_size)
        return None if header is None else (self._make(header.ends), header.size)


class HelloIntake(Intake):
    """Reads the ClientHello of a TLS connection, which goes on unchanged to the service that it names."""

    __slots__ = ("_balancer", "_ends", "_reader", "_tcp")

    late = "late_hello"

    def __init__(
        self, context: TcpContext, balancer: Balancer, settings: TlsSettings, ends: Ends | None = None
    ) -> None:
        super().__init__(context, settings.hello_timeout)
        self._tcp = context
        self._balancer = balancer
        self._ends = ends
        self._reader = ClientHelloReader(limit=settings.max_hello)

    def read(self, buffer: bytearray) -> tuple[asyncio.Protocol, int] | None:
        """See Intake."""
        hello = self._reader.read(buffer)
        if hello is None:
            return None
        if not hello.server_name:
            raise WireError("no_server_name", "a ClientHello without a server name")
        target = self._balancer.tls(hello.server_name)
        if target is None:
            raise WireError("unknown_server_name", "a server name that no service has")
        return TcpSession(self._tcp, target, self._ends), 0
