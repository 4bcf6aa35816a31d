"""One worker as its supervisor sees it: the process, and what it knows and does not know yet."""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lb.catalog.delta import changes
from lb.catalog.model import Snapshot
from lb.settings import Settings
from lb.sockets import Place, SharedSockets
from lb.workers.channel import MOST_DESCRIPTORS, Body, Channel

_HIDDEN = ("CONSUL_HTTP_TOKEN", "CONSUL_EDGE_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID")
"""What a worker has no use for: secrets, and what systemd says to the supervisor."""


class Owner(Protocol):
    """Who a member belongs to."""

    def told(self, member: Member, kind: str, body: Body) -> None:
        """A worker said something."""

    def ended(self, member: Member) -> None:
        """A worker's process has ended, and has been waited for."""


class Member:
    """A worker: started with the object, told what changes, at its own pace.

    While a worker has not applied an update it gets no other: what happens meanwhile is told in one go.
    `number` says which share of the sockets it accepts on, `column` which one of shared memory it writes to.
    """

    def __init__(self, number: int, workers: int, column: int, board_fd: int, settings: Settings, owner: Owner) -> None:
        self.number = number
        self.column = column
        self.started = time.monotonic()
        self._workers = workers
        self._owner = owner
        self._sent = Snapshot()
        self._rows: dict[str, int | None] = {}
        self._open: list[SharedSockets] = []
        self._close: list[Place] = []
        self._columns = 0
        self._version = -1  # of the update that the worker is busy with
        self.applied = asyncio.Event()  # everything that it was told
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _spawn(theirs)
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._channel = Channel(ours, self._on_message, lambda: None)
        secret = base64.b64encode(pickle.dumps(settings)).decode()
        self._channel.send("start", {"settings": secret, "column": column}, [board_fd])

    def __repr__(self) -> str:
        return f"<worker {self.number} pid={self.pid} column={self.column}>"

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def status(self) -> str:
        """How it ended, for people."""
        code = self._process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"status {code}"

    def note_rows(self, rows: Mapping[str, int | None]) -> None:
        """Have rows of shared memory told with the next update; None: the name is of no use any more."""
        self._rows.update(rows)

    def note_open(self, shared: SharedSockets) -> None:
        """Have a place opened with the next update."""
        self._open.append(shared)

    def note_closed(self, place: Place) -> None:
        """Have a place closed with the next update."""
        waiting = [shared for shared in self._open if shared.place == place]
        self._open = [shared for shared in self._open if shared.place != place]
        if not waiting:
            self._close.append(place)

    def update(self, version: int, columns: int, snapshot: Snapshot) -> None:
        """Tell what has changed, unless the worker is still busy with what it was told before."""
        if self._version >= 0:
            return
        news = self._rows or self._open or self._close or columns != self._columns
        if snapshot is self._sent and not news:
            self.applied.set()
            return
        self.applied.clear()
        opened, descriptors = self._shares()
        catalog = None if snapshot is self._sent else changes(self._sent, snapshot)
        body: dict[str, Any] = {
            "version": version,
            "columns": columns,
            "catalog": catalog,
            "rows": self._rows,
            "open": opened,
            "close": [[place.kind, *place.address] for place in self._close],
        }
        self._channel.send("update", body, descriptors)
        self._version, self._columns, self._sent = version, columns, snapshot
        self._rows, self._close = {}, []

    def _shares(self) -> tuple[list[list[Any]], list[int]]:
        """Take as many of the places to be opened as a message can carry, those of the settings first."""
        opened: list[list[Any]] = []
        descriptors: list[int] = []
        self._open.sort(key=lambda shared: shared.place.kind == "tcp")
        while self._open:
            share = self._open[0].share(self.number, self._workers)
            if len(descriptors) + len(share) > MOST_DESCRIPTORS:
                break
            opened.append([*_flat(self._open.pop(0).place), len(share)])
            descriptors += [sock.fileno() for sock in share]
        return opened, descriptors

    def ask(self, kind: str, **body: Any) -> None:
        """Send a message that needs no state: `report`, `confirm`, `reopen_log`, `drain`."""
        self._channel.send(kind, body)

    def kill(self) -> None:
        """End the process at once; the owner is told when it has ended."""
        self._process.kill()

    def _on_message(self, kind: str, body: Body, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:  # a worker has none to send
            os.close(descriptor)
        if kind == "applied":
            self._version = -1
        self._owner.told(self, kind, body)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        # What it said last may still be waiting to be read.
        self._channel.drain()
        self._channel.close()
        self._owner.ended(self)


def _flat(place: Place) -> tuple[str, str, int]:
    return (place.kind, *place.address)


def _spawn(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start a worker with the same program as this one, wherever it was found."""
    environment = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-m", "lb.workers.worker", str(channel.fileno())]
    keep = [channel.fileno()]
    return subprocess.Popen(command, pass_fds=keep, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603  our own
