"""Scripted instances inside the test's own loop: every byte they get is kept, every byte they send is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator

from tests.support.process import free_port

RESET = struct.pack("ii", 1, 0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Stream:
    """One end of a connection, with what was read from it in `received`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()

    async def send(self, *pieces: bytes) -> None:
        """Write each piece by itself, as a segment of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.01)

    async def until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        return self._note(await self.reader.readuntil(end))

    async def exactly(self, count: int) -> bytes:
        """Read so many octets."""
        return self._note(await self.reader.readexactly(count))

    async def some(self) -> bytes:
        """Read what there is, at least one octet; nothing at the end."""
        return self._note(await self.reader.read(1 << 16))

    async def slowly(self, count: int, pause: float = 0.02) -> bytes:
        """Read so many octets, a few at a time."""
        data = b""
        while len(data) < count:
            data += await self.exactly(min(4096, count - len(data)))
            await asyncio.sleep(pause)
        return data

    async def rest(self) -> bytes:
        """Read to the end. Raises ConnectionError for a reset."""
        data = bytearray()
        while part := await self.some():
            data += part
        return bytes(data)

    async def body(self, head: bytes) -> bytes:
        """Read the body that a head announces: raw, with the framing of chunks."""
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while True:
                line = await self.until(b"\r\n")
                size = int(line.split(b";")[0], 16)
                body += line
                if not size:
                    while (line := await self.until(b"\r\n")) != b"\r\n":
                        body += line
                    return body + line
                body += await self.exactly(size + 2)
        length = field(head, b"content-length")
        return await self.exactly(int(length)) if length else b""

    def eof(self) -> None:
        """Close our side only."""
        self.writer.write_eof()

    async def close(self) -> None:
        """Close in order."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Close with a reset."""
        sock = self.writer.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    def _note(self, data: bytes) -> bytes:
        self.received += data
        return data


class Connection(Stream):
    """A connection to an instance; `number` counts from 0."""

    number = 0

    async def request(self) -> bytes:
        """Read one whole request, head and body."""
        head = await self.until(b"\r\n\r\n")
        return head + await self.body(head)


Script = Callable[[Connection], Awaitable[None]]


class Instance:
    """One instance: `script` is played on each connection to it, which is closed when the script ends.

    `failures` has what a script raised: its own assertions, for one. `host` is for one that is registered elsewhere
    than the rest of its service, and not started.
    """

    host = ""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or replying(OK)
        self.connections: list[Connection] = []
        self.failures: list[BaseException] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> list[bytes]:
        """What every connection received, as far as it was read, in order of the connections."""
        return [bytes(connection.received) for connection in self.connections]

    @property
    def open(self) -> int:
        """Connections whose script still runs."""
        return len(self._tasks)

    async def start(self) -> None:
        """Listen on a free port, or again on the one it had."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and end every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        connection.number = len(self.connections)
        self.connections.append(connection)
        task = asyncio.create_task(self._play(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, connection: Connection) -> None:
        try:
            await self.script(connection)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has left
        except Exception as error:
            self.failures.append(error)
        finally:
            await connection.close()


def replying(*replies: bytes, keep: bool = True) -> Script:
    """Read requests and answer them with the replies in turn, the last one for all further requests.

    Without `keep` the connection is closed behind the first reply.
    """

    async def script(connection: Connection) -> None:
        count = 0
        while True:
            await connection.request()
            await connection.send(replies[min(count, len(replies) - 1)])
            count += 1
            if not keep:
                return

    return script


def sending(*pieces: bytes) -> Script:
    """Read one request, answer with the pieces, each in a segment of its own, and close."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(*pieces)

    return script


async def closing(_connection: Connection) -> None:
    """Close each connection without a word."""


async def closing_asked(connection: Connection) -> None:
    """Read a request, then close without a word."""
    await connection.request()


async def resetting(connection: Connection) -> None:
    """Read a request, then reset."""
    await connection.request()
    connection.reset()


async def hanging(connection: Connection) -> None:
    """Read everything and never say a word."""
    await connection.rest()


@contextlib.contextmanager
def stalled() -> Iterator[Instance]:
    """An instance that leaves connection attempts unanswered: its queue is full, and nobody accepts."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        instance = Instance()
        instance.port = listener.getsockname()[1]
        for _ in range(3):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", instance.port))
        yield instance


def refused() -> Instance:
    """An instance that does not listen."""
    instance = Instance()
    instance.port = free_port()
    return instance


def unreachable() -> Instance:
    """An instance at an address that no connection can be made to."""
    instance = refused()
    instance.host = "255.255.255.255"
    return instance


def field(head: bytes, name: bytes) -> bytes | None:
    """The value of a field of a head, by its lower-case name; several are joined with `, `."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    values = [value.strip() for key, _, value in lines if key.lower() == name]
    return b", ".join(values) if values else None
