"""Sample instances: `python -m benchmarks.soak.instances PORT...`, each an HTTP server and a TCP echo at once.

A connection that begins with `GET ` is HTTP: the reply's body is the request target, so that a client sees whose reply
it got; a request with an Upgrade field is answered with 101, and then echoed. Any other connection is echoed from
its first octet on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class Instance(asyncio.Protocol):
    """The instance's side of one connection."""

    def __init__(self) -> None:
        self._http: bool | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete."""
        if self._http is None:
            self._http = data.startswith(b"GET ")
        if not self._http:
            self._transport.write(data)
            return
        self._received += data
        while self._http and b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head)

    def pause_writing(self) -> None:
        """Read no more than the client takes."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def _answer(self, head: bytes) -> None:
        if b"\r\nupgrade: echo" in head.lower():
            self._http = False
            self._transport.write(SWITCHING + self._received)
            return
        target = head.split(b" ", 2)[1]
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))


async def serve(ports: list[int]) -> None:
    """Listen on all ports until the process is ended."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Instance, "127.0.0.1", port, backlog=1024)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
