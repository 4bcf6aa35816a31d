"""One request and its response, over as many attempts as nginx's rules allow.

The request's octets are kept while they are few, so that another instance can be asked when one fails before it
has answered. An exchange ends in exactly one way: the reply went out whole (`_complete`), an error page did
(`_answer`), the reply was cut short (`_cut`), the client left (`client_lost`), or the connection became a tunnel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.endpoint import Endpoint
from lb.balance.group import Outcome
from lb.errors import ProtocolError, UpstreamError
from lb.proxy import hold
from lb.proxy.accounting import account
from lb.proxy.attempts import Attempts
from lb.proxy.bulk import BulkReader, Passage, pass_on
from lb.proxy.http_request import Outgoing, Request
from lb.proxy.outbox import Octets
from lb.proxy.refusal import tell_failed
from lb.proxy.reply import Head, Reply
from lb.proxy.tunnel import open_tunnel
from lb.upstream.connection import UpstreamConnection
from lb.upstream.dial import connect_timeout

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLIENT_LEFT = 499  # nginx's own status, for log and counters only


class HttpExchange:
    """The user of an upstream connection for the time of one request (`User` and `Attempting`).

    `sent` counts all that went to the client for it, interim responses and the reply's head among them until `account`
    takes them off. `asked` and `started` are loop times: when a request was last sent to an instance (None: not yet),
    and when the exchange began. `request_id` is empty where none is wanted.
    """

    __slots__ = (
        "_connection",
        "_reused",
        "_unsent",
        "asked",
        "attempts",
        "context",
        "outgoing",
        "reply",
        "request",
        "request_id",
        "sent",
        "session",
        "started",
    )

    attempts: Attempts
    outgoing: Outgoing

    def __init__(self, session: HttpSession, request: Request, now: float) -> None:
        self.session = session
        self.context = session.context
        self.request = request
        self.request_id = b""
        self.started = now
        self._connection: UpstreamConnection | None = None
        self._reused = False
        self._unsent = 0  # what the instance did not take yet, when last looked at; 0 while it takes everything
        self.reply: Reply | None = None
        self.asked: float | None = None
        self.sent = 0

    @property
    def body_done(self) -> bool:
        """Whether the client has sent all of the request."""
        return self.outgoing.done

    # The request

    def start(self, buffer: bytes, end: int) -> bytes:
        """Send the request, whose head ends at `end` of the buffer; returns what of that is not its own.

        Raises ProtocolError, before anything was sent, for a body that no instance may see.
        """
        block = self.request.block
        self._prepare()
        waits = bool(block.expect_continue and block.has_body and self.request.line.minor and end == len(buffer))
        if block.has_body:
            end = self.outgoing.take(buffer, end)
        self.request.target.stats.begin()
        self._next()
        if waits and self.attempts.endpoint is not None:
            self.context.outbox.write(self.session.transport, _CONTINUE)
        return buffer[end:]

    def start_at(self, endpoint: Endpoint | None) -> None:
        """Send a request without a body, counted as active, to the endpoint that its group has given."""
        self._prepare()
        self._sent_or_dialed(self.attempts.ask(endpoint, self))

    def take_over(self, connection: UpstreamConnection, endpoint: Endpoint, request_id: bytes) -> None:
        """Go on with a request without a body that was sent over a kept connection, and not answered."""
        self.request_id = request_id
        self._prepare()
        self.attempts.hold(endpoint)
        connection.user = self
        self._on(connection, reused=True)
        self.asked = self.started

    def take_over_reply(self, head: Head, left: int, reader: BulkReader | None) -> None:
        """Go on with a reply of which all but `left` octets went out; `reader` passes on those."""
        assert self.reply is not None
        self.reply.resume(head, left)
        self.reply.keep_alive = not self.request.last  # as the head has told
        self.sent = head.length - left
        if reader is not None:
            reader.passed = self._reply_passed

    def _prepare(self) -> None:
        """Write the head as an instance gets it. Raises ProtocolError for a body that is announced as too large."""
        request, ids = self.request, self.context.ids
        head = request.before + self.session.forwarded
        if ids is not None:
            self.request_id = self.request_id or request.request_id or ids.fresh()
            head += ids.line(self.request_id)
        self.outgoing = Outgoing(head + request.after, request.block, self.context.settings.max_body)
        self.attempts = Attempts(self.context.loop, request.target, self.session.remote)

    def client_data(self, data: bytes) -> bytes:
        """Take body octets that came from the client; returns what follows the body."""
        try:
            end = self.outgoing.take(data)
        except ProtocolError as error:
            self._answer(error.status, error.reason)
            return b""
        rest = data[end:]
        if self._connection is not None:
            self.context.outbox.ask(self._connection.transport, data[:end] if rest else data)
            self.outgoing.forget_if_long()
            self._wait()
            self._read_body_in_bulk()
        elif self.outgoing.long:
            self.session.hold(hold.DIALING)
        return rest

    def _read_body_in_bulk(self) -> None:
        """Let the rest of a long body go straight to the instance."""
        if self._connection is not None and self.outgoing.kept is None:
            passage = Passage(self._connection.transport, self.outgoing.left, self._body_passed)
            pass_on(self.context, self.session.transport, passage)

    def _body_passed(self, octets: int) -> None:
        self.outgoing.skip(octets)
        self._wait()

    # Attempts

    def _next(self) -> None:
        self._sent_or_dialed(self.attempts.next(self))

    def _sent_or_dialed(self, connection: UpstreamConnection | None) -> None:
        if connection is not None:
            self._send(connection, reused=True)
        elif self.attempts.dialing:
            self.context.deadlines.set(self.session, self.context.upstream.connect_timeout)

    def connected(self, connection: UpstreamConnection) -> None:
        """See Attempting."""
        self._send(connection, reused=False)

    def _send(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Send what is there of the request."""
        outgoing = self.outgoing
        assert outgoing.kept is not None
        connection.requests += 1
        self._on(connection, reused=reused)
        for piece in outgoing.kept:
            self.context.outbox.ask(connection.transport, piece)
        outgoing.forget_if_long()
        self.asked = self._wait()
        if self.request.block.has_body:
            self.session.release(hold.DIALING)
            self._read_body_in_bulk()

    def _on(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Wait for the reply of this connection."""
        request = self.request
        keep_alive = self.session.keeps_alive(request.line.minor, request.block.persistent)
        self._connection = connection
        self._reused = reused
        self.reply = Reply(request.line.method, request.line.minor, keep_alive, request.upgrade)

    def connect_failed(self, error: UpstreamError) -> None:
        """See Attempting: nothing was sent, so any request may go to the next."""
        self.request.target.stats.attempt(error.kind)
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
            self.request.target.stats.attempt(error.kind)
            self._cut()
            return
        # An illegal reply is the end, as in nginx: the instance has taken the request, and said something.
        may_repeat = self.outgoing.kept is not None and self.request.repeatable and error.kind != "bad_head"
        if self._reused and may_repeat and error.kind in ("closed", "reset"):
            self.context.deadlines.set(self.session, self.context.upstream.connect_timeout)
            self.attempts.redial(self)
            return
        self.request.target.stats.attempt(error.kind)
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
        if not self.outgoing.done or (self.context.draining and not reply.status):
            # A reply that comes early is the last one, too: what the client still sends is no next request. Of a drain
            # a client has to be told, by a head: after one that has gone out already it may ask once more.
            reply.keep_alive = False
        try:
            pieces = reply.feed(data, self.context.date)
        except ProtocolError as error:
            self._attempt_failed(UpstreamError("bad_head", error.reason))
            return
        for piece in pieces:
            self._tell(piece)
        if reply.done:
            self._complete()
            return
        self._wait()
        if self.session.writable:
            passage = Passage(self.session.transport, reply.left, self._reply_passed)
            pass_on(self.context, connection.transport, passage)

    def _reply_passed(self, octets: int) -> None:
        """Some of a long body went straight to the client."""
        reply = self.reply
        assert reply is not None
        self.sent += octets
        reply.skip(octets)
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

    def _tell(self, data: Octets) -> None:
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
        elif not self.outgoing.done:
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
        elif not self.outgoing.done:
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
        self.request.target.stats.attempt("ok")
        if reply.switched:
            open_tunnel(self, connection, reply.surplus, blocked=bool(self._unsent))
            return
        pool = self.attempts.pool
        if reply.persistent and not reply.surplus and self._request_is_out(connection):
            if not session.writable:
                connection.transport.resume_reading()
            pool.give(connection)
        else:
            pool.dismiss(connection)
        account(self, reply.status, Outcome.SUCCESS)
        if self.outgoing.done:
            session.exchange_done(reply.keep_alive)
        else:
            session.linger()

    def _request_is_out(self, connection: UpstreamConnection) -> bool:
        """Whether the instance has the whole body: a reply can overtake its end."""
        if not self.request.block.has_body:
            return True
        self.context.outbox.flush()
        return self.outgoing.done and not connection.transport.get_write_buffer_size()

    def _answer(self, status: int, reason: str) -> None:
        """Answer with a page of our own, or cut the reply if one is already on its way."""
        if self.reply is not None and self.reply.status:
            self._cut()
            return
        self._drop_upstream()
        session, line, block = self.session, self.request.line, self.request.block
        keep_alive = self.outgoing.done and session.keeps_alive(line.minor, block.persistent)
        self.sent += tell_failed(session, line, status, reason, keep_alive=keep_alive)
        account(self, status)
        if self.outgoing.done:
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
