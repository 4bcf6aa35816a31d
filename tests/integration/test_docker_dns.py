"""Containers of a real Docker daemon, whose DNS server is ours on the host, resolve Consul's names and all others."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.docker import Docker
from tests.support.process import running, wait_until
from tests.support.recursor import Recursor, answer, running_recursor

GREETING = "this is httpbackendservice, version: v1.0.0"
NAME = "httpbackend.service.dc1.consul"
SERVE = ("sh", "-c", f"echo '{GREETING}' >/www/index.html; exec httpd -f -p 80 -h /www")


def foreign(query: bytes) -> list[bytes]:
    if b"\7example" not in query:
        return [answer(query, rcode="NXDOMAIN")]
    return [answer(query, "www.example.org. 60 A 192.0.2.80" if b"\3org\0\0\1\0\1" in query else "")]


@pytest.fixture
def recursor() -> Iterator[Recursor]:
    with running_recursor(foreign) as running_one:
        yield running_one


@pytest.fixture
def edge(docker: Docker, consul: Consul, recursor: Recursor, tmp_path: Path) -> Iterator[None]:
    """Our server on port 53 of the host's addresses on the bridge, as on an edge node."""
    argv = [sys.executable, "-m", "lb.cli", "dns", "--consul", consul.url, "--recursor", str(recursor.address)]
    argv += ["--dns", f"{docker.gateway}:53", "--dns", f"{docker.second}:53", "--workers", "1"]
    argv += ["--admin", "off", "--state-dir", "off"]
    log = tmp_path / "edge.log"
    with running(argv, log=log):
        query = make_query("consul.service.consul")
        wait_until(
            lambda: read_reply(ask_udp(53, query, host=docker.gateway, timeout=1)).rcode == "NOERROR",
            timeout=30,
            what="our server answers",
        )
        yield


@pytest.fixture
def backend(docker: Docker, consul: Consul, edge: None) -> Iterator[str]:
    """The internal service of three hosts in one: a container with a published port, registered at the host."""
    with docker.container(*SERVE, options=("--publish", f"{docker.gateway}:8081:80")) as container:
        consul.register("httpbackend", 8081, address=docker.gateway)
        wait_until(
            lambda: read_reply(ask_udp(53, make_query(NAME), host=docker.gateway)).data == [docker.gateway],
            what="the service is in DNS",
        )
        yield container


def look_up(docker: Docker, name: str, *options: str) -> list[str]:
    """Return the addresses that a container finds for a name."""
    output = docker.run("nslookup", "-type=a", name, options=options)
    return sorted(re.findall(r"^Address(?: \d+)?: (\S+)$", output.partition("Name:")[2], re.MULTILINE))


@pytest.mark.usefixtures("edge")
@pytest.mark.parametrize("way", ["daemon.json", "--dns", "network"])
def test_containers_resolve_names_of_consul_and_all_others(
    docker: Docker, consul: Consul, recursor: Recursor, way: str
) -> None:
    for number in range(1, 4):
        consul.register("web", 8000 + number, address=f"192.168.0.{128 + number}")
    three = [f"192.168.0.{128 + number}" for number in range(1, 4)]
    query = make_query("web.service.consul")
    wait_until(lambda: read_reply(ask_udp(53, query, host=docker.gateway)).data == three, what="the service is in DNS")
    with docker.network(f"{way.strip('-')}-net") as network:
        options = {"daemon.json": (), "--dns": ("--dns", docker.second), "network": ("--network", network)}[way]
        expected = {"daemon.json": docker.gateway, "--dns": docker.second, "network": "127.0.0.11"}[way]
        assert docker.run("cat", "/etc/resolv.conf", options=options).split()[:2] == ["nameserver", expected]
        for name in ("web.service.dc1.consul", "web.service.consul", "WEB.service.consul"):
            assert look_up(docker, name, *options) == three
        assert look_up(docker, f"{consul.node}.node.dc1.consul", *options) == ["127.0.0.1"]
        assert look_up(docker, "www.example.org", *options) == ["192.0.2.80"]
        for name in ("nosuch.service.consul", "nosuch.invalid"):
            with pytest.raises(AssertionError, match="NXDOMAIN"):
                look_up(docker, name, *options)
    assert any(b"\7example" in asked for _, asked in recursor.queries)
    assert not any(b"\6consul" in asked for _, asked in recursor.queries), "no name of ours goes to a recursor"


@pytest.mark.usefixtures("backend")
def test_a_container_calls_another_by_its_name_in_consul(docker: Docker) -> None:
    with docker.network("compose") as network:
        for options in (
            (),
            ("--dns", docker.second),
            ("--network", network),
            ("--network", "host", "--dns", docker.gateway),
        ):
            assert docker.run("wget", "-q", "-O-", f"http://{NAME}:8081/", options=options) == f"{GREETING}\n"
    assert "1 packets received" in docker.run("ping", "-c", "1", NAME)


def test_a_container_follows_a_service_that_moves(docker: Docker, consul: Consul, backend: str) -> None:
    with docker.container("sleep", "300") as client:
        ask = ("exec", client, "wget", "-q", "-O-", f"http://{NAME}:8081/")
        assert docker.call(*ask) == f"{GREETING}\n"
        docker.call("rm", "--force", backend)
        with docker.container(*SERVE, options=("--publish", f"{docker.second}:8081:80")):
            consul.register("httpbackend", 8081, address=docker.second)
            wait_until(lambda: docker.call(*ask) == f"{GREETING}\n", what="the container is served from the new place")
