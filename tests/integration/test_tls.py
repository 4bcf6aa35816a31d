"""TLS by server name on a whole node: a real Consul, and a server and a client of OpenSSL."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support.certificates import Certificate, make_certificate
from tests.support.consul import Consul, require
from tests.support.node import running_node
from tests.support.process import free_port, port_open, running, wait_until


def _answers(port: int, certificate: Certificate, name: str) -> bool:
    """Ask for a page by that server name, and check the certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        certificate.client().wrap_socket(plain, server_hostname=name) as client,
    ):
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.0 200")


def test_tls_follows_the_catalog_and_is_shown(consul: Consul, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "web.test", "*.shop.example.org")
    tls, origin = free_port(), free_port()
    server: list[str | Path] = [require("openssl", "the server of this test"), "s_server", "-www", "-quiet"]
    server += ["-accept", str(origin), "-cert", certificate.certificate, "-key", certificate.key]
    flags = ("--tls", f"127.0.0.1:{tls}")
    with (
        running(server, log=tmp_path / "server.log"),
        running_node(tmp_path, consul.url, flags=flags) as node,
    ):
        wait_until(lambda: port_open(origin), what="the server listens")
        consul.register("web", origin, tags=["tls"], meta={"lb_host": "*.shop.example.org"})
        for name in ("web.test", "one.shop.example.org"):
            wait_until(partial(_answers, tls, certificate, name), what=f"{name} answers")
        with socket.create_connection(("127.0.0.1", tls), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100) == b""

        metrics = node.metrics()
        assert metrics['lb_tls_opened_sessions_total{service="web"}'] == 2
        assert metrics[f'lb_rejected_connections_total{{kind="not_tls",listener="tls 127.0.0.1:{tls}"}}'] == 1
        command = [sys.executable, "-m", "lb.cli", "routes", "--admin", f"127.0.0.1:{node.admin}"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        assert f"tls web.test, *.shop.example.org  web      least_conn  127.0.0.1:{origin}" in shown
        status = node.api("/api/status")
        assert status["routes"] == {"http": 0, "tcp": 0, "tls": 1}
        assert status["traffic"]["tls_sessions"] == 2
