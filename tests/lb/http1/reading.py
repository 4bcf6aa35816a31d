"""Reads request heads as a session does: piece by piece, from a buffer that grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lb.errors import ProtocolError
from lb.http1.head import CRLF, HEAD_END, Limits, RequestBlock, find_head_end, parse_request_block
from lb.http1.target import RequestLine, parse_request_line

LIMITS = Limits(line=100, total=400, count=12)


class Head(NamedTuple):
    """A request head, and what came behind it."""

    line: RequestLine
    block: RequestBlock
    rest: bytes


class Refused(NamedTuple):
    """What a client would be told."""

    status: int
    reason: str


def read_head(pieces: list[bytes], limits: Limits = LIMITS) -> Head | Refused | None:
    """Read a head that comes in pieces; None if it is not whole yet."""
    buffer = b""
    try:
        for number, piece in enumerate(pieces):
            scanned = len(buffer)
            buffer += piece
            end = find_head_end(buffer, scanned, limits)
            if end >= 0:
                rest = buffer[end + len(HEAD_END) :] + b"".join(pieces[number + 1 :])
                first, _, block = buffer[:end].partition(CRLF)
                return Head(parse_request_line(first), parse_request_block(block, limits), rest)
    except ProtocolError as error:
        return Refused(error.status, error.reason)
    return None


def deliveries(data: bytes) -> Iterator[list[bytes]]:
    """All ways to deliver data that a parser must not tell apart: whole, cut in two anywhere, octet by octet."""
    yield [data]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]
    yield [bytes([octet]) for octet in data]
