"""Messages and descriptors between processes of one node, over a Unix stream socket.

Each message is a kind, a JSON object and descriptors::

    length of what follows (4 octets) | number of descriptors (2) | JSON: [kind, body]

Descriptors travel beside the octets (SCM_RIGHTS), in the same order.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lb.errors import EdgeError

MOST_DESCRIPTORS = 200
"""In one message; the kernel takes 253 at a time."""

MOST_OCTETS = 512 << 20

_HEAD = struct.Struct("!IH")
_READ = 256 << 10

Body = dict[str, Any]
OnMessage = Callable[[str, Body, list[int]], None]


class ChannelError(EdgeError):
    """What came over a channel is no message; the text says why."""


class Channel:
    """One end of a connection between two processes.

    `on_message` is called with kind, body and descriptors, which are the callee's to close. `on_end` is called once,
    when the other end is gone or cannot be understood; never after `close`. What it sends is kept in memory until the
    other side takes it. To be used from the event loop alone.
    """

    def __init__(self, sock: socket.socket, on_message: OnMessage, on_end: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[bytes | memoryview, list[int]]] = deque()
        self._open = True
        self._loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def is_open(self) -> bool:
        """Whether the other end is there, as far as is known."""
        return self._open

    def send(self, kind: str, body: Body | None = None, descriptors: Sequence[int] = ()) -> None:
        """Send a message; descriptors are duplicated. To an end that is gone nothing is sent."""
        if not self._open:
            return
        assert len(descriptors) <= MOST_DESCRIPTORS
        text = json.dumps([kind, body or {}], separators=(",", ":")).encode()
        message = _HEAD.pack(len(text), len(descriptors)) + text
        self._unsent.append((message, [os.dup(descriptor) for descriptor in descriptors]))
        if len(self._unsent) == 1:
            self._on_writable()

    def drain(self) -> None:
        """Read what has come and was not read yet: the other end has said its last."""
        while self._open and _has_news(self._sock):
            self._on_readable()

    async def flush(self) -> None:
        """Wait until all is sent, or the other end is gone."""
        while self._unsent and self._open:  # noqa: ASYNC110  asked at the end of a process alone
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """Close this end; what was not sent is dropped."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        _close_all(self._descriptors)
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()

    def _on_writable(self) -> None:
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
                sent = self._sock.sendmsg([data], rights)
                _close_all(descriptors)  # they go with the first octets
                if sent < len(data):
                    self._unsent[0] = (memoryview(data)[sent:], [])
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        except OSError:
            self._end()
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _on_readable(self) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._sock, _READ, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        self._received += data
        if not data or flags & socket.MSG_CTRUNC:
            # Truncated: this process may open no more descriptors, and does not know which it did not get.
            self._end()
            return
        try:
            while self._open and (message := self._next()) is not None:
                self._on_message(*message)
        except ChannelError:
            self._end()

    def _next(self) -> tuple[str, Body, list[int]] | None:
        """Take the next message out of what was received; raises ChannelError."""
        if len(self._received) < _HEAD.size:
            return None
        length, count = _HEAD.unpack_from(self._received)
        if length > MOST_OCTETS or count > MOST_DESCRIPTORS:
            raise ChannelError(f"a message of {length} octets and {count} descriptors")
        end = _HEAD.size + length
        if len(self._received) < end:
            return None
        if len(self._descriptors) < count:
            raise ChannelError("descriptors are missing")
        try:
            kind, body = json.loads(self._received[_HEAD.size : end])
        except (ValueError, TypeError) as error:
            raise ChannelError(f"not a message: {error}") from error
        del self._received[:end]
        return kind, body, [self._descriptors.popleft() for _ in range(count)]

    def _end(self) -> None:
        self.close()
        self._on_end()


def _has_news(sock: socket.socket) -> bool:
    news = select.poll()  # select(2) knows no descriptor above 1023
    news.register(sock, select.POLLIN)
    return bool(news.poll(0))


def _close_all(descriptors: deque[int] | list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    descriptors.clear()
