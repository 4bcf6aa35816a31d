"""The load, a program of its own on the client host: `python loader.py ADDRESS...`, with the standard library alone.

Through each edge go HTTP requests, half of them over connections that are kept, and TCP exchanges, each over a
connection of its own. One line is printed for each when it is over: begin and end (monotonic seconds), the edge, the
client, the protocol, `ok` or the reason in one word, and the version that the instance says it has.
"""

from __future__ import annotations

import http.client
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

HOST_NAME = "httpfront.tonybai.com"
TCP_PORT = 9999
HTTP_SAYS = re.compile(rb"this is httpfrontservice, version: (\S+), calling backendservice ok, its resp: \[.*\n\]\n")
TCP_SAYS = re.compile(rb"\[(\S+)\]\S+ \S+ \[hello\n\]")
TIMEOUT = 10.0
"""Seconds after which a client gives up; longer than an edge takes to try another instance."""

PAUSE = 0.1
CLIENTS = 2
"""Clients of each protocol through each edge."""


class Failure(Exception):
    """An answer that is none; the message is one word."""


class HttpClient:
    """Sends GET requests; `keep` leaves the connection open between them."""

    protocol = "http"

    def __init__(self, edge: str, keep: bool) -> None:
        self._edge = edge
        self._keep = keep
        self._connection: http.client.HTTPConnection | None = None

    def exchange(self) -> str:
        """Make one request; return the version of who answers."""
        kept = self._connection is not None
        try:
            status, body = self._request()
        except (ConnectionError, http.client.BadStatusLine):
            self._drop()
            if not kept:
                raise
            # Whoever keeps connections must expect that one was closed meanwhile (RFC 9112, 9.3.1).
            status, body = self._request()
        if status != 200:
            raise Failure(f"status-{status}")
        return version(HTTP_SAYS, body)

    def _request(self) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._edge, timeout=TIMEOUT)
        try:
            self._connection.request("GET", "/", headers={"Host": HOST_NAME})
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except BaseException:
            self._drop()
            raise
        if not self._keep:
            self._drop()
        return answer

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class TcpClient:
    """Says hello over a new connection each time."""

    protocol = "tcp"

    def __init__(self, edge: str) -> None:
        self._edge = edge

    def exchange(self) -> str:
        """Make one exchange; return the version of who answers."""
        with socket.create_connection((self._edge, TCP_PORT), timeout=TIMEOUT) as connection:
            connection.sendall(b"hello\n")
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(4096):
                parts.append(part)
        return version(TCP_SAYS, b"".join(parts))


def version(says: re.Pattern[bytes], answer: bytes) -> str:
    """Return the version in an answer; raises `Failure` when the answer is another one."""
    found = says.fullmatch(answer)
    if found is None:
        raise Failure("wrong-answer" if answer else "no-answer")
    return found[1].decode()


def run(edge: str, number: int, client: HttpClient | TcpClient, tell: Callable[[str], None]) -> None:
    """Make one exchange after the other, for ever."""
    while True:
        begin = time.monotonic()
        said = "-"
        try:
            said = client.exchange()
            result = "ok"
        except Failure as failure:
            result = str(failure)
        except (OSError, http.client.HTTPException) as error:
            result = type(error).__name__
        tell(f"{begin:.3f} {time.monotonic():.3f} {edge} {number} {client.protocol} {result} {said}")
        time.sleep(PAUSE)


def main(edges: Sequence[str]) -> None:
    """Start all clients; they end with the process."""
    lock = threading.Lock()

    def tell(line: str) -> None:
        with lock:
            print(line, flush=True)

    for edge in edges:
        for number in range(CLIENTS):
            for client in (HttpClient(edge, keep=number % 2 == 0), TcpClient(edge)):
                threading.Thread(target=run, args=(edge, number, client, tell)).start()


if __name__ == "__main__":
    main(sys.argv[1:])
