"""One request and its response, over as many attempts as nginx's rules allow.

The request's octets are kept while they are few, so that another instance can be asked when one fails before it
has answered. An exchange ends in exactly one way: the reply went out whole (`_complete`), an error page did
(`_answer`), the reply was cut short (`_cut`), the client left (`client_lost`), or the connection became a tunnel
(`_switch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.group import Outcome
from lb.errors import ProtocolError, UpstreamError
from lb.http1.head import RequestBlock
from lb.http1.target import RequestLine
from lb.proxy import hold
from lb.proxy.accounting import account
from lb.proxy.attempts import Attempts
from lb.proxy.balancer import HttpTarget
from lb.proxy.http_request import KEEP_OCTETS, RequestBody, forwarded_head, is_repeatable, upgrade_of
from lb.proxy.pages import page
from lb.proxy.relay import Relay
from lb.proxy.reply import Reply
from lb.upstream.connection import UpstreamConnection
from lb.upstream.dial import connect_timeout

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLIENT_LEFT = 499  # nginx's own status, for log and counters only


class HttpExchange:
    """The user of an upstream connection for the time of one request (`User` and `Attempting`).

    `received` counts the octets of the request's body, `sent` all that went to the client for it, interim responses
    and the reply's head among them until `account` takes them off. `asked` and `started` are loop times: when a
    request was last sent to an instance (None: not yet), and when the exchange began.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_kept",
        "_reused",
        "_unsent",
        "asked",
        "attempts",
        "block",
        "body_done",
        "context",
        "line",
        "received",
        "reply",
        "sent",
        "session",
        "started",
        "target",
    )

    attempts: Attempts

    def __init__(self, session: HttpSession, line: RequestLine, block: RequestBlock, target: HttpTarget) -> None:
        self.session = session
        self.context = session.context
        self.line = line
        self.block = block
        self.target = target
        self.started = session.context.loop.time()
        self._kept: bytes | None = None  # the request so far; None, too, once it is too much to keep
        self._connection: UpstreamConnection | None = None
        self._reused = False
        self._unsent = 0  # what the instance did not take yet, when last looked at; 0 while it takes everything
        self._body: RequestBody | None = None
        self.reply: Reply | None = None
        self.asked: float | None = None
        self.received = 0
        self.sent = 0
        self.body_done = True

    # The request

    def start(self, rest: bytes) -> bytes:
        """Send the request, whose body begins `rest`; returns what of `rest` is not its own.

        Raises ProtocolError, before anything was sent, for a body that no instance may see.
        """
        session, line, block = self.session, self.line, self.block
        self._kept = forwarded_head(line, block, session.forwarded)
        waits = False
        if block.has_body:
            self._body = RequestBody(block.content_length, self.context.settings.max_body)
            self.body_done = False
            waits = bool(block.expect_continue and line.minor and not rest)
            rest = self._take(rest)
        self.target.stats.active += 1
        self.attempts = Attempts(self.context.loop, self.target, session.remote)
        self._next()
        if waits and self.attempts.endpoint is not None:
            self.context.outbox.write(session.transport, _CONTINUE)
        return rest

    def _take(self, data: bytes) -> bytes:
        """Follow the body through `data`, keep it; returns what lies behind it. Raises ProtocolError."""
        body = self._body
        assert body is not None
        end = body.take(data)
        self.body_done = body.done
        self.received += end
        if self._kept is not None:
            self._kept += data if end == len(data) else data[:end]
        return data[end:]

    def client_data(self, data: bytes) -> bytes:
        """Take body octets that came from the client; returns what follows the body."""
        try:
            rest = self._take(data)
        except ProtocolError as error:
            self._answer(error.status, error.reason)
            return b""
        if self._connection is not None:
            mine = data[: len(data) - len(rest)] if rest else data
            self.context.outbox.write(self._connection.transport, mine)
            self._keep_short()
            self._wait()
        elif self._kept is not None and len(self._kept) > KEEP_OCTETS:
            self.session.hold(hold.DIALING)
        return rest

    def _keep_short(self) -> None:
        """All of the request so far is sent: forget it if it is too much to keep."""
        if self._kept is not None and len(self._kept) > KEEP_OCTETS:
            self._kept = None

    # Attempts

    def _next(self) -> None:
        connection = self.attempts.next(self)
        if connection is not None:
            self._send(connection, reused=True)
        elif self.attempts.dialing:
            self.context.deadlines.set(self.session, self.context.upstream.connect_timeout)

    def connected(self, connection: UpstreamConnection) -> None:
        """See Attempting."""
        self._send(connection, reused=False)

    def _send(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Send what is there of the request."""
        session, line, block = self.session, self.line, self.block
        assert self._kept is not None
        self._connection = connection
        self._reused = reused
        connection.requests += 1
        keep_alive = session.keeps_alive(line.minor, block.persistent)
        self.reply = Reply(line.method, line.minor, keep_alive, upgrade_of(line, block) if block.upgrade else b"")
        self.context.outbox.write(connection.transport, self._kept)
        if self._body is not None:
            self._keep_short()
            session.release(hold.DIALING)
        self.asked = self._wait()

    def connect_failed(self, error: UpstreamError) -> None:
        """See Attempting: nothing was sent, so any request may go to the next."""
        self.target.stats.attempt(error.kind)
        self.attempts.fail(error)
        self._next()

    def exhausted(self, error: UpstreamError) -> None:
        """See Attempting."""
        self._answer(error.status, str(error))

    def _attempt_failed(self, error: UpstreamError) -> None:
        """An attempt failed after the connection was made."""
        connection, self._connection = self._connection, None
        reply = self.reply
        assert connection is not None
        assert reply is not None
        self.attempts.pool.dismiss(connection)
        self._unsent = 0
        self.session.release(hold.UPSTREAM)
        if reply.status:
            self.target.stats.attempt(error.kind)
            self._cut()
            return
        may_repeat = self._kept is not None and is_repeatable(self.line.method)
        if self._reused and may_repeat and error.kind in ("closed", "reset"):
            self.context.deadlines.set(self.session, self.context.upstream.connect_timeout)
            self.attempts.redial(self)
            return
        self.target.stats.attempt(error.kind)
        self.attempts.fail(error)
        if may_repeat:
            self._next()
        else:
            self._answer(error.status, str(error))

    # What the upstream connection tells

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User: part of the response."""
        reply = self.reply
        assert reply is not None
        if not self.body_done or self.context.draining:
            # A reply that comes early is the last one, too: what the client still sends is no next request.
            reply.keep_alive = False
        try:
            out = reply.feed(data, self.context.date)
        except ProtocolError as error:
            self._attempt_failed(UpstreamError("bad_head", error.reason))
            return
        if out:
            self._tell(out)
        if reply.done:
            self._complete()
        else:
            self._wait()

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """See User: the instance has said all it will say."""
        reply = self.reply
        assert reply is not None
        if not reply.end():
            self._attempt_failed(UpstreamError("closed", "the instance closed the connection without a whole reply"))
            return
        last = reply.last()
        if last:
            self._tell(last)
        self._complete()

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """See User."""
        if error is None:
            self.upstream_eof(connection)
        else:
            self._attempt_failed(UpstreamError("reset", "the instance reset the connection"))

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User: let the client wait, too."""
        self._unsent = connection.transport.get_write_buffer_size()
        self.session.hold(hold.UPSTREAM)
        self._wait()

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User."""
        self._unsent = 0
        self.session.release(hold.UPSTREAM)
        self._wait()

    def _tell(self, data: bytes) -> None:
        """Write to the client."""
        self.sent += len(data)
        self.context.outbox.write(self.session.transport, data)

    # What the client's connection tells

    def client_paused(self) -> None:
        """The client reads too slowly: let the instance wait."""
        if self._connection is not None:
            self._wait()

    def client_resumed(self) -> None:
        """The client takes bytes again."""
        if self._connection is not None:
            self._connection.transport.resume_reading()
            self._wait()

    def client_lost(self) -> None:
        """The client left before its reply was out."""
        self._drop_upstream()
        account(self, CLIENT_LEFT)

    # Time

    def _wait(self) -> float:
        """Set the deadline for what is waited for now, and return the loop time.

        An instance is not read from while the client does not read.
        """
        context = self.context
        if not self.session.writable:
            assert self._connection is not None
            self._connection.transport.pause_reading()
            seconds = context.settings.send_timeout
        elif self._unsent:
            seconds = context.upstream.send_timeout
        elif not self.body_done:
            seconds = context.settings.body_timeout
        else:
            seconds = context.upstream.read_timeout
        return context.deadlines.set(self.session, seconds)

    def on_deadline(self) -> None:
        """What was waited for did not come in time; to who takes some of what waits, it is given anew (as in nginx)."""
        if self.attempts.dialing:
            self.connect_failed(connect_timeout())
        elif not self.session.writable:
            if self.session.takes_some():
                self._wait()
            else:
                self._cut()
        elif self._unsent and self._instance_takes_some():
            self._wait()
        elif self._unsent:
            self._attempt_failed(UpstreamError("send_timeout", "the instance did not take the request in time", 504))
        elif not self.body_done:
            self._answer(408, "the request body did not come in time")
        else:
            self._attempt_failed(UpstreamError("read_timeout", "the instance did not answer in time", 504))

    def _instance_takes_some(self) -> bool:
        assert self._connection is not None
        before, self._unsent = self._unsent, self._connection.transport.get_write_buffer_size()
        return self._unsent != before

    # The ends

    def _complete(self) -> None:
        """The reply is out, or the connection is the tunnel's."""
        connection, reply, session = self._connection, self.reply, self.session
        assert connection is not None
        assert reply is not None
        self._connection = None
        self.target.stats.attempt("ok")
        if reply.switched:
            self._switch(connection, reply.surplus)
            return
        pool = self.attempts.pool
        if reply.persistent and not reply.surplus and (self._body is None or self._request_is_out(connection)):
            if not session.writable:
                connection.transport.resume_reading()
            pool.give(connection)
        else:
            pool.dismiss(connection)
        account(self, reply.status, Outcome.SUCCESS)
        if self.body_done:
            session.exchange_done(reply.keep_alive)
        else:
            session.linger()

    def _request_is_out(self, connection: UpstreamConnection) -> bool:
        """Whether the instance has the whole body: a reply can overtake its end."""
        self.context.outbox.flush()
        return self.body_done and not connection.transport.get_write_buffer_size()

    def _answer(self, status: int, reason: str) -> None:
        """Answer with a page of our own, or cut the reply if one is already on its way."""
        if self.reply is not None and self.reply.status:
            self._cut()
            return
        self._drop_upstream()
        session, line, context = self.session, self.line, self.context
        keep_alive = self.body_done and session.keeps_alive(line.minor, self.block.persistent)
        head = line.method == b"HEAD"
        out = page(status, reason, date=context.date(), close=not keep_alive, minor=line.minor, head=head)
        self.sent += len(out.body)
        context.outbox.write(session.transport, out.head + out.body)
        account(self, status)
        if self.body_done:
            session.exchange_done(keep_alive)
        else:
            session.linger()

    def _cut(self) -> None:
        """End a reply that cannot be finished, so that the client sees that it is not whole."""
        reply = self.reply
        assert reply is not None
        self._drop_upstream()
        account(self, reply.status or CLIENT_LEFT)
        self.session.cut(delimited=reply.delimited)

    def _drop_upstream(self) -> None:
        connection, self._connection = self._connection, None
        self.attempts.cancel_dial()
        if connection is not None:
            self.attempts.pool.dismiss(connection)

    def _switch(self, connection: UpstreamConnection, surplus: bytes) -> None:
        """Both sides agreed on another protocol: from here on bytes only pass through."""
        self.context.outbox.flush()
        tunnel = Relay(self.context.deadlines, self.context.upstream.read_timeout, self, self._tunnel_ended)
        tunnel.join(self.session.transport, connection)
        self.session.become(tunnel)
        if self._unsent:
            tunnel.upstream_paused(connection)
        if not self.session.writable:
            tunnel.pause_writing()
        if surplus:
            tunnel.upstream_data(connection, surplus)

    def _tunnel_ended(self, _tunnel: Relay) -> None:
        self.session.gone()
        account(self, 101, Outcome.SUCCESS)
