"""Scripted upstream peers on loopback: each has a name, behaves as told, and notes every attempt on it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Literal

from tests.support.process import free_port, wait_until

Plane = Literal["http", "tcp"]
Behaviour = Literal["answer", "close", "reset", "hang", "refuse", "stall"]
"""What a peer does with an attempt.

`answer` says its name. `close` and `reset` end the connection without a word, `hang` keeps it and is
silent: over HTTP after they have read a request. `refuse` does not listen. `stall` leaves connection
attempts unanswered (its queue is full).
"""

HOLD_PATH = "/hold"
"""A request for this path is answered when the peer is told to let go."""


class Peer:
    """One peer: a listening socket whose port stays its own, and a thread for it and for each connection.

    A visible attempt (a request over HTTP, a connection over TCP) puts the name into `journal`, which peers
    share. Each HTTP answer closes its connection: a kept connection would add its own rules to the
    balancer's.
    """

    def __init__(self, name: str, plane: Plane, journal: list[str]) -> None:
        self.name = name
        self._plane = plane
        self._journal = journal
        self._behaviour: Behaviour = "refuse"
        self._let_go = threading.Event()
        self._open: set[socket.socket] = set()
        self._fillers: list[socket.socket] = []
        self._acceptor: threading.Thread | None = None
        self.port = free_port()  # asked for by number, the port stays bound while the socket does not listen
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))

    def behave(self, behaviour: Behaviour) -> None:
        """Behave so from the next attempt on."""
        self._stop_listening()
        self._behaviour = behaviour
        if behaviour == "stall":
            self._listener.listen(0)
            self._fill()
        elif behaviour != "refuse":
            self._listener.listen(128)
            self._acceptor = threading.Thread(target=self._accept, name=f"peer {self.name}", daemon=True)
            self._acceptor.start()

    def let_go(self) -> None:
        """Answer the held requests; return when nothing is open any more."""
        self._let_go.set()
        self.wait_open(0)
        self._let_go = threading.Event()

    def wait_open(self, count: int) -> None:
        """Return when so many connections to the peer are open."""
        wait_until(lambda: len(self._open) == count, what=f"peer {self.name} has {count} open connections")

    def close(self) -> None:
        """End the listener and every connection."""
        self._let_go.set()
        self.behave("refuse")
        self._listener.close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.wait_open(0)

    def _stop_listening(self) -> None:
        # Linux: a listening socket that is shut down refuses connections, keeps its port, and may listen
        # again. (Shut down while it does not listen, it would hand that state on to what it accepts later.)
        if self._behaviour != "refuse":
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor is not None:
            self._acceptor.join()
            self._acceptor = None
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _fill(self) -> None:
        """Fill the queue of connections until the kernel leaves further ones unanswered."""
        while True:
            filler = socket.socket()
            filler.settimeout(0.2)
            self._fillers.append(filler)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, self._behaviour), name=f"peer {self.name}", daemon=True
            ).start()

    def _serve(self, connection: socket.socket, behaviour: Behaviour) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                if self._plane == "http":
                    self._serve_http(connection, behaviour)
                else:
                    self._serve_tcp(connection, behaviour)
                if behaviour == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            self._open.discard(connection)

    def _serve_http(self, connection: socket.socket, behaviour: Behaviour) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        self._journal.append(self.name)
        if behaviour == "hang":
            _read_to_end(connection)
        elif behaviour == "answer":
            if head.split(b" ", 2)[1] == HOLD_PATH.encode():
                self._let_go.wait()
            body = self.name.encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )

    def _serve_tcp(self, connection: socket.socket, behaviour: Behaviour) -> None:
        self._journal.append(self.name)
        if behaviour == "answer":
            connection.sendall(self.name.encode() + b"\n")
        if behaviour in ("answer", "hang"):
            _read_to_end(connection)


def _read_to_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@contextlib.contextmanager
def running_peers(names: Sequence[str], plane: Plane) -> Iterator[tuple[dict[str, Peer], list[str]]]:
    """Run peers that answer, until the end of the `with` block; yield them by name, and their journal."""
    journal: list[str] = []
    with contextlib.ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name in names:
            peer = Peer(name, plane, journal)
            stack.callback(peer.close)
            peer.behave("answer")
            peers[name] = peer
        yield peers, journal
