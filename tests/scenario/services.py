"""The sample services, each in a container of its own: `python services.py NAME`, with the standard library alone.

`httpbackend` greets, `httpfront` calls it by its name in Consul and quotes it, `tcpfront` echoes lines, and `tlsfront`
greets over TLS, with a certificate that it alone has. Each prints a line for each request or connection that it serves.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import socketserver
import ssl
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BACKEND = ("httpbackend.service.dc1.consul", 8081)
CALL_TIMEOUT = 1.0
"""Seconds for one address of the backend; then the next one is tried, as every good client does."""

CERTIFICATE, KEY = "/srv/tls.pem", "/srv/tls.key"
LINE_LIMIT = 64 << 10
PORTS = {"httpbackend": 8081, "httpfront": 8080, "tcpfront": 9999, "tlsfront": 9443}
VERSION = "v1.0.0"


class Backend(BaseHTTPRequestHandler):
    """Answers every GET alike."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    name = "httpbackend"
    server: _HttpServer

    def do_GET(self) -> None:
        text = f"this is {self.name}service, version: {self.server.version}\n"
        self.reply(200, text)

    def reply(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """One line for each request, so that `docker logs` tells how many there were."""
        print(self.client_address[0], flush=True)


class Secure(Backend):
    """The same over TLS."""

    name = "tlsfront"


class Front(Backend):
    """Answers with what the backend answers."""

    def do_GET(self) -> None:
        opening = f"this is httpfrontservice, version: {self.server.version}, calling backendservice"
        try:
            self.reply(200, f"{opening} ok, its resp: [{call_backend()}]\n")
        except OSError as error:
            self.reply(502, f"{opening} failed: {error}\n")


def call_backend() -> str:
    """Call the backend at one address after the other; raises the last one's error."""
    failure = OSError("no address")
    for *_, address in socket.getaddrinfo(*BACKEND, family=socket.AF_INET, type=socket.SOCK_STREAM):
        connection = http.client.HTTPConnection(str(address[0]), int(address[1]), timeout=CALL_TIMEOUT)
        try:
            connection.request("GET", "/", headers={"Host": BACKEND[0]})
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            failure = OSError(str(error))
        finally:
            connection.close()
    raise failure


class Echo(socketserver.StreamRequestHandler):
    """A line comes back as `[version]time [line]`, the line with its newline."""

    disable_nagle_algorithm = True
    server: _EchoServer

    def handle(self) -> None:
        print(self.client_address[0], flush=True)
        while line := self.rfile.readline(LINE_LIMIT):
            now = datetime.now(UTC).isoformat(sep=" ")
            self.wfile.write(f"[{self.server.version}]{now} [".encode() + line + b"]")


class _HttpServer(ThreadingHTTPServer):
    version = VERSION


class _EchoServer(socketserver.ThreadingTCPServer):
    version = VERSION
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def server(name: str, version: str) -> socketserver.BaseServer:
    """Return the service of that name, listening on all addresses."""
    place = ("0.0.0.0", PORTS[name])
    if name == "tcpfront":
        echo = _EchoServer(place, Echo)
        echo.version = version
        return echo
    made = _HttpServer(place, {"httpbackend": Backend, "httpfront": Front, "tlsfront": Secure}[name])
    made.version = version
    if name == "tlsfront":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        # The handshake is left to the thread that serves the connection: one client that is silent holds up no other.
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Run one sample service.")
    parser.add_argument("name", choices=PORTS)
    parser.add_argument("--version", default=VERSION, help="what the service says of itself")
    options = parser.parse_args()
    server(options.name, options.version).serve_forever()


if __name__ == "__main__":
    main()
