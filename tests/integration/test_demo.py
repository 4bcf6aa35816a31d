"""`consul-edge demo` as a user meets it: the scenario's answers to the letter, a change, and a clean end."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dnslib import QTYPE, DNSRecord

from tests.support.consul import ConsulApi
from tests.support.process import running, wait_until

BACKEND_SAYS = "this is httpbackendservice, version: v1.0.0\n"
FRONT_SAYS = f"this is httpfrontservice, version: v1.0.0, calling backendservice ok, its resp: [{BACKEND_SAYS}]\n"
ECHO_SAYS = re.compile(rb"\[v1\.0\.0\]\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00 \[hello\n\]")
ADDRESSES = {"127.0.0.11", "127.0.0.12", "127.0.0.13"}
FREE_PORTS = [f"--{part}=127.0.0.1:0" for part in ("http", "dns", "admin", "catalog")]


@dataclass(frozen=True)
class Demo:
    """A running demo: where its parts are, as it printed it."""

    process: subprocess.Popen[bytes]
    log: Path
    http: str
    tcp: tuple[str, int]
    dns: tuple[str, int]
    admin: str
    catalog: ConsulApi

    def get(self, host: str, netloc: str = "", path: str = "/") -> tuple[int, str]:
        """GET with a Host header; return status and text."""
        connection = http.client.HTTPConnection(netloc or self.http, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def resolve(self, name: str, kind: str = "A") -> list[str]:
        """Return the data of the records that answer a question."""
        reply = DNSRecord.parse(DNSRecord.question(name, kind).send(*self.dns, timeout=10))
        return [str(record.rdata) for record in reply.rr if QTYPE[record.rtype] == kind]


def demo_command(*options: str) -> list[str]:
    """Return the command line of a demo."""
    return [sys.executable, "-m", "lb.cli", "demo", *options]


def printed(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the lines that a started demo prints, and return them."""

    def text() -> str:
        output = log.read_text()
        if process.poll() is not None:
            raise RuntimeError(f"the demo ended with status {process.returncode}:\n{output}")
        return output if "Ctrl-C ends it." in output else ""

    return wait_until(text, timeout=30, what="the demo is ready")


def find(pattern: str, text: str) -> tuple[str, ...]:
    """Return the groups of a pattern in what the demo printed."""
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in:\n{text}"
    return match.groups()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run one demo for all tests of this file."""
    log = tmp_path_factory.mktemp("demo") / "log"
    with running(demo_command(*FREE_PORTS), log=log) as process:
        text = printed(process, log)
        [netloc] = find(r"curl -H 'Host: httpfront\.tonybai\.com' http://(\S+)/", text)
        tcp_host, tcp_port = find(r"echo hello \| nc -N (\S+) (\d+)", text)
        dns_host, dns_port = find(r"dig @(\S+) -p (\d+)", text)
        [admin] = find(r"Admin +http://(\S+)/", text)
        [catalog] = find(r"(http://\S+)/v1/agent/service/register", text)
        yield Demo(
            process,
            log,
            netloc,
            (tcp_host, int(tcp_port)),
            (dns_host, int(dns_port)),
            admin,
            ConsulApi(catalog),
        )


def test_http_to_the_outside(demo: Demo) -> None:
    assert [demo.get("httpfront.tonybai.com") for _ in range(9)] == [(200, FRONT_SAYS)] * 9
    assert demo.get("unheard-of.tonybai.com")[0] == 404


def test_tcp_to_the_outside(demo: Demo) -> None:
    for _ in range(6):
        with socket.create_connection(demo.tcp, timeout=10) as client:
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(4096), b""))
        assert ECHO_SAYS.fullmatch(received), received


def test_internal_service_by_dns(demo: Demo) -> None:
    assert set(demo.resolve("httpbackend.service.dc1.consul")) == ADDRESSES
    assert set(demo.resolve("consul.service.dc1.consul")) == ADDRESSES
    firsts = {demo.resolve("consul.service.dc1.consul")[0] for _ in range(60)}
    assert firsts == ADDRESSES, "the three servers are reached in turn"


def test_address_and_port_by_dns_lead_to_the_backend(demo: Demo) -> None:
    records = [record.split() for record in demo.resolve("httpbackend.service.dc1.consul", "SRV")]
    assert len(records) == 3
    for _, _, port, target in records:
        [address] = demo.resolve(target)
        assert demo.get("anything", f"{address}:{port}") == (200, BACKEND_SAYS)


def test_admin_server_says_ready(demo: Demo) -> None:
    assert demo.get("admin", demo.admin, "/health/ready")[0] == 200
    status, metrics = demo.get("admin", demo.admin, "/metrics")
    assert (status, "lb_" in metrics) == (200, True)


def test_change_of_the_catalog_is_followed(demo: Demo) -> None:
    _, _, port, _ = demo.resolve("httpbackend.service.dc1.consul", "SRV")[0].split()
    assert demo.get("web.tonybai.com")[0] == 404
    demo.catalog.register("web", int(port), address="127.0.0.11", tags=["http"])
    wait_until(lambda: demo.get("web.tonybai.com") == (200, BACKEND_SAYS), what="the new service answers")
    demo.catalog.maintenance("httpbackend-1", True)
    remaining = ADDRESSES - {"127.0.0.11"}
    wait_until(
        lambda: set(demo.resolve("httpbackend.service.dc1.consul")) == remaining,
        what="the instance in maintenance is not given any more",
    )
    assert demo.get("httpfront.tonybai.com") == (200, FRONT_SAYS)
    demo.catalog.maintenance("httpbackend-1", False)
    wait_until(
        lambda: set(demo.resolve("httpbackend.service.dc1.consul")) == ADDRESSES,
        what="the instance is back",
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly(tmp_path: Path, end: signal.Signals) -> None:
    log = tmp_path / "log"
    with running(demo_command(*FREE_PORTS), log=log) as process:
        printed(process, log)
        process.send_signal(end)
        assert process.wait(15) == 0
    output = log.read_text()
    assert output.endswith("Stopping.\n")
    assert "Traceback" not in output


def test_address_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with running(demo_command(*FREE_PORTS, f"--catalog={address}"), log=log) as process:
            assert process.wait(30) == 1
    output = log.read_text()
    assert f"consul-edge demo: catalog {address}: " in output
    assert "Traceback" not in output
