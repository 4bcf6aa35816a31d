"""Two connections joined: bytes pass both ways, and so do back-pressure, half-close and reset."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Protocol, cast

from lb.deadlines import NEVER, Deadlines, Timed
from lb.upstream.connection import NOBODY, UpstreamConnection

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NONE_UNREAD = struct.pack("i", 0)
_EARLY = 64 << 10
"""Octets of a client without an instance from which on it is not read any more. Until then it is: a reset is seen."""


class Traffic(Protocol):
    """Where octets from (`received`) and to (`sent`) the client are counted, while they move."""

    received: int
    sent: int


class Relay(asyncio.Protocol):
    """The protocol of the client's connection and the user of the upstream connection.

    It ends when both sides have said all, when either is reset, when it is aborted, or after `idle_timeout` seconds
    in which no byte moved. `result` is empty until then, and tells how it ended: `ok`, `reset`, `aborted` or `idle`.
    `ended(relay)` is called once, with nothing open any more.
    """

    __slots__ = (
        "_client_eof",
        "_deadlines",
        "_early",
        "_ended",
        "_idle_timeout",
        "_open",
        "_traffic",
        "_unsent",
        "_upstream_eof",
        "bucket",
        "client",
        "deadline",
        "filed",
        "result",
        "upstream",
    )

    def __init__(
        self, deadlines: Deadlines, idle_timeout: float, traffic: Traffic, ended: Callable[[Relay], None]
    ) -> None:
        self._deadlines = deadlines
        self._idle_timeout = idle_timeout
        self._traffic = traffic
        self._ended = ended
        self._client_eof = False
        self._upstream_eof = False
        self._early = b""
        self._unsent = 0  # what neither side took yet, when last looked at
        self._open = 0  # connections that are not lost yet, once joined
        self.client: asyncio.Transport = cast(asyncio.Transport, None)
        self.upstream: UpstreamConnection | None = None
        self.result = ""
        self.deadline = NEVER
        self.filed = NEVER
        self.bucket: set[Timed] | None = None

    def join(self, client: asyncio.Transport, upstream: UpstreamConnection) -> None:
        """Begin to pass bytes, first what the client has said before there was an instance to hear it."""
        self.client = client
        self.upstream = upstream
        self._open = 2
        upstream.user = self
        self._deadlines.set(self, self._idle_timeout)
        if self._early:
            if len(self._early) >= _EARLY:
                client.resume_reading()
            early, self._early = self._early, b""
            self.data_received(early)
        if self._client_eof:
            self._half_close(upstream.transport, self._upstream_eof)

    def abort(self) -> None:
        """End it at once, with a reset."""
        self._end("aborted")

    # The client's side

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        upstream = self.upstream
        if upstream is None:
            self._early += data
            if len(self._early) >= _EARLY:
                self.client.pause_reading()  # the rest waits in the kernel
            return
        self._traffic.received += len(data)
        upstream.transport.write(data)
        self._deadlines.set(self, self._idle_timeout)

    def eof_received(self) -> bool:
        """See asyncio.Protocol: the client will send no more; the instance may go on."""
        self._client_eof = True
        if self.upstream is not None:
            self._half_close(self.upstream.transport, self._upstream_eof)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self.upstream is not None and not self.result:
            self.upstream.transport.resume_reading()
            self._deadlines.set(self, self._idle_timeout)

    # The instance's side

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User."""
        self._traffic.sent += len(data)
        self.client.write(data)
        self._deadlines.set(self, self._idle_timeout)

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """See User: the instance will send no more; the client may go on."""
        self._upstream_eof = True
        self._half_close(self.client, self._client_eof)

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """See User."""
        self._lost(error)

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User."""
        self.client.pause_reading()

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User."""
        if not self.result:
            self.client.resume_reading()
            self._deadlines.set(self, self._idle_timeout)

    # The end

    def on_deadline(self) -> None:
        """See `Deadlines`: nothing came for too long, or a closed side does not take what is left."""
        assert self.upstream is not None
        unsent = self.client.get_write_buffer_size() + self.upstream.transport.get_write_buffer_size()
        if 0 < unsent != self._unsent:
            self._unsent = unsent  # it is taken, if slowly: bytes do move
            self._deadlines.set(self, self._idle_timeout)
            return
        if not self.result:
            self._end("idle")
            return
        reset(self.client)
        reset(self.upstream.transport)

    def _half_close(self, other: asyncio.Transport, both: bool) -> None:
        """One side has said all: pass that on, and close when both have."""
        if self.result:
            return
        if both:
            self._end("ok")  # closing says it, too
        else:
            other.write_eof()

    def _lost(self, error: Exception | None) -> None:
        """One of the two connections is gone. In order means by our own hand: an orderly end of theirs is an EOF."""
        self._open -= 1
        self._end("aborted" if error is None else "reset")
        if not self._open:
            assert self.upstream is not None
            self.upstream.user = NOBODY  # else the two keep one another in memory
            self._deadlines.cancel(self)
            self._ended(self)

    def _end(self, result: str) -> None:
        """Close both sides; an orderly end lets go out what was written, within the idle timeout."""
        if self.result:
            return
        self.result = result
        assert self.upstream is not None
        for transport in (self.client, self.upstream.transport):
            if transport.is_closing():
                continue
            if result == "ok" or (result == "idle" and not transport.get_write_buffer_size()):
                transport.close()
            else:
                reset(transport)


def reset(transport: asyncio.Transport) -> None:
    """Close at once, and let the peer see a reset rather than an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def has_unread(transport: asyncio.Transport) -> bool:
    """Whether octets have come that the loop did not read yet."""
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor >= 0 and fcntl.ioctl(descriptor, termios.FIONREAD, _NONE_UNREAD) != _NONE_UNREAD
