"""The exchange of nearly every request: nothing special about it, a kept connection at hand, a reply in one piece.

What is looked up and judged here are whole heads that were seen before, so that it takes a few steps rather than a
state machine. Whatever else happens is not judged here: the request is handed over, as it stands, to an `HttpExchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.endpoint import Endpoint
from lb.balance.group import Outcome
from lb.deadlines import NEVER
from lb.http1.head import HEAD_END
from lb.proxy.accounting import log_request
from lb.proxy.bulk import LONG, Beginning, BulkReader, Passage
from lb.proxy.http_exchange import HttpExchange
from lb.proxy.http_request import Request
from lb.proxy.outbox import LARGE
from lb.proxy.reply import LONGEST_SEEN, Head, seen_heads
from lb.upstream.connection import UpstreamConnection
from lb.upstream.idle import IdlePool

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession

_SUCCESS = Outcome.SUCCESS
_seen = seen_heads.recent.get


class Express:
    """One kept connection and the request on it; the connection's user and, between times, its companion.

    The request is `plain` and has no octet but its head. While it is here, the client's connection is writable.
    """

    __slots__ = (
        "_head",
        "_left",
        "_reader",
        "connection",
        "endpoint",
        "pool",
        "request",
        "request_id",
        "session",
        "started",
    )

    session: HttpSession
    request: Request
    started: float

    body_done = True

    def __init__(self, connection: UpstreamConnection, endpoint: Endpoint) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.pool: IdlePool = endpoint.pool
        self.request_id = b""
        self._head: Head | None = None  # of a reply whose long body is on its way
        self._left = 0
        self._reader: BulkReader | None = None

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User: as a rule the whole reply, under a head that was seen before."""
        end = data.find(HEAD_END)
        head = _seen(data[:end]) if end > 0 else None
        if head is None or end + head.express != len(data) or len(data) > LARGE:
            self._take_other(connection, data, end, head)
            return
        end += len(HEAD_END)
        session = self.session
        wire = head.last_wire if self.request.last else head.wire
        outbox = session.context.outbox
        if not outbox.scheduled:
            outbox.schedule()
        outbox.replies.append((session.transport, wire + data[end:]))
        self._finish(head.status, len(data) - end)

    def _finish(self, status: int, sent: int) -> None:
        """The reply is out: everybody gets back what is theirs, and the books are closed."""
        session, request, connection = self.session, self.request, self.connection
        endpoint, pool = self.endpoint, self.pool
        context = session.context
        now = context.time()
        if connection.requests < pool.longest_use and len(pool.idle) < pool.room and pool.deadline != NEVER:
            connection.user = pool
            pool.idle[connection] = now
        else:
            pool.give(connection)
        request.target.group.release(endpoint, _SUCCESS, now)
        seconds = now - self.started
        request.target.stats.succeed(status, seconds, sent)
        if context.access_log is not None:
            log_request(
                session,
                request,
                status,
                sent,
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

    # A long body

    def _take_other(self, connection: UpstreamConnection, data: bytes, end: int, head: Head | None) -> None:
        """Take what is no whole reply: the beginning of a long one, under a `head` seen before, or somebody else's."""
        left = 0 if head is None or not head.express else end + head.express - len(data)
        if head is None or left < LONG:
            self.hand_over().upstream_data(connection, data)
            return
        session = self.session
        session.context.outbox.flush()
        if session.exchange is not self:
            connection.user.upstream_data(connection, data)  # the client takes no more: handed over
            return
        self.request.long = True
        self._head, self._left = head, head.length
        content = memoryview(data)[end + len(HEAD_END) :]
        if not session.transport.is_closing():
            self._reader = reader = BulkReader(session.context.basin, self.connection.transport, self._passage(head))
            reader.send(content, head.last_wire if self.request.last else head.wire)

    def _passage(self, head: Head) -> Passage:
        return Passage(self.session.transport, head.length, self._passed)

    def expect_long(self) -> None:
        """As the reply to this request was long before, read it in bulk from its first octet."""
        self._reader = BulkReader(self.session.context.basin, self.connection.transport, self._judge)

    def _judge(self, view: memoryview) -> Beginning | None:
        """See BulkReader: whether it is a long reply again, under a head that was seen before."""
        start = bytes(view[:LONGEST_SEEN])
        end = start.find(HEAD_END)
        head = _seen(start[:end]) if end > 0 else None
        size = end + len(HEAD_END)
        session = self.session
        session.context.outbox.flush()
        if head is None or not LONG <= head.length >= len(view) - size or not head.express or self._may_not_begin():
            self.request.long = False
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.stop()
            self.connection.data_received(bytes(view))
            return None
        self._head, self._left = head, head.length
        return Beginning(size, head.last_wire if self.request.last else head.wire, self._passage(head))

    def _may_not_begin(self) -> bool:
        """Whether somebody else has taken over, or the client takes no more."""
        return self.session.exchange is not self or self.session.transport.is_closing()

    def _passed(self, octets: int) -> None:
        self._left -= octets
        head = self._head
        if self._left:
            self.session.context.deadlines.set(self.session, self.session.context.read_timeout)
        elif head is not None:
            self._head = self._reader = None
            self._finish(head.status, head.express - len(HEAD_END))

    def hand_over(self) -> HttpExchange:
        """Let an exchange that is up to anything go on from here."""
        exchange = HttpExchange(self.session, self.request, self.started)
        self.session.exchange = exchange
        exchange.take_over(self.connection, self.endpoint, self.request_id)
        head, self._head = self._head, None
        if head is not None:
            exchange.take_over_reply(head, self._left, self._reader)
            self._reader = None
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
    stats = target.stats
    stats.active += 1
    if stats.calm:
        stats.touch()
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
    outbox = context.outbox
    if not outbox.scheduled:
        outbox.schedule()
    outbox.requests.append((connection.transport, head + request.after))
    if request.long:
        express.expect_long()
