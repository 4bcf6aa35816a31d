"""Connecting to an instance: the attempt, and what its failures are called.

The texts of the errors reach clients: they name no address, which is nothing a stranger need know.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from lb.errors import UpstreamError
from lb.upstream.connection import UpstreamConnection, User

SHORTAGE = "descriptors"
"""The kind of a failure that is this process's own: it has no file descriptor left, and the instance was not asked."""


class Dial:
    """One attempt to connect, ended by exactly one of `done(connection)`, `failed(error)` or `cancel()`.

    There is no timer in here: who dials has a deadline and calls `cancel`. The loop's coroutine is driven by hand, as a
    task is dear; it begins in the next turn of the loop, where all attempts of this turn are made back to back.
    """

    __slots__ = ("_connecting", "_done", "_failed", "_user")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        user: User,
        done: Callable[[UpstreamConnection], None],
        failed: Callable[[UpstreamError], None],
    ) -> None:
        self._user = user
        self._done = done
        self._failed = failed
        connecting = loop.create_connection(lambda: UpstreamConnection(self._made), host, port)
        self._connecting: Coroutine[Any, Any, object] | None = connecting
        loop.call_soon(self._go_on)

    def _wait_for(self, future: Any) -> None:
        # What a task does with the future that a coroutine awaits.
        future._asyncio_future_blocking = False
        future.add_done_callback(self._go_on)

    def _go_on(self, future: asyncio.Future[Any] | None = None) -> None:
        connecting = self._connecting
        if connecting is None:
            if future is not None and not future.cancelled():
                future.exception()  # looked at, else the loop would complain of it
            return
        del future  # it may hold the error that is raised here, whose traceback would hold it
        try:
            self._wait_for(connecting.send(None))
        except StopIteration:
            self._connecting = None
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be looked up
            self._connecting = None
            self._failed(connect_error(error))

    def _made(self, connection: UpstreamConnection) -> None:
        if self._connecting is None:
            connection.abort()
            del connection.transport  # uvloop may not tell of its end, and then they would keep one another
        else:
            connection.user = self._user
            self._done(connection)

    def cancel(self) -> None:
        """Give up; neither callback will be called."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.close()


def connect_error(error: OSError | ValueError) -> UpstreamError:
    """Name a failure to connect: 502, or 503 for one of our own. A timeout is found by whoever keeps the deadline."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return UpstreamError(SHORTAGE, "the balancer has no room for another connection at the moment", 503)
    if isinstance(error, ConnectionRefusedError):
        return UpstreamError("connect_refused", "the instance refused the connection")
    return UpstreamError("connect_error", f"no connection to the instance: {_reason(error)}")


def connect_timeout() -> UpstreamError:
    """An instance that did not accept a connection in time: 504."""
    return UpstreamError("connect_timeout", "the instance did not accept a connection in time", 504)


def _reason(error: OSError | ValueError) -> str:
    """The reason alone: the loop's own texts list addresses."""
    if isinstance(error, ValueError):
        return "its host name is not valid"
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    return os.strerror(error.errno) if error.errno else "none of its addresses could be reached"
