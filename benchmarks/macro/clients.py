"""Clients that keep their connections and do nothing: `python -m benchmarks.macro.clients ADDRESS:PORT COUNT`.

Each one makes one request. When that is done, a line of JSON tells how many got a reply; they are idle until standard
input ends, and a second line then tells how many are still connected.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from benchmarks.macro.site import HOST, SMALL_REPLY

PER_ADDRESS = 5000
"""Clients that share one address of the loopback network, so that no address runs out of ports."""

TIMEOUT = 10.0
"""Seconds for one request."""

REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def connect(server: tuple[str, int], index: int) -> socket.socket:
    """Return the `index`-th client's connection, after one request; raise OSError when that failed."""
    source = f"127.0.0.{2 + index // PER_ADDRESS}"
    connection = socket.create_connection(server, timeout=TIMEOUT, source_address=(source, 0))
    try:
        connection.sendall(REQUEST)
        reply = b""
        while not reply.endswith(SMALL_REPLY.encode()):
            piece = connection.recv(4096)
            if not piece:
                raise ConnectionError("closed before the reply was complete")
            reply += piece
        if not reply.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"refused: {reply[:40]!r}")
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def is_open(connection: socket.socket) -> bool:
    """Tell whether an idle connection is still there."""
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main(argv: Sequence[str]) -> None:
    """Hold the connections until standard input ends."""
    host, _, port = argv[0].rpartition(":")
    connections = []
    for index in range(int(argv[1])):
        with suppress(OSError):
            connections.append(connect((host, int(port)), index))
    print(json.dumps({"connected": len(connections)}), flush=True)
    sys.stdin.read()
    print(json.dumps({"connected": sum(map(is_open, connections))}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
