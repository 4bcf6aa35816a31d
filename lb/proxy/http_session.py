"""One client connection that speaks HTTP/1: reads heads, runs one exchange after the other."""

from __future__ import annotations

import asyncio
from typing import cast

from lb.deadlines import NEVER, UNFILED
from lb.errors import ProtocolError
from lb.http1.head import CRLF, HEAD_END, RequestBlock, find_head_end, parse_request_block
from lb.http1.target import RequestLine, parse_host, parse_request_line
from lb.observe.accesslog import basic_user
from lb.proxy import hold
from lb.proxy.context import HttpContext
from lb.proxy.http_exchange import HttpExchange
from lb.proxy.pages import page
from lb.proxy.relay import Relay, reset

LINGER_TIMEOUT = 5.0  # nginx's lingering_timeout: for the client to say more
LINGER_LONGEST = 30.0  # nginx's lingering_time: in all


class HttpSession(asyncio.Protocol):
    """The protocol of one client connection.

    It is in one of four states: between requests (`_exchange` is None: bytes are a head), in an exchange
    (bytes are its body, then the next request's), lingering (the reply is out, bytes are discarded until the
    client closes, so that a reset does not take the reply away), or switched (the connection is a tunnel's).
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_exchange",
        "_heading",
        "_holds",
        "_linger_until",
        "_lingering",
        "_scanned",
        "_serving",
        "_switched",
        "_unsent",
        "context",
        "deadline",
        "filed",
        "forwarded",
        "remote",
        "served",
        "transport",
        "writable",
    )

    def __init__(self, context: HttpContext) -> None:
        self.context = context
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.remote = ""
        self.forwarded = b""
        self.served = 0
        self.writable = True
        self.deadline = NEVER
        self.filed = UNFILED
        self._buffer = b""
        self._scanned = 0  # of the buffer, by the search for the end of a head
        self._heading = False  # the buffer begins a head, and the time for it runs
        self._exchange: HttpExchange | None = None
        self._serving = False
        self._closed = False  # by us; what was written may still be on its way
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
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if peer else "-"
        self.forwarded = self.remote.encode()
        context.sessions.add(self)
        context.stats.accepted += 1
        context.stats.active += 1
        context.deadlines.set(self, context.settings.header_timeout)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        exchange = self._exchange
        if exchange is not None:
            if not exchange.body_done:
                data = exchange.client_data(data)
            if data:
                self._keep(data)
        elif self._lingering:
            left = self._linger_until - self.context.loop.time()
            self.context.deadlines.set(self, min(left, LINGER_TIMEOUT))
        elif self.writable and not self._closed:
            self._serve(self._buffer + data if self._buffer else data)
        else:
            self._keep(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: as for nginx, a client that closes its side has left (499 if it was waiting)."""
        self.context.outbox.flush()  # what it has coming was said before
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        self.gone()

    def gone(self) -> None:
        """Nothing more comes from this connection: leave the books."""
        context = self.context
        context.deadlines.cancel(self)
        context.sessions.discard(self)
        context.stats.active -= 1

    def become(self, tunnel: Relay) -> None:
        """Hand the connection over; `gone` is to be called when it ends."""
        self._exchange = None
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
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = True
        if self._exchange is not None:
            self._exchange.client_resumed()
        elif not self._ending():
            self.release(hold.PIPELINE)
            self._go_on()

    def on_deadline(self) -> None:
        """See `Deadlines`: silent for too long, in whatever state."""
        if self._exchange is not None:
            self._exchange.on_deadline()
        elif not self.writable or self._ending():
            if self.takes_some():
                self.context.deadlines.set(self, self.context.settings.send_timeout)
            else:
                self.transport.abort()
        elif self._buffer:
            self.refuse(ProtocolError(408, "the request head did not come in time"), self._buffer)
        else:
            self.close()

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
            while rest and self._exchange is None and self.writable and not self._ending():
                buffer = rest
                rest = self._begin(buffer)
        except ProtocolError as error:
            self.refuse(error, buffer)
            return
        finally:
            self._serving = False
        if rest and not self._ending():
            self._keep(rest)
        if self._exchange is None and self.served > served and rest is not None and not self._ending():
            self._idle()

    def _ending(self) -> bool:
        return self._closed or self._lingering or self.transport.is_closing()

    def _begin(self, buffer: bytes) -> bytes | None:
        """Start one exchange and return what follows it, or None when the head is incomplete."""
        context = self.context
        end = buffer.find(HEAD_END)
        if end < 0 or end > context.limits.line:
            # Most heads come whole and are short: only others need to be measured.
            end = find_head_end(buffer, self._scanned, context.limits)
        first = buffer.find(CRLF)
        if not first:
            # RFC 9112 section 2.2: empty lines before a request line are ignored.
            return buffer[2:]
        if end < 0:
            self._wait_for_more(buffer, first)
            return None
        self._heading = False
        self._scanned = 0
        line = parse_request_line(buffer[:first])
        block = parse_request_block(buffer[first + 2 : end], context.limits)
        host = block.host
        if line.minor:
            if not host:
                raise ProtocolError(400, "no Host in an HTTP/1.1 request")
        elif block.chunked:
            raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
        if line.authority:
            host = parse_host(line.authority)
        self.served += 1
        target = context.balancer.http(host, line.path)
        rest = buffer[end + 4 :]
        if target is None:
            return self._answer_unrouted(line, block, rest)
        self._exchange = HttpExchange(self, line, block, target)
        return self._exchange.start(rest)

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
        context = self.context
        keep_alive = not block.has_body and self.keeps_alive(line.minor, block.persistent)
        reason = "no service is known by this name"
        head = line.method == b"HEAD"
        reply = page(404, reason, date=context.date(), close=not keep_alive, minor=line.minor, head=head)
        context.stats.reject(404)
        if context.access_log is not None:
            context.access_log.write(
                self.remote,
                line.raw,
                404,
                len(reply.body),
                block.referer or None,
                block.user_agent or None,
                host=block.authority,
                user=basic_user(block.authorization),
            )
        context.outbox.write(self.transport, reply.head + reply.body)
        if block.has_body:
            self.linger()
            return b""
        if not keep_alive:
            self.close()
        return rest

    def keeps_alive(self, minor: int, wish: bool | None) -> bool:
        """Whether the connection may go on after the current request."""
        if self.context.draining or self.served >= self.context.settings.keepalive_requests:
            return False
        return bool(wish) if not minor else wish is not False

    def exchange_done(self, keep_alive: bool) -> None:
        """The exchange's reply is out, whole; with `keep_alive` the next request may come."""
        self._exchange = None
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
        if self.writable and not context.draining:
            context.deadlines.set(self, context.settings.keepalive_timeout)
        elif self.writable:
            self.close()
        else:
            context.deadlines.set(self, context.settings.send_timeout)

    def close(self) -> None:
        """Close once everything written has gone out, or the client has not read it in time."""
        context = self.context
        self._exchange = None
        self._closed = True
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
        context = self.context
        context.stats.reject(error.status)
        reply = page(error.status, error.reason, date=context.date(), close=True)
        if context.access_log is not None:
            line = buffer[: context.limits.line].partition(CRLF)[0]
            context.access_log.write(self.remote, line, error.status, len(reply.body))
        context.outbox.write(self.transport, reply.head + reply.body)
        self.linger()

    def linger(self) -> None:
        """End the connection behind a reply that the client may not have read, while it may still be sending."""
        self._exchange = None
        self._buffer = b""
        context = self.context
        context.outbox.flush()
        unsent = self.transport.get_write_buffer_size()
        context.deadlines.set(self, context.settings.send_timeout if unsent else LINGER_TIMEOUT)
        if self.transport.is_closing():
            return
        self._lingering = True
        self._linger_until = context.loop.time() + LINGER_LONGEST
        if self._holds:
            self._holds = 0
            self.transport.resume_reading()
        self.transport.write_eof()

    def cut(self, *, delimited: bool) -> None:
        """End the connection in mid reply, with a reset where an orderly end would pass for the end of the reply."""
        self._exchange = None
        self.context.outbox.flush()
        if delimited:
            self.transport.abort()
        else:
            reset(self.transport)

    def abort(self) -> None:
        """End it at once, whatever is in flight."""
        self.transport.abort()

    def drain(self) -> None:
        """Close if nothing is in flight; otherwise the present exchange is the last. A tunnel may last its time."""
        busy = self._exchange is not None or self._buffer or self._switched or not self.writable
        if not busy and not self._ending():
            self.close()
