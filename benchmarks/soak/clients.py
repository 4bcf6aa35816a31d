"""Clients that make load and check each answer: HTTP, TCP echoes, tunnels, transfers.

Their own rather than wrk: each failure has its time, so that it can be put down to the kill of a worker or be held
against the program, and each reply is compared with what was asked.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count

from benchmarks.macro.site import HOST
from benchmarks.soak.ledger import Failure, Ledger

LOCAL = "127.0.0.1"

PATIENCE = 10.0
"""Seconds for one operation."""

AFTER_FAILURE = 0.05
"""Seconds until a client tries again."""

PIECE = b"0123456789abcdef" * (16 << 10)
"""A piece of a long transfer: 256 KiB."""

PIECES = 100
PIECE_PAUSE = 0.1
"""A transfer takes about ten seconds, less than the drain that it may meet."""


class WrongReply(Exception):
    """Something answered, but not what was asked for; the text is the kind of failure."""


class Client(ABC):
    """One client that works until it is cancelled, a connection after the other.

    `kept` says that its connections end only by a kill or by a drain that had its time.
    """

    kept = False

    def __init__(self, name: str, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.ledger = ledger
        self._clock = clock
        self._began = 0.0

    async def run(self) -> None:
        """Work for ever."""
        while True:
            self.begin()
            try:
                await self.session()
            except (OSError, EOFError, WrongReply) as error:
                self.ledger.fail(Failure(self.name, kind_of(error), self._began, self._clock()), kept=self.kept)
                await asyncio.sleep(AFTER_FAILURE)

    @abstractmethod
    async def session(self) -> None:
        """Use one connection; raise OSError, EOFError or WrongReply for what fails."""

    def begin(self) -> None:
        """Begin an operation now."""
        self._began = self._clock()

    def succeed(self) -> None:
        """Count the operation that was begun."""
        self.ledger.succeed(self.name)


def kind_of(error: Exception) -> str:
    """Return a failure's name for the table."""
    match error:
        case TimeoutError():
            return "timed out"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case EOFError():
            return "closed"
        case OSError():
            return error.strerror or repr(error)
        case _:
            return str(error)


class Stream:
    """A connection to a port of this machine, for use in a `with` block."""

    async def open(self, port: int) -> Stream:
        """Connect."""
        async with asyncio.timeout(PATIENCE):
            self.reader, self._writer = await asyncio.open_connection(LOCAL, port)
        return self

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send octets."""
        self._writer.write(data)

    async def ask(self, request: bytes, size: int) -> bytes:
        """Send octets, and return the `size` octets of the answer."""
        self.send(request)
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def ask_http(self, target: str, fields: str = "", host: str = HOST) -> tuple[str, dict[str, str], bytes]:
        """Make a GET request, and return status, fields by lower-case name, and body."""
        self.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.split("\r\n")
            received = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in rest)}
            body = await self.reader.readexactly(int(received.get("content-length", "0")))
        return line.split(" ")[1], received, body

    async def idle(self, seconds: float) -> bool:
        """Do nothing for so long; tell at once when the other side closes. Raise ConnectionResetError for a reset."""
        try:
            async with asyncio.timeout(seconds):
                data = await self.reader.read(1)
        except TimeoutError:
            return True
        if data:
            raise WrongReply("unasked data")
        return False

    async def finish(self) -> None:
        """Say that nothing more comes, and wait for the other side to say it, too."""
        self._writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            if await self.reader.read(1):
                raise WrongReply("data after the end")


class HttpClient(Client):
    """Kept-alive requests, one after the other, with `pause` seconds in between.

    A request without a pause must never fail. One after a pause may meet a close on its way; where no octet of a reply
    came, it is made again (RFC 9112, section 9.3.1).
    """

    def __init__(self, name: str, ledger: Ledger, port: int, pause: float = 0.0) -> None:
        super().__init__(name, ledger)
        self._port = port
        self._pause = pause

    async def session(self) -> None:
        """Make requests until the server closes the connection."""
        with await Stream().open(self._port) as stream:
            for number in count():
                target = f"/{id(self):x}/{number}"
                try:
                    status, fields, body = await stream.ask_http(target)
                except (ConnectionResetError, asyncio.IncompleteReadError) as error:
                    if self._may_repeat(number, error):
                        self.ledger.repeated += 1
                        return
                    raise
                check_http(status, body, target)
                self.succeed()
                if fields.get("connection", "").lower() == "close":
                    return
                if self._pause and not await stream.idle(self._pause):
                    return
                self.begin()

    def _may_repeat(self, number: int, error: Exception) -> bool:
        return bool(number and self._pause and not getattr(error, "partial", b""))


class ConnectingClient(Client):
    """A new connection for each request."""

    def __init__(self, name: str, ledger: Ledger, port: int, pause: float) -> None:
        super().__init__(name, ledger)
        self._port = port
        self._pause = pause

    async def session(self) -> None:
        """Make one request, and see that the server closes after it."""
        target = f"/{id(self):x}"
        with await Stream().open(self._port) as stream:
            status, _, body = await stream.ask_http(target, "Connection: close\r\n")
            check_http(status, body, target)
            if await stream.idle(PATIENCE):
                raise WrongReply("not closed")
        self.succeed()
        await asyncio.sleep(self._pause)


class EchoClient(Client):
    """A TCP connection that is kept open, with an echo now and then that must come back as it was sent.

    With `tunnel` the connection begins with a request for an upgrade, as a WebSocket does.
    """

    kept = True

    def __init__(self, name: str, ledger: Ledger, port: int, pause: float, *, tunnel: bool = False) -> None:
        super().__init__(name, ledger)
        self._port = port
        self._pause = pause
        self._tunnel = tunnel

    async def session(self) -> None:
        """Echo until the connection ends."""
        with await Stream().open(self._port) as stream:
            if self._tunnel:
                status, _, _ = await stream.ask_http("/tunnel", "Connection: Upgrade\r\nUpgrade: echo\r\n")
                if status != "101":
                    raise WrongReply(f"status {status}")
            for number in count():
                sent = f"{id(self):x} {number}\n".encode() * 4
                if await stream.ask(sent, len(sent)) != sent:
                    raise WrongReply("mismatch")
                self.succeed()
                open_still = await stream.idle(self._pause)
                self.begin()
                if not open_still:
                    raise EOFError


class TransferClient(Client):
    """Long transfers through an echo, with an orderly end."""

    def __init__(self, name: str, ledger: Ledger, port: int) -> None:
        super().__init__(name, ledger)
        self._port = port

    async def session(self) -> None:
        """Make one transfer."""
        with await Stream().open(self._port) as stream:
            for _ in range(PIECES):
                self.begin()
                if await stream.ask(PIECE, len(PIECE)) != PIECE:
                    raise WrongReply("mismatch")
                await asyncio.sleep(PIECE_PAUSE)
            self.begin()
            await stream.finish()
        self.succeed()


def check_http(status: str, body: bytes, target: str) -> None:
    """Raise WrongReply unless the reply is the one to this request."""
    if status != "200":
        raise WrongReply(f"status {status}")
    if body != target.encode():
        raise WrongReply("mismatch")
