"""The replies that the proxy writes itself: short, plain text, nothing in them that a stranger sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple


class Page(NamedTuple):
    """A whole response, in its two parts."""

    head: bytes
    body: bytes


def page(status: int, reason: str, *, date: bytes, close: bool, minor: int = 1, head: bool = False) -> Page:
    """Build a response of `text/plain`; with `head` the body is left out but its length is told."""
    phrase = HTTPStatus(status).phrase
    body = f"{status} {phrase}: {reason}\n".encode()
    fields = [
        b"HTTP/1.1 %d %b" % (status, phrase.encode()),
        b"Server: consul-edge",
        b"Date: " + date,
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
    ]
    if close:
        fields.append(b"Connection: close")
    elif not minor:
        fields.append(b"Connection: keep-alive")
    return Page(b"\r\n".join([*fields, b"", b""]), b"" if head else body)
