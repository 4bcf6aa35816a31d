"""One connection to an instance, whoever uses it at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast


class User(Protocol):
    """Who uses a connection: an HTTP exchange, a TCP session, or the idle pool."""

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """Bytes came from the instance."""

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """The instance has closed its side; what was sent to it still goes out."""

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """The connection is gone; None means that it was closed in order."""

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """More was written than the instance takes: write no more."""

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """The instance takes bytes again."""


class Nobody:
    """The user of a connection that is being closed: whatever happens to it is of no interest."""

    __slots__ = ()

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        """See User."""

    def upstream_eof(self, connection: UpstreamConnection) -> None:
        """See User."""

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        """See User."""

    def upstream_paused(self, connection: UpstreamConnection) -> None:
        """See User."""

    def upstream_resumed(self, connection: UpstreamConnection) -> None:
        """See User."""


NOBODY = Nobody()


class UpstreamConnection(asyncio.Protocol):
    """A thin shell: everything is told to the present `user`.

    `made` is called once, as soon as the connection is there, and names the user before anything else can happen to
    it: an instance may speak first. `requests` counts how often it was used, `eof` tells whether the instance has
    closed its side. `companion` is what a user leaves with it for the next time, until it is lost.
    """

    __slots__ = ("_made", "companion", "eof", "requests", "transport", "user")

    def __init__(self, made: Callable[[UpstreamConnection], None]) -> None:
        self._made: Callable[[UpstreamConnection], None] | None = made
        self.user: User = NOBODY
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.requests = 0
        self.eof = False
        self.companion: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        made, self._made = self._made, None
        assert made is not None
        made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.user.upstream_data(self, data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol; True keeps our side open until the user closes it."""
        self.eof = True
        self.user.upstream_eof(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.user.upstream_lost(self, exc)
        self.companion = None

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.user.upstream_paused(self)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.user.upstream_resumed(self)

    def abort(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self.transport.abort()
