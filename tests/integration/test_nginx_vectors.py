"""The same balancing vectors through nginx and through consul-edge: they pick alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.nginx import http_block, running_nginx, stream_block
from tests.support.node import EdgeNode, running_node
from tests.support.peers import Peer, Plane, running_peers
from tests.support.process import free_port, wait_until
from tests.support.proxy_driver import ProxyDriver
from tests.support.vectors import CASE_NAMES, CASES, Vector, play

HOST = "vector.test"

each_case = pytest.mark.parametrize(("vector", "plane"), CASES, ids=CASE_NAMES)


@each_case
def test_nginx_makes_these_picks(vector: Vector, plane: Plane, tmp_path: Path) -> None:
    with running_peers(tuple(vector.weights), plane) as (peers, journal):
        port = free_port()
        configuration = nginx_configuration(vector, plane, peers, port, tmp_path)
        driver = ProxyDriver(plane, port, HOST, peers, journal)
        with running_nginx(tmp_path, configuration), contextlib.closing(driver):
            assert play(vector, driver) == vector.expected(plane)


@each_case
def test_consul_edge_picks_as_nginx_does(vector: Vector, plane: Plane, consul: Consul, tmp_path: Path) -> None:
    with running_peers(tuple(vector.weights), plane) as (peers, journal):
        tcp_port = free_port()
        register(consul, vector, plane, peers, tcp_port)
        with running_edge(vector, plane, consul, tcp_port, tmp_path) as node:
            port = node.http if plane == "http" else tcp_port
            with contextlib.closing(ProxyDriver(plane, port, HOST, peers, journal)) as driver:
                assert play(vector, driver) == vector.expected(plane)


def nginx_configuration(vector: Vector, plane: Plane, peers: dict[str, Peer], port: int, directory: Path) -> str:
    """Return the blocks that make nginx the proxy before the peers."""
    options = f"max_fails={vector.max_fails} fail_timeout={vector.fail_timeout} max_conns={vector.max_conns}"
    servers = "\n".join(
        f"server 127.0.0.1:{peers[name].port} weight={weight} {options};" for name, weight in vector.weights.items()
    )
    policy = "" if vector.policy == "round_robin" else f"{vector.policy};"
    upstream = f"upstream peers {{ {policy}\n{servers} }}\n"
    listen = f"listen 127.0.0.1:{port}; proxy_connect_timeout 1s;"
    if plane == "tcp":
        return stream_block(f"{upstream} server {{ {listen} proxy_pass peers; }}")
    location = f"location / {{ proxy_pass http://peers; proxy_read_timeout {vector.read_timeout}s; }}"
    return http_block(directory, f"{upstream} server {{ {listen} {location} }}")


def register(consul: Consul, vector: Vector, plane: Plane, peers: dict[str, Peer], tcp_port: int) -> None:
    """Register the peers as instances of one service, with the vector's options; IDs keep their order."""
    meta = {
        "lb_policy": vector.policy,
        "lb_max_fails": str(vector.max_fails),
        "lb_fail_timeout": f"{vector.fail_timeout}s",
        "lb_max_conns": str(vector.max_conns),
    }
    if plane == "tcp":
        meta["lb_port"] = str(tcp_port)
    for name, weight in vector.weights.items():
        consul.register("vector", peers[name].port, id=name, tags=[plane], meta=meta, weight=weight)


@contextlib.contextmanager
def running_edge(vector: Vector, plane: Plane, consul: Consul, tcp_port: int, directory: Path) -> Iterator[EdgeNode]:
    """Run consul-edge; wait, without a request to the service, until it has all peers and listens."""
    flags = ("--upstream-connect-timeout", "1s", "--upstream-read-timeout", f"{vector.read_timeout}s")
    with running_node(directory, consul.url, flags=(*flags, "--dns", "off")) as node:

        def prepared() -> bool:
            (route,) = node.api("/api/routes")
            listeners = {entry["listener"] for entry in node.api("/api/status")["listeners"] if entry["up"]}
            listening = plane == "http" or f"tcp 127.0.0.1:{tcp_port}" in listeners
            return listening and len(route["endpoints"]) == len(vector.weights)

        wait_until(prepared, what="consul-edge has the vector's service")
        yield node
