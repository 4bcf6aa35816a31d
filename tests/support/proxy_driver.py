"""Plays a vector's script against a running proxy, over the network."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import time

from tests.support.peers import HOLD_PATH, Behaviour, Peer, Plane
from tests.support.process import wait_until
from tests.support.vectors import CLIENT

TIMEOUT = 20.0


class ProxyDriver:
    """A client of one virtual host (`http`) or port (`tcp`) of a proxy, beside the peers behind it."""

    def __init__(self, plane: Plane, port: int, host: str, peers: dict[str, Peer], journal: list[str]) -> None:
        self._plane = plane
        self._port = port
        self._host = host
        self._peers = peers
        self._journal = journal
        self._held: dict[str, list[socket.socket]] = {name: [] for name in peers}

    def ask(self, client: str) -> str:
        start = len(self._journal)
        with self._send("/", client) as connection:
            end = self._outcome(connection)
        seen = "".join(self._journal[start:])
        for name in seen:
            # The proxy lets go of a connection when it ends it: the next pick counts only what is open.
            self._peers[name].wait_open(len(self._held[name]))
        return seen + end

    def hold(self) -> str:
        start = len(self._journal)
        connection = self._send(HOLD_PATH, CLIENT)
        wait_until(
            lambda: len(self._journal) > start or select.select([connection], [], [], 0)[0],
            what="the request reached a peer or was refused",
        )
        seen = "".join(self._journal[start:])
        if seen:
            self._held[seen[-1]].append(connection)
            return seen
        with connection:
            return self._outcome(connection)

    def end(self, peer: str) -> None:
        if self._plane == "http":
            self._peers[peer].let_go()
        for connection in self._held[peer]:
            with connection:
                assert self._outcome(connection) == ""
        self._held[peer].clear()
        self._peers[peer].wait_open(0)

    def behave(self, peer: str, behaviour: Behaviour) -> None:
        self._peers[peer].behave(behaviour)

    def wait(self, seconds: int) -> None:
        time.sleep(seconds + 0.1)  # the time itself is what is tested

    def close(self) -> None:
        """End everything that is still held."""
        for connections in self._held.values():
            for connection in connections:
                connection.close()

    def _send(self, path: str, client: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT, source_address=(client, 0))
        if self._plane == "http":
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        return connection

    def _outcome(self, connection: socket.socket) -> str:
        """Read the answer; return how it ended, nothing if a peer's name came, as it should."""
        if self._plane == "tcp":
            return "" if _line(connection) else ":eof"
        response = http.client.HTTPResponse(connection)
        with contextlib.closing(response):
            response.begin()
            body = response.read()
        if response.status != 200:
            return f":{response.status}"
        assert body.decode() in self._peers
        return ""


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        part = connection.recv(100)
        if not part:
            break
        data += part
    return data
