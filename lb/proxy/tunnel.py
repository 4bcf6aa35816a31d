"""An exchange whose two sides agreed on another protocol: from here on bytes only pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.group import Outcome
from lb.proxy.accounting import account
from lb.proxy.relay import Relay
from lb.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from lb.proxy.http_exchange import HttpExchange

SWITCHED = 101


class Tunnel:
    """Counts what passes through a tunnel, and closes the books on its exchange when it ends."""

    __slots__ = ("_exchange", "received", "sent")

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange
        self.received = exchange.outgoing.received
        self.sent = exchange.sent

    def ended(self, _relay: Relay) -> None:
        """Both connections are gone."""
        exchange = self._exchange
        exchange.outgoing.received = self.received
        exchange.sent = self.sent
        exchange.session.gone()
        account(exchange, SWITCHED, Outcome.SUCCESS)


def open_tunnel(exchange: HttpExchange, connection: UpstreamConnection, surplus: bytes, *, blocked: bool) -> None:
    """Join the client of an exchange with its instance, which has said `surplus` already.

    `blocked` tells that the instance did not take all that was sent to it yet.
    """
    context, session = exchange.context, exchange.session
    context.outbox.flush()
    tunnel = Tunnel(exchange)
    relay = Relay(context.deadlines, context.upstream.read_timeout, tunnel, tunnel.ended)
    relay.join(session.transport, connection)
    session.become(relay)
    if blocked:
        relay.upstream_paused(connection)
    if not session.writable:
        relay.pause_writing()
    if surplus:
        relay.upstream_data(connection, surplus)
