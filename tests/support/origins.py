"""Small HTTP origins for tests: each answers everything with its own name."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Origin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server: Any = self.server
        body = server.text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        while data := self.request.recv(65536):
            self.request.sendall(server.text.encode() + data)


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024  # 5 would lose connections of a burst


@contextlib.contextmanager
def origin(text: str) -> Iterator[int]:
    """Run an HTTP origin that answers `text`; gives its port."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
    with _serving(server, text) as port:
        yield port


@contextlib.contextmanager
def echo(text: str) -> Iterator[int]:
    """Run a TCP echo that puts `text` before what it read; gives its port."""
    with _serving(_EchoServer(("127.0.0.1", 0), _Echo), text) as port:
        yield port


@contextlib.contextmanager
def _serving(server: Any, text: str) -> Iterator[int]:
    server.text = text
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
