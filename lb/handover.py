"""From one program to the next: listening sockets, the catalog, the balancing state, the counters.

The old program starts the new one with the same command line, at one end of a channel, and hands it all that it needs
to serve::

    old                                     new
    sockets, sockets, ..., state   ->       starts its workers, which accept on the same sockets
                                   <-       ready
    counts, over                   ->       takes over the admin server
    drains, and tells its counts   ->       adds them to its own
    ends

Until it is ready nothing has changed: if the new program cannot start, the old one goes on. Of the board only one
program may keep the book; from `state` on the old one leaves it alone, and has it back if the new one fails.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

from lb.catalog.delta import changed, changes
from lb.catalog.model import Snapshot
from lb.errors import BadAnswer, EdgeError
from lb.sockets import Inherited, SharedSockets, adopt
from lb.workers.channel import MOST_DESCRIPTORS, Body, Channel
from lb.workers.crew import BoardEstate

VARIABLE = "CONSUL_EDGE_HANDOVER"
"""Names, to the new program, the descriptor of its end of the channel."""

OURS_ALONE = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID")
"""What systemd said to this process and to no other."""

PROTOCOL = 1
"""Of these messages: raise it when an older program could not understand them."""

RECEIVE_TIMEOUT = 10.0
READY_TIMEOUT = 60.0


T = TypeVar("T")


class HandoverError(EdgeError):
    """A program cannot take over from another; the text says why."""


@dataclass(frozen=True, slots=True)
class Estate:
    """What a program leaves to the next one."""

    snapshot: Snapshot
    inherited: Inherited
    board: BoardEstate


class Predecessor:
    """The old program, as the new one sees it.

    `on_counts` is called with what it counts from the moment on in which it was taken over, `on_end` when it is gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._channel = Channel(sock, self._on_message, self._on_channel_end)
        self._socks: list[tuple[str, socket.socket]] = []
        self._estate: asyncio.Future[Estate] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self.on_counts: Callable[[Body], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None

    @classmethod
    def find(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """Return the old program if one started this one; the environment is cleared of it."""
        descriptor = environ.pop(VARIABLE, None)
        return None if descriptor is None else cls(socket.socket(fileno=int(descriptor)))

    async def estate(self) -> Estate:
        """Wait for what the old program leaves. Raises HandoverError."""
        return await _within(RECEIVE_TIMEOUT, self._estate)

    async def take_over(self) -> None:
        """Say that this program serves, and wait until the old one has drawn back. Raises HandoverError."""
        self._channel.send("ready")
        await _within(RECEIVE_TIMEOUT, self._over)

    def _on_message(self, kind: str, body: Body, descriptors: list[int]) -> None:
        if kind == "sockets":
            for place, descriptor in zip(body["kinds"], descriptors, strict=True):
                self._socks.append((place, adopt(descriptor)))
        elif kind == "state":
            self._settle(body, descriptors)
        elif kind == "counts":
            self.on_counts(body)
        elif kind == "over":
            self._over.set_result(None)

    def _settle(self, body: Body, descriptors: list[int]) -> None:
        if body["protocol"] != PROTOCOL:
            text = f"the old program speaks version {body['protocol']} of the handover, this one {PROTOCOL}"
            self._estate.set_exception(HandoverError(text))
            return
        columns = {int(column): pid for column, pid in body["columns"].items()}
        board = BoardEstate(descriptors[0], body["ledger"], body["version"], columns)
        try:
            snapshot = changed(Snapshot(), body["catalog"])
        except BadAnswer as error:
            self._estate.set_exception(HandoverError(f"the old program's catalog: {error}"))
        else:
            self._estate.set_result(Estate(snapshot, Inherited(self._socks), board))

    def _on_channel_end(self) -> None:
        for waiting in (self._estate, self._over):
            if not waiting.done():
                waiting.set_exception(HandoverError("the old program has gone"))
                waiting.exception()  # it is told to who waits, if anybody does
        self.on_end()


class Successor:
    """The new program, as the old one sees it: started with the object, and given everything."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _start_again(theirs)
        self._channel = Channel(ours, self._on_message, self._on_channel_end)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def give(self, estate: BoardEstate, snapshot: Snapshot, places: Iterable[SharedSockets]) -> None:
        """Hand everything over and wait until the new program serves. Raises HandoverError."""
        socks = [(shared.place.kind, sock) for shared in places for sock in shared.socks]
        for start in range(0, len(socks), MOST_DESCRIPTORS):
            part = socks[start : start + MOST_DESCRIPTORS]
            self._channel.send("sockets", {"kinds": [kind for kind, _ in part]}, [sock.fileno() for _, sock in part])
        state = {
            "protocol": PROTOCOL,
            "catalog": changes(Snapshot(), snapshot),
            "ledger": estate.ledger,
            "version": estate.version,
            "columns": estate.columns,
        }
        self._channel.send("state", state, [estate.fd])
        await _within(READY_TIMEOUT, self._ready)

    def tell(self, counts: Body) -> None:
        """Tell what was counted since the last time."""
        self._channel.send("counts", counts)

    def leave(self) -> None:
        """Say that all is over: nothing but counts will follow."""
        self._channel.send("over")

    async def flush(self) -> None:
        """Wait until all is told."""
        await self._channel.flush()

    def give_up(self) -> None:
        """End the new program: it is not wanted any more."""
        self._process.kill()
        self._channel.close()
        self._process.wait()

    def _on_message(self, kind: str, _body: Body, descriptors: list[int]) -> None:
        for descriptor in descriptors:  # it has none to give
            os.close(descriptor)
        if kind == "ready" and not self._ready.done():
            self._ready.set_result(None)

    def _on_channel_end(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(HandoverError("the new program has ended; its log says why"))
            self._ready.exception()


async def _within(seconds: float, future: asyncio.Future[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(future)
    except TimeoutError:
        raise HandoverError(f"the other program says nothing for {seconds:g} s") from None


def _start_again(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start the program that this one was started as: the same command line, with whatever code is there now."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS_ALONE}
    environment[VARIABLE] = str(channel.fileno())
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.Popen(command, pass_fds=[channel.fileno()], env=environment)  # noqa: S603  our own
