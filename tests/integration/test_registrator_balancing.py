"""Balancer, DNS and registrator in one program: the end of a container is known here before Consul tells it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.docker import Docker
from tests.support.node import DOMAIN, EdgeNode, running_node
from tests.support.process import wait_until
from tests.support.registrator import HOST, published

ANSWER = r"""
while read -r line && [ ${#line} -gt 1 ]; do :; done
printf 'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n' $((${#NAME} + 1)) "$NAME"
"""
SERVE = ("nc", "-ll", "-p", "80", "-e", "sh", "-c", ANSWER)
"""Gives each reply in one piece. One of which the client has a part already, no proxy could ask for again elsewhere."""

NAMES = ("one", "two", "three")
CLIENTS = 8
AT_ONCE = 0.5
"""Seconds in which the end of a container is known; Consul is not asked meanwhile."""


class Clients:
    """Clients that keep their connections and ask one GET after the other, in threads of their own, until `stop`."""

    def __init__(self, port: int, service: str) -> None:
        self._port = port
        self._host = f"{service}.{DOMAIN}"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        self.answers: list[tuple[int, str]] = []
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with closing(connection):
            while not self._over.is_set():
                try:
                    connection.request("GET", "/", headers={"Host": self._host})
                    response = connection.getresponse()
                    self.answers.append((response.status, response.read().decode().strip()))
                except (OSError, http.client.HTTPException) as error:
                    self.answers.append((0, repr(error)))
                    connection.close()

    def ask_more(self, number: int = 300) -> None:
        """Wait until there are so many more answers."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) >= before + number, timeout=30, what=f"{number} more answers")

    def stop(self) -> None:
        """End all clients."""
        self._over.set()
        for thread in self._threads:
            thread.join(20)


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """An agent that may be stopped."""
    with running_consul(tmp_path_factory.mktemp("consul")) as consul:
        yield consul


@pytest.fixture(scope="module")
def node(docker: Docker, consul: Consul, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeNode]:
    """A node with everything, and three containers of one service behind it."""
    flags = ("--docker", docker.host, "--host-name", HOST, "--resync", "1h", "--workers", "2")
    with ExitStack() as held, running_node(tmp_path_factory.mktemp("edge"), consul.url, flags=flags) as node:
        for name in NAMES:
            settings = (f"--name={name}", f"--env=NAME={name}", "--env=SERVICE_NAME=web", "--env=SERVICE_TAGS=http")
            held.enter_context(docker.container(*SERVE, options=(*published("80"), *settings)))
        wait_until(lambda: known(node) == set(NAMES), what="all three are known")
        for name in NAMES:
            wait_until(lambda name=name: node.get("web") == (200, f"{name}\n"), what=f"{name} answers")
        yield node


def known(node: EdgeNode) -> set[str]:
    """Return which containers are instances of the service, as the node sees it."""
    return {service_id.split(":")[1] for service_id in node.instances("web")}


def ports(node: EdgeNode) -> int:
    """Return how many instances DNS tells of."""
    return len(read_reply(ask_udp(node.dns, make_query("web.service.consul", "SRV"))).data)


def test_a_container_that_is_killed_under_load_fails_no_idempotent_request(docker: Docker, node: EdgeNode) -> None:
    clients = Clients(node.http, "web")
    try:
        clients.ask_more()
        for name in ("one", "two"):
            docker.call("kill", name)
            wait_until(lambda name=name: name not in known(node), timeout=AT_ONCE, what=f"{name} is gone")
            clients.ask_more()
            docker.call("start", name)
            wait_until(lambda name=name: name in known(node), what=f"{name} is back")
            clients.ask_more()
            wait_until(lambda name=name: (200, name) in clients.answers[-100:], what=f"{name} answers again")
    finally:
        clients.stop()
    assert len(clients.answers) > 1000, "there was no load"
    assert {answer for answer in clients.answers if answer[0] != 200} == set()
    assert {name for _, name in clients.answers} == set(NAMES)


def test_the_end_of_a_container_is_known_while_consul_says_nothing(
    docker: Docker, consul: Consul, node: EdgeNode
) -> None:
    assert ports(node) == 3
    with consul.paused():
        start = time.monotonic()
        docker.call("kill", "one")
        wait_until(lambda: known(node) == {"two", "three"}, timeout=AT_ONCE, what="the balancer knows")
        wait_until(lambda: ports(node) == 2, timeout=AT_ONCE, what="DNS knows")
        docker.call("kill", "two", "three")
        wait_until(lambda: node.get("web")[0] == 404, timeout=AT_ONCE, what="a service may vanish whole")
        assert time.monotonic() - start < 5, "Consul was not waited for"
    wait_until(lambda: not consul.get("/v1/catalog/service/web"), what="Consul has been told")
    assert known(node) == set()
    docker.call("start", *NAMES)
    wait_until(lambda: known(node) == set(NAMES), what="all three are back")
