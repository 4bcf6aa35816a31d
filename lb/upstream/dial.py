"""Connecting to an instance: the attempt, and what its failures are called.

The texts of the errors reach clients: they name no address, which is nothing a stranger need know.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from lb.errors import UpstreamError
from lb.upstream.connection import UpstreamConnection, User


class Dial:
    """One attempt to connect, ended by exactly one of `done(connection)`, `failed(error)` or `cancel()`.

    There is no timer in here: who dials has a deadline and calls `cancel`.
    """

    __slots__ = ("_done", "_failed", "_task", "_user")

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
        self._task: asyncio.Task[None] | None = loop.create_task(
            self._connect(loop, host, port), name=f"dial {host}:{port}"
        )

    async def _connect(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        try:
            await loop.create_connection(lambda: UpstreamConnection(self._made), host, port)
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be looked up
            if self._task is not None:
                self._failed(connect_error(error))

    def _made(self, connection: UpstreamConnection) -> None:
        if self._task is None:
            connection.abort()
            del connection.transport  # uvloop may not tell of its end, and then they would keep one another
        else:
            connection.user = self._user
            self._done(connection)

    def cancel(self) -> None:
        """Give up; neither callback will be called."""
        task, self._task = self._task, None  # let go of: a cancelled task keeps its frames, and they keep this dial
        if task is not None:
            task.cancel()


def connect_error(error: OSError | ValueError) -> UpstreamError:
    """Name a failure to connect (all of them are 502; a timeout is found by whoever keeps the deadline)."""
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
