"""One client connection of a TCP or TLS service: pick, connect, relay (nginx's stream module)."""

from __future__ import annotations

import asyncio
from typing import cast

from lb.deadlines import NEVER
from lb.errors import UpstreamError
from lb.proxy.attempts import Attempts
from lb.proxy.context import TcpContext
from lb.proxy.relay import Relay, reset
from lb.proxy.targets import TcpTarget
from lb.upstream.connection import UpstreamConnection
from lb.upstream.dial import connect_timeout
from lb.wire.proxyprotocol import Ends, write_proxy_header


class TcpSession(Relay):
    """First connecting, then relaying. `ends` are the client's, told by a PROXY header; else its connection's own hold.

    Only the connect phase is judged, and success is credited as soon as it is over: the rules of nginx's stream module.
    """

    __slots__ = ("_attempts", "_context", "_ends", "_started", "_target")

    _attempts: Attempts

    def __init__(self, context: TcpContext, target: TcpTarget, ends: Ends | None = None) -> None:
        super().__init__(context.deadlines, context.idle_timeout, target.stats, TcpSession._relay_ended)
        self._context = context
        self._target = target
        self._ends = ends
        self._started = context.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        context = self._context
        self.client = cast(asyncio.Transport, transport)
        context.sessions.add(self)
        context.stats.accept()
        self._target.stats.open()
        peer = self._ends.source if self._ends else transport.get_extra_info("peername")
        self._attempts = Attempts(context.loop, self._target, peer[0] if peer else "")
        self._next()

    def _next(self) -> None:
        self._context.deadlines.set(self, self._context.upstream.connect_timeout)
        self._attempts.next(self)

    def connected(self, connection: UpstreamConnection) -> None:
        """See Attempting."""
        self._attempts.succeeded()
        version = self._target.route.proxy_protocol
        if version:
            connection.transport.write(write_proxy_header(version, self._ends or _own_ends(self.client)))
        self.join(self.client, connection)

    def connect_failed(self, error: UpstreamError) -> None:
        """See Attempting."""
        self._attempts.fail(error)
        self._next()

    def exhausted(self, error: UpstreamError) -> None:
        """See Attempting: there is nobody to talk to, and a closed connection is all that TCP can say."""
        self._finish(error.kind)
        self.client.close()

    def on_deadline(self) -> None:
        """See `Deadlines`."""
        if self._attempts.dialing:
            self.connect_failed(connect_timeout())
        else:
            super().on_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: while connecting, the client has left."""
        if self.upstream is None:
            self._finish("client_left")
        else:
            super().connection_lost(exc)

    def drain(self, patience: float) -> None:
        """Nothing changes: it may last its time."""

    @property
    def silent_since(self) -> float:
        """NEVER: what silence means is between the client and the instance."""
        return NEVER

    def close_silent(self) -> bool:
        """See `silent_since`: it is not closed."""
        return False

    def abort(self) -> None:
        """End it at once: the time to drain is over."""
        if self.upstream is None:
            self._finish("aborted")
            reset(self.client)
        else:
            super().abort()

    @staticmethod
    def _relay_ended(relay: Relay) -> None:
        cast(TcpSession, relay)._finish(relay.result)

    def _finish(self, result: str) -> None:
        """Account for the end, once."""
        context = self._context
        if self not in context.sessions:
            return
        context.sessions.discard(self)
        context.deadlines.cancel(self)
        self._attempts.cancel()
        self._target.stats.close(result, context.loop.time() - self._started)
        context.stats.leave()


def _own_ends(transport: asyncio.Transport) -> Ends | None:
    """The ends of a client's connection; None if it is gone already, and the kernel does not tell any more."""
    peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
    return Ends(peer[:2], own[:2]) if peer and own else None
