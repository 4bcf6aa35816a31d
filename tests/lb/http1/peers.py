"""Request heads and chunked bodies as h11 and httptools read them, in one form for all."""

from __future__ import annotations

from typing import NamedTuple

import h11
import httptools

from lb.errors import ProtocolError
from lb.http1.framing import ChunkedBody
from lb.http1.head import CRLF, Limits
from tests.lb.http1.reading import Refused, read_head

LIMITS = Limits(line=8192, total=32768, count=1000)
ENDS_HERE = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect", b"host"),
        *(b"content-length", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
    )
)


class Reading(NamedTuple):
    """What a reader makes of a request head: fields as they go on, length None without a Content-Length."""

    method: bytes
    target: bytes
    host: bytes
    length: int | None
    chunked: bool
    fields: list[tuple[bytes, bytes]]


def read(data: bytes) -> Reading | str:
    """Read with lb.http1; a text is the reason of a refusal."""
    head = read_head([data], LIMITS)
    if head is None:
        return "incomplete"
    if isinstance(head, Refused):
        return head.reason
    block = head.block
    lines = [line.partition(b":") for line in block.forward.split(CRLF) if line]
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
    own = [field for field in fields if field[0] not in ENDS_HERE]
    raw = data.lstrip(b"\r\n").split(b" ")[1]
    return Reading(head.line.method, raw, block.authority, block.content_length, block.chunked, own)


def read_h11(data: bytes) -> Reading | str:
    """Read with h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return str(error)
    if not isinstance(event, h11.Request):
        return "incomplete"
    return _reading(event.method, event.target, list(event.headers))


class _Head:
    """Collects what httptools tells."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_httptools(data: bytes) -> Reading | str:
    """Read with httptools."""
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        if not head.complete:  # what follows the head is not looked at here
            return str(error)
    return _reading(parser.get_method(), head.url, head.fields) if head.complete else "incomplete"


def _reading(method: bytes, target: bytes, raw: list[tuple[bytes, bytes]]) -> Reading:
    fields = [(name, value.rstrip(b" \t")) for name, value in raw]  # httptools leaves white space behind a value
    named = {
        token.strip().lower() for name, value in fields if name == b"connection" for token in value.split(b",")
    } - {b"close", b"keep-alive", b"upgrade"}
    lengths = [value for name, value in fields if name == b"content-length"]
    return Reading(
        method,
        target,
        next((value for name, value in fields if name == b"host"), b""),
        int(lengths[0]) if lengths else None,
        any(name == b"transfer-encoding" for name, _ in fields),
        [field for field in fields if field[0] not in ENDS_HERE and field[0] not in named],
    )


CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def read_chunked(data: bytes) -> bytes | str:
    """The content of a chunked body, read with lb.http1; a text is the reason of a refusal."""
    payload: list[bytes] = []
    body = ChunkedBody(payload)
    try:
        body.take(data)
    except ProtocolError as error:
        return error.reason
    return b"".join(payload) if body.done else "incomplete"


def read_chunked_h11(data: bytes) -> bytes | str:
    """The same with h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(CHUNKED_POST + data)
    content = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                return content
            if isinstance(event, h11.Data):
                content += event.data
            elif not isinstance(event, h11.Request):
                return "incomplete"
    except h11.RemoteProtocolError as error:
        return str(error)


class _Content:
    """Collects the body that httptools finds."""

    def __init__(self) -> None:
        self.content = b""
        self.complete = False

    def on_body(self, part: bytes) -> None:
        if not self.complete:
            self.content += part

    def on_message_complete(self) -> None:
        self.complete = True


def read_chunked_httptools(data: bytes) -> bytes | str:
    """The same with httptools."""
    message = _Content()
    try:
        httptools.HttpRequestParser(message).feed_data(CHUNKED_POST + data)
    except httptools.HttpParserError as error:
        if not message.complete:
            return str(error)
    return message.content if message.complete else "incomplete"
