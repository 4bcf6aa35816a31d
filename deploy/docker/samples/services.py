"""The sample services of compose.yaml: `python3 services.py httpbackend|httpfront|tcpfront`."""

from __future__ import annotations

import socketserver
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

BACKEND = "http://httpbackend.service.dc1.consul:8081/"


def httpbackend() -> str:
    """Answer any request."""
    return "this is httpbackendservice, version: v1.0.0\n"


def httpfront() -> str:
    """Call the back by its name in Consul, anew for each request."""
    with urlopen(BACKEND, timeout=5) as reply:
        said = reply.read().decode()
    return f"this is httpfrontservice, version: v1.0.0, calling backendservice ok, its resp: [{said}]\n"


class Echo(socketserver.StreamRequestHandler):
    """Say each line back, with the version and the time."""

    def handle(self) -> None:
        """Serve one connection to its end."""
        for line in self.rfile:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.wfile.write(f"[v1.0.0]{now} [{line.decode(errors='replace')}]\n".encode())


def pages(answer: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    """Make a handler that answers every GET so, and 502 when that fails."""

    class Page(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name that http.server looks for
            try:
                status, text = 200, answer()
            except OSError as error:
                status, text = 502, f"{error}\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    return Page


def main(name: str) -> None:
    """Serve until the container ends."""
    if name == "tcpfront":
        server: socketserver.BaseServer = socketserver.ThreadingTCPServer(("0.0.0.0", 9999), Echo)
    else:
        port, answer = {"httpbackend": (8081, httpbackend), "httpfront": (8080, httpfront)}[name]
        server = ThreadingHTTPServer(("0.0.0.0", port), pages(answer))
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
