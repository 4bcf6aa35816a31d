"""Instances and clients that read every octet with h11: what is not HTTP to the letter is an error of the test."""

from __future__ import annotations

from typing import NamedTuple

import h11

from tests.support.edge import Client
from tests.support.scripted import Connection

DATE = "Mon, 23 Nov 2026 04:43:59 GMT"
"""A reply that has a date goes on as it is, and by the shortest way."""


class Asked(NamedTuple):
    """A whole request, as an instance got it."""

    method: bytes
    target: bytes
    body: bytes


class Echo:
    """A script that answers each whole request with its target, so that a stray reply is seen by whoever gets it.

    `begun` counts heads, `asked` has what came whole: a request that is cut short is in the one only.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.asked: list[Asked] = []

    @property
    def targets(self) -> list[bytes]:
        """The targets of whole requests, in their order."""
        return [asked.target for asked in self.asked]

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection to its end."""
        parser = h11.Connection(h11.SERVER)
        head, body = h11.Request(method=b"-", target=b"-", headers=[(b"Host", b"-")]), b""
        going_on = True
        while going_on:
            match parser.next_event():
                case h11.NEED_DATA:
                    data = await connection.some()
                    if not data:
                        return
                    parser.receive_data(data)
                case h11.Request() as head:
                    self.begun += 1
                    body = b""
                case h11.Data() as data_event:
                    body += data_event.data
                case h11.EndOfMessage():
                    asked = Asked(head.method, head.target, body)
                    self.asked.append(asked)
                    going_on = await self.answer(connection, asked, _answer(parser, asked))
                    parser.start_next_cycle()

    async def answer(self, connection: Connection, asked: Asked, octets: bytes) -> bool:
        """Send the reply to a request; False ends the connection."""
        await connection.send(octets)
        return True


def _answer(parser: h11.Connection, asked: Asked) -> bytes:
    """A reply that tells the request's target, as it goes over the wire."""
    fields = [("Date", DATE), ("Content-Length", str(len(asked.target)))]
    data = parser.send(h11.Response(status_code=200, headers=fields)) or b""
    if asked.method != b"HEAD":
        data += parser.send(h11.Data(data=asked.target)) or b""
    return data + (parser.send(h11.EndOfMessage()) or b"")


class Told(NamedTuple):
    """A response as a client got it, interim ones left out; without `whole` it was cut short."""

    status: int
    body: bytes
    whole: bool = True


class StrictClient:
    """Reads the replies of one client connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._parser = h11.Connection(h11.CLIENT)

    async def ask(self, request: bytes) -> Told:
        """Send a request and read its reply."""
        await self.client.send(request)
        return await self.reply(request.partition(b" ")[0])

    async def reply(self, method: bytes = b"GET") -> Told:
        """Read the reply to a request of this method. Raises h11.RemoteProtocolError for octets that are none."""
        parser = self._parser
        if parser.our_state is h11.DONE:
            parser.start_next_cycle()
        parser.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
        parser.send(h11.EndOfMessage())
        status, body, ended = 0, b"", False
        try:
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await self.client.some()
                    ended = not data
                    parser.receive_data(data)
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
        except ConnectionError:
            return Told(status, body, whole=False)
        except h11.RemoteProtocolError:
            if not ended:
                raise
            return Told(status, body, whole=False)
        return Told(status, body)

    @property
    def surplus(self) -> bytes:
        """What has come behind the last reply."""
        return bytes(self._parser.trailing_data[0])
