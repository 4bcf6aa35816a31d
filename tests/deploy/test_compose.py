"""compose.yaml, read by docker-compose, and all of it running on a real Docker daemon."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.consul import require
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.docker import Docker
from tests.support.process import free_ports, wait_until
from tests.support.python_image import ROOT, program_image

FILE = ROOT / "deploy" / "docker" / "compose.yaml"
WHY = "these tests read and run compose.yaml"
CONSUL = "consul-edge-tests/consul"
BACK = "this is httpbackendservice, version: v1.0.0\n"
FRONT = f"this is httpfrontservice, version: v1.0.0, calling backendservice ok, its resp: [{BACK}]\n"
SCALED = ("httpbackend", "httpfront", "tcpfront")


def compose(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run docker-compose on the file; returns what it prints, AssertionError with the reason when it fails."""
    done = subprocess.run(
        [require("docker-compose", WHY), "--file", str(FILE), "--project-name", "edgetest", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"docker-compose {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_file_is_right() -> None:
    assert set(compose("config", "--services").split()) == {"consul", "edge", "registrator", *SCALED}


class Running:
    """Where the services of the file are reached from here."""

    def __init__(self, http: int, tcp: int, dns: int) -> None:
        self._http = http
        self._tcp = tcp
        self._dns = dns

    def get(self, name: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Host": name})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()

    def say(self, word: str) -> str:
        with socket.create_connection(("127.0.0.1", self._tcp), timeout=5) as client:
            client.sendall(word.encode() + b"\n")
            return client.recv(200).decode()

    def addresses(self, name: str) -> set[str]:
        return set(read_reply(ask_udp(self._dns, make_query(name))).data)


@pytest.fixture
def running(docker: Docker, image: str) -> Iterator[Running]:
    """Run the file on images made here, three of each sample service."""
    docker.call("import", "--change", 'ENTRYPOINT ["consul"]', "-", CONSUL, stdin=consul_image())
    tcp, dns, edge, admin = free_ports(4)
    environment = {
        "DOCKER_HOST": docker.host,
        "DOCKER_SOCKET": docker.host.removeprefix("unix://"),
        "DOCKER_GID": str(Path(docker.host.removeprefix("unix://")).stat().st_gid),
        "CONSUL_IMAGE": CONSUL,
        "EDGE_IMAGE": image,
        "SAMPLES_IMAGE": image.replace("consul-edge-tests/consul-edge", "consul-edge-tests/python"),
        "EDGE_HTTP": f"127.0.0.1:{edge}",
        "EDGE_TCP": f"127.0.0.1:{tcp}",
        "EDGE_DNS": f"127.0.0.1:{dns}",
        "EDGE_ADMIN": f"127.0.0.1:{admin}",
        "EDGE_NETWORK": docker.gateway.rpartition(".")[0].rpartition(".")[0] + ".99",
    }
    scale = [word for service in SCALED for word in ("--scale", f"{service}=3")]
    try:
        compose("up", "--detach", *scale, environment=environment)
        yield Running(edge, tcp, dns)
    finally:
        compose("down", "--volumes", "--timeout", "2", environment=environment)


def consul_image() -> bytes:
    return program_image(Path(require("consul", WHY)).resolve())


def test_the_whole_scenario_runs(docker: Docker, running: Running) -> None:
    name = "httpfront.example.org"
    wait_until(lambda: running.get(name) == (200, FRONT), timeout=40, what="the front is served, and calls the back")
    backends = running.addresses("httpbackend.service.dc1.consul")
    assert len(backends) == 3
    wait_until(lambda: re.match(r"\[v1\.0\.0\]\S+ \[hello\n\]\n$", running.say("hello")), what="the echo is served")
    fronts = running.addresses("httpfront.service.dc1.consul")
    assert len(fronts) == 3
    assert Counter(running.get(name)[0] for _ in range(9)) == {200: 9}

    docker.call("kill", "edgetest_httpfront_1")
    wait_until(lambda: len(running.addresses("httpfront.service.dc1.consul")) == 2, what="one is deregistered")
    assert running.addresses("httpfront.service.dc1.consul") < fronts
    assert Counter(running.get(name)[0] for _ in range(9)) == {200: 9}
