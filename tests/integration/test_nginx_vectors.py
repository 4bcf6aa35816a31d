"""The same balancing vectors through nginx and through consul-edge: they pick alike.

Most of a vector's time is waiting, for a `fail_timeout` or a silent peer. So one program of each kind has the groups of
all vectors, and they are played side by side, each before peers of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.nginx import http_block, running_nginx, stream_block
from tests.support.node import EdgeNode, running_node
from tests.support.peers import Peer, Plane, running_peers
from tests.support.process import free_port, wait_until
from tests.support.proxy_driver import ProxyDriver
from tests.support.vectors import CASE_NAMES, CASES, Vector, play

SIDE_BY_SIDE = 8

each_case = pytest.mark.parametrize("case", CASE_NAMES)


@dataclass(frozen=True)
class Stage:
    """A vector on one plane, its peers, what they note, and the port that TCP clients connect to."""

    case: str
    vector: Vector
    plane: Plane
    peers: dict[str, Peer]
    journal: list[str]
    tcp_port: int

    @property
    def service(self) -> str:
        """The name of the group, and of the service."""
        return f"vector-{self.case}"

    def play(self, http_port: int) -> list[str]:
        """Play the vector's script against a proxy and return the trace."""
        port = http_port if self.plane == "http" else self.tcp_port
        driver = ProxyDriver(self.plane, port, f"{self.service}.test", self.peers, self.journal)
        with contextlib.closing(driver):
            return play(self.vector, driver)


Traces = dict[str, Future[list[str]]]


@pytest.fixture(scope="module")
def nginx_traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    with stages() as prepared:
        port, directory = free_port(), tmp_path_factory.mktemp("nginx")
        with running_nginx(directory, nginx_configuration(prepared, port, directory)):
            yield from playing({stage.case: (stage, port) for stage in prepared})


@pytest.fixture(scope="module")
def edge_traces(tmp_path_factory: pytest.TempPathFactory, _shared_consul: Consul) -> Iterator[Traces]:
    consul = _shared_consul
    with stages() as prepared, contextlib.ExitStack() as nodes:
        for stage in prepared:
            register(consul, stage)
        ports = {
            timeout: nodes.enter_context(running_edge(prepared, timeout, consul, tmp_path_factory)).http
            for timeout in sorted({stage.vector.read_timeout for stage in prepared})
        }
        yield from playing({stage.case: (stage, ports[stage.vector.read_timeout]) for stage in prepared})


@each_case
def test_nginx_makes_these_picks(case: str, nginx_traces: Traces) -> None:
    assert nginx_traces[case].result() == expected(case)


@each_case
def test_consul_edge_picks_as_nginx_does(case: str, edge_traces: Traces) -> None:
    assert edge_traces[case].result() == expected(case)


def expected(case: str) -> list[str]:
    """Return the trace that a case should leave."""
    vector, plane = CASES[CASE_NAMES.index(case)]
    return vector.expected(plane)


@contextlib.contextmanager
def stages() -> Iterator[list[Stage]]:
    """Run the peers of all cases."""
    with contextlib.ExitStack() as running:
        prepared = []
        for case, (vector, plane) in zip(CASE_NAMES, CASES, strict=True):
            peers, journal = running.enter_context(running_peers(tuple(vector.weights), plane))
            prepared.append(Stage(case, vector, plane, peers, journal, free_port()))
        yield prepared


def playing(cases: dict[str, tuple[Stage, int]]) -> Iterator[Traces]:
    """Play all cases, each before the proxy whose HTTP port it is given with; those that take longest come first."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        longest = sorted(cases.values(), key=lambda each: -each[0].vector.duration)
        traces = {stage.case: pool.submit(stage.play, port) for stage, port in longest}
        yield traces


def nginx_configuration(prepared: list[Stage], port: int, directory: Path) -> str:
    """Return the blocks that make nginx the proxy before all peers."""
    blocks: dict[Plane, list[str]] = {"http": [], "tcp": []}
    for stage in prepared:
        vector, group = stage.vector, stage.service
        options = f"max_fails={vector.max_fails} fail_timeout={vector.fail_timeout} max_conns={vector.max_conns}"
        servers = "\n".join(
            f"server 127.0.0.1:{stage.peers[name].port} weight={weight} {options};"
            for name, weight in vector.weights.items()
        )
        policy = "" if vector.policy == "round_robin" else f"{vector.policy};"
        if stage.plane == "tcp":
            listen = f"listen 127.0.0.1:{stage.tcp_port}; proxy_connect_timeout 1s;"
            server = f"server {{ {listen} proxy_pass {group}; }}"
        else:
            listen = f"listen 127.0.0.1:{port}; server_name {group}.test; proxy_connect_timeout 1s;"
            location = f"location / {{ proxy_pass http://{group}; proxy_read_timeout {vector.read_timeout}s; }}"
            server = f"server {{ {listen} {location} }}"
        blocks[stage.plane].append(f"upstream {group} {{ {policy}\n{servers} }}\n{server}")
    return http_block(directory, "\n".join(blocks["http"])) + stream_block("\n".join(blocks["tcp"]))


def register(consul: Consul, stage: Stage) -> None:
    """Register the peers as instances of one service, with the vector's options; IDs keep their order."""
    vector = stage.vector
    meta = {
        "lb_policy": vector.policy,
        "lb_max_fails": str(vector.max_fails),
        "lb_fail_timeout": f"{vector.fail_timeout}s",
        "lb_max_conns": str(vector.max_conns),
    }
    if stage.plane == "tcp":
        meta["lb_port"] = str(stage.tcp_port)
    for name, weight in vector.weights.items():
        port, identifier = stage.peers[name].port, f"{stage.service}-{name}"
        consul.register(stage.service, port, id=identifier, tags=[stage.plane], meta=meta, weight=weight)


@contextlib.contextmanager
def running_edge(
    prepared: list[Stage], read_timeout: int, consul: Consul, directories: pytest.TempPathFactory
) -> Iterator[EdgeNode]:
    """Run consul-edge with one read timeout; wait, without a request to a service, until it has all peers and listens.

    Only the node with the longest read timeout serves TCP, where there is none.
    """
    tcp = read_timeout == max(stage.vector.read_timeout for stage in prepared)
    flags = ["--upstream-connect-timeout", "1s", "--upstream-read-timeout", f"{read_timeout}s", "--dns", "off"]
    flags += [] if tcp else ["--tcp", "off"]
    with running_node(directories.mktemp("edge"), consul.url, flags=flags) as node:

        def is_prepared(stage: Stage) -> bool:
            if stage.plane == "tcp" and not tcp:
                return True
            listening = stage.plane == "http" or f"tcp 127.0.0.1:{stage.tcp_port}" in listeners
            return listening and endpoints.get(stage.service) == len(stage.vector.weights)

        def all_prepared() -> bool:
            endpoints.update({route["service"]: len(route["endpoints"]) for route in node.api("/api/routes")})
            listeners.update(entry["listener"] for entry in node.api("/api/status")["listeners"] if entry["up"])
            return all(map(is_prepared, prepared))

        endpoints: dict[str, int] = {}
        listeners: set[str] = set()
        wait_until(all_prepared, what="consul-edge has the services of all vectors")
        yield node
