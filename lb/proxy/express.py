"""The exchange of nearly every request: nothing special about it, a kept connection at hand, a reply in one piece.

What is looked up and judged here are whole heads that were seen before, so that it takes a few steps rather than a
state machine. Whatever else happens is not judged here: the request is handed over, as it stands, to an `HttpExchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.endpoint import Endpoint
from lb.deadlines import NEVER
from lb.http1.head import HEAD_END
from lb.proxy.accounting import log_request
from lb.proxy.http_exchange import HttpExchange
from lb.proxy.http_request import Request
from lb.proxy.reply import seen_heads
from lb.upstream.connection import UpstreamConnection
from lb.upstream.idle import IdlePool

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession

_seen = seen_heads.recent.get


class Express:
    """One kept connection and the request on it; the connection's user and, between times, its companion.

    The request is `plain` and has no octet but its head. While it is here, the client's connection is writable, and the
    instance has said nothing.
    """

    __slots__ = ("connection", "endpoint", "pool", "request", "request_id", "session", "started")

    session: HttpSession
    request: Request
    started: float

    body_done = True

    def __init__(self, connection: UpstreamConnection, endpoint: Endpoint) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.pool: IdlePool = endpoint.pool
        self.request_id = b""

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User: as a rule the whole reply, under a head that was seen before."""
        end = data.find(HEAD_END)
        head = _seen(data[:end]) if end > 0 else None
        if head is None or end + head.express != len(data):
            self.hand_over().upstream_data(connection, data)
            return
        session, request, endpoint, pool = self.session, self.request, self.endpoint, self.pool
        context = session.context
        end += len(HEAD_END)
        context.outbox.write(session.transport, (head.last_wire if request.last else head.wire) + data[end:])
        now = context.time()
        if connection.requests < pool.longest_use and len(pool.idle) < pool.room and pool.deadline != NEVER:
            connection.user = pool
            pool.idle[connection] = now
        else:
            pool.give(connection)
        endpoint.active -= 1
        if endpoint.fails:
            request.target.group.credit(endpoint)
        seconds = now - self.started
        request.target.stats.succeed(head.status, seconds, len(data) - end)
        if context.access_log is not None:
            log_request(
                session,
                request,
                head.status,
                len(data) - end,
                seconds,
                request_id=self.request_id,
                endpoint=endpoint,
                tries=1,
                upstream_seconds=seconds,
            )
        if request.last:
            session.exchange_done(keep_alive=False)
        else:
            session.answered(now)

    def hand_over(self) -> HttpExchange:
        """Let an exchange that is up to anything go on from here."""
        exchange = HttpExchange(self.session, self.request, self.started)
        self.session.exchange = exchange
        exchange.take_over(self.connection, self.endpoint, self.request_id)
        return exchange

    # Whatever is no reply

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """See User."""
        self.hand_over().upstream_eof(connection)

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """See User."""
        self.hand_over().upstream_lost(connection, error)

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User."""
        self.hand_over().upstream_paused(connection)

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User: it was never paused in here."""

    def client_data(self, data: bytes) -> bytes:
        """Take nothing: there is no body."""
        return data

    def client_lost(self) -> None:
        """The client left before its reply was out."""
        self.hand_over().client_lost()

    def client_paused(self) -> None:
        """The client does not read what it got before."""
        self.hand_over().client_paused()

    def client_resumed(self) -> None:
        """The client reads: it was never paused in here."""

    def on_deadline(self) -> None:
        """The instance did not answer in time."""
        self.hand_over().on_deadline()


def begin(session: HttpSession, request: Request) -> None:
    """Send a plain request that has no octet but its head."""
    context = session.context
    target = request.target
    now = context.time()
    target.stats.active += 1
    endpoint = target.group.acquire((), now, session.remote)
    connection: UpstreamConnection | None = None if endpoint is None else endpoint.pool.take()
    if endpoint is None or connection is None:
        exchange = session.exchange = HttpExchange(session, request, now)
        exchange.start_at(endpoint)
        return
    express = connection.companion
    if express is None:
        express = connection.companion = Express(connection, endpoint)
    head = request.before + session.forwarded
    if context.ids is not None:
        express.request_id = identity = request.request_id or context.ids.fresh()
        head += context.ids.line(identity)
    express.session = session
    express.request = request
    express.started = now
    connection.user = express
    connection.requests += 1
    session.exchange = express
    session.deadline = when = now + context.read_timeout
    if when < session.filed:
        context.deadlines.file(session)
    context.outbox.write(connection.transport, head + request.after)
