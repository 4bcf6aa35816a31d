"""One client connection that speaks HTTP/1: reads heads, runs one exchange after the other."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from lb.deadlines import NEVER, Timed
from lb.errors import ProtocolError
from lb.http1.head import CRLF, HEAD_END, RequestBlock, find_head_end
from lb.http1.request import read_request
from lb.http1.target import RequestLine, parse_host, parse_request_line
from lb.proxy import hold
from lb.proxy.balancer import LONGEST_SEEN
from lb.proxy.bulk import BulkReader
from lb.proxy.context import HttpContext
from lb.proxy.express import Express, begin
from lb.proxy.http_exchange import HttpExchange
from lb.proxy.http_request import Request
from lb.proxy.refusal import tell_refused, tell_unrouted
from lb.proxy.relay import Relay, has_unread, reset
from lb.wire.proxyprotocol import Ends

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")

LINGER_TIMEOUT = 5.0  # nginx's lingering_timeout: for the client to say more
LINGER_LONGEST = 30.0  # nginx's lingering_time: in all


class HttpSession(asyncio.Protocol):
    """The protocol of one client connection; `ends` are the client's, told by a PROXY header.

    It is in one of four states: between requests (`exchange` is None: bytes are a head), in an exchange
    (bytes are its body, then the next request's), lingering (the reply is out, bytes are discarded until the
    client closes, so that a reset does not take the reply away), or switched (the connection is a tunnel's).
    """

    __slots__ = (
        "_buffer",
        "_heading",
        "_holds",
        "_linger_until",
        "_lingering",
        "_over",
        "_recall",
        "_scanned",
        "_serving",
        "_switched",
        "_unsent",
        "bucket",
        "context",
        "deadline",
        "exchange",
        "filed",
        "forwarded",
        "remote",
        "served",
        "transport",
        "writable",
    )

    def __init__(self, context: HttpContext, ends: Ends | None = None) -> None:
        self.context = context
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.remote = ends.source[0] if ends is not None else ""
        self.forwarded = b""
        self.served = 0
        self.writable = True
        self.deadline = NEVER
        self.filed = NEVER
        self.bucket: set[Timed] | None = None
        self._buffer = b""
        self._scanned = 0  # of the buffer, by the search for the end of a head
        self._heading = False  # the buffer begins a head, and the time for it runs
        self._recall = context.balancer.requests.recent.get
        self.exchange: HttpExchange | Express | None = None
        self._serving = False
        self._over = False  # no request will be taken any more; what was written may still be on its way
        self._switched = False
        self._lingering = False
        self._linger_until = 0.0
        self._holds = 0
        self._unsent = 0  # what the client did not take yet, when last looked at

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        context = self.context
        self.transport = cast(asyncio.Transport, transport)
        if not self.remote:
            peer = transport.get_extra_info("peername")
            self.remote = peer[0] if peer else "-"
        self.forwarded = self.remote.encode()
        context.sessions.add(self)
        context.stats.accept()
        context.deadlines.set(self, context.first_timeout)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        exchange = self.exchange
        if exchange is None and self.writable and not self._over:
            if self._buffer:
                self._serve(self._buffer + data)
                return
            request = self._recall(data) if len(data) <= LONGEST_SEEN else None
            if request is None or self.served + 1 >= self.context.keepalive_requests:
                self._serve(data)
            else:
                self.served += 1
                begin(self, request)
        elif exchange is None:
            self._receive_late(data)
        else:
            if not exchange.body_done:
                data = exchange.client_data(data)
            if data:
                self._keep(data)

    def _receive_late(self, data: bytes) -> None:
        """Take what comes when no request is expected: kept for later, or nobody's."""
        if self._lingering:
            left = self._linger_until - self.context.time()
            self.context.deadlines.set(self, min(left, LINGER_TIMEOUT))
        else:
            self._keep(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: as for nginx, a client that closes its side has left (499 if it was waiting)."""
        self.context.outbox.flush()  # what it has coming was said before
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_lost()
        self.gone()

    def gone(self) -> None:
        """Nothing more comes from this connection: leave the books."""
        context = self.context
        context.deadlines.cancel(self)
        context.sessions.discard(self)
        context.stats.leave()

    def become(self, tunnel: Relay) -> None:
        """Hand the connection over; `gone` is to be called when it ends."""
        self.exchange = None
        self._switched = True
        self.context.deadlines.cancel(self)
        self.transport.set_protocol(tunnel)
        if self._holds:
            self.transport.resume_reading()
        if self._buffer:
            tunnel.data_received(self._buffer)
            self._buffer = b""

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = False
        self._unsent = self.transport.get_write_buffer_size()
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = True
        if self.exchange is not None:
            self.exchange.client_resumed()
        elif not self._ending():
            self.release(hold.PIPELINE)
            self._go_on()

    def on_deadline(self) -> None:
        """See `Deadlines`: silent for too long, in whatever state."""
        if self.exchange is not None:
            self.exchange.on_deadline()
        elif not self.writable or self._ending():
            if self.takes_some():
                self.context.deadlines.set(self, self.context.settings.send_timeout)
            else:
                self.transport.abort()
        elif self._buffer:
            self.refuse(ProtocolError(408, "the request head did not come in time"), self._buffer)
        else:
            self.close_silent()

    def takes_some(self) -> bool:
        """Whether some of what waits for the client, but not all, was taken since it was paused or this was asked."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        return 0 < self._unsent != before

    # Between requests

    def _serve(self, buffer: bytes) -> None:
        """Start exchanges with what is there, until one is under way or a head is incomplete.

        A client that does not read its replies gets no further ones: what it has asked for waits in the buffer.
        """
        served = self.served
        self._buffer = b""
        self._serving = True
        try:
            rest = self._begin(buffer)
            while rest and self.exchange is None and self.writable and not self._ending():
                buffer = rest
                rest = self._begin(buffer)
        except ProtocolError as error:
            self.refuse(error, buffer)
            return
        finally:
            self._serving = False
        if rest and not self._ending():
            self._keep(rest)
        if self.exchange is None and self.served > served and rest is not None and not self._ending():
            self._idle()

    def _ending(self) -> bool:
        return self._over or self.transport.is_closing()

    def _begin(self, buffer: bytes) -> bytes | None:
        """Start one exchange and return what follows it, or None when the head is incomplete."""
        context = self.context
        end = buffer.find(HEAD_END)
        if end < 0 or end > context.limits.line:
            # Most heads come whole and are short: only others need to be measured.
            end = find_head_end(buffer, self._scanned, context.limits)
        first = buffer.find(CRLF)
        if not first:
            # RFC 9112 section 2.2: empty lines before a request line are ignored. At once: there may be very many.
            return buffer[_EMPTY_LINES.match(buffer).end() :]  # type: ignore[union-attr]
        if end < 0:
            self._wait_for_more(buffer, first)
            return None
        self._heading = False
        self._scanned = 0
        line, block, cookie, again = read_request(buffer[:first], buffer[first + 2 : end], context.limits)
        host = parse_host(line.authority) if line.authority else block.host
        self.served += 1
        target = context.balancer.http(host, line.path)
        end += len(HEAD_END)
        if target is None:
            return self._answer_unrouted(line, block, buffer[end:])
        request = Request(line, block, cookie, target, context.ids)
        if request.plain and end == len(buffer) and self.served < context.keepalive_requests:
            if again:
                context.balancer.requests.put(buffer, request)
            begin(self, request)
            return b""
        exchange = self.exchange = HttpExchange(self, request, context.time())
        return exchange.start(buffer, end)

    def _wait_for_more(self, buffer: bytes, first: int) -> None:
        """Keep an unfinished head, whose first line ends at `first` if that is here; its time runs from its start.

        A bad first line is refused at once: HTTP/0.9 has no more to send.
        """
        if not self._heading:
            self._heading = True
            self.context.deadlines.set(self, self.context.settings.header_timeout)
        if first >= max(0, self._scanned - 1):
            parse_request_line(buffer[:first])
        self._buffer = buffer
        self._scanned = len(buffer)

    def _answer_unrouted(self, line: RequestLine, block: RequestBlock, rest: bytes) -> bytes:
        """Answer for a host or path that no service has; returns what follows the request."""
        keep_alive = not block.has_body and self.keeps_alive(line.minor, block.persistent)
        tell_unrouted(self, line, block, keep_alive=keep_alive)
        if keep_alive:
            return rest
        if rest or block.has_body:
            self.linger()
        else:
            self.close()
        return b""

    def keeps_alive(self, minor: int, wish: bool | None) -> bool:
        """Whether the connection may go on after the current request."""
        if self.served >= self.context.keepalive_requests:
            return False
        return bool(wish) if not minor else wish is not False

    def answered(self, now: float) -> None:
        """The reply of an `Express` is out, at loop time `now`; the next request may come."""
        if self._buffer:
            self.exchange_done(keep_alive=True)
            return
        self.exchange = None
        context = self.context
        self.deadline = when = now + context.keepalive_timeout
        if when < self.filed:
            context.deadlines.file(self)

    def exchange_done(self, keep_alive: bool) -> None:
        """The exchange's reply is out, whole; with `keep_alive` the next request may come."""
        self.exchange = None
        if not keep_alive:
            # A client that has sent more already would answer the close with a reset, and lose the reply.
            if self._buffer:
                self.linger()
            else:
                self.close()
            return
        if self._holds:
            self._holds = 0
            self.transport.resume_reading()
        if self._serving:
            return
        if self._buffer:
            self._go_on()
        else:
            self._idle()

    def _go_on(self) -> None:
        """Serve what has come ahead of its turn, or wait."""
        if self._buffer and self.writable:
            self._serve(self._buffer)
        else:
            self._idle()

    def _idle(self) -> None:
        """Wait for the next request, or for the client to read its replies."""
        context = self.context
        context.deadlines.set(self, context.keepalive_timeout if self.writable else context.settings.send_timeout)

    def close(self) -> None:
        """Close once everything written has gone out, or the client has not read it in time."""
        context = self.context
        self.exchange = None
        self._over = True
        context.outbox.close(self.transport)
        context.deadlines.set(self, context.settings.send_timeout)

    def _keep(self, data: bytes) -> None:
        """Keep what was sent ahead of its turn, within the limits of a head."""
        self._buffer += data
        if len(self._buffer) > self.context.limits.total:
            self.hold(hold.PIPELINE)

    # What exchanges ask for

    def hold(self, reason: int) -> None:
        """Stop reading from the client, for one more reason."""
        if not self._holds:
            self.transport.pause_reading()
        self._holds |= reason

    def release(self, reason: int) -> None:
        """Take a reason back; read on when it was the last."""
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds:
                self.transport.resume_reading()

    def refuse(self, error: ProtocolError, buffer: bytes = b"") -> None:
        """Answer a request that is none (it begins `buffer`), and end the connection."""
        tell_refused(self, error, buffer)
        self.linger()

    def linger(self) -> None:
        """End the connection behind a reply that the client may not have read, while it may still be sending."""
        self.exchange = None
        self._buffer = b""
        context = self.context
        context.outbox.flush()
        reader = self.transport.get_protocol()
        if isinstance(reader, BulkReader):
            reader.stop()
        unsent = self.transport.get_write_buffer_size()
        context.deadlines.set(self, context.settings.send_timeout if unsent else LINGER_TIMEOUT)
        if self.transport.is_closing():
            return
        self._over = self._lingering = True
        self._linger_until = context.loop.time() + LINGER_LONGEST
        if self._holds:
            self._holds = 0
            self.transport.resume_reading()
        self.transport.write_eof()

    def cut(self, *, delimited: bool) -> None:
        """End the connection in mid reply, with a reset where an orderly end would pass for the end of the reply."""
        self.exchange = None
        self.context.outbox.flush()
        if delimited:
            self.transport.abort()
        else:
            reset(self.transport)

    # Going away

    def abort(self) -> None:
        """End it at once, with a reset where an orderly end could pass for the end of a reply."""
        if self.exchange is not None or self._switched or not self.writable:
            reset(self.transport)
        else:
            self.transport.abort()

    def drain(self, patience: float) -> None:
        """The present exchange, or else the next, is the last: who is silent for `patience` seconds is closed.

        A tunnel may last its time.
        """
        if isinstance(self.exchange, Express):
            self.exchange.hand_over()
        since = self.silent_since
        if since != NEVER:
            self.context.deadlines.set(self, min(self.deadline, since + patience) - self.context.time())

    @property
    def silent_since(self) -> float:
        """Loop time at which its last reply was out, or at which it came; NEVER while anything is under way."""
        if self.exchange is not None or self._buffer or self._switched or not self.writable or self._ending():
            return NEVER
        settings = self.context.settings
        return self.deadline - (settings.keepalive_timeout if self.served else settings.header_timeout)

    def close_silent(self) -> bool:
        """Close, as nothing is under way; tells whether it did: a request that is here already is served first."""
        if has_unread(self.transport):
            self.context.deadlines.set(self, self.context.settings.header_timeout)
            return False
        self.close()
        return True
