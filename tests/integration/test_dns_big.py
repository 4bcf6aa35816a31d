"""A catalog of 2,000 services and 20,000 instances in a real Consul: DNS of a whole node answers every service."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.consul import ConsulApi, running_consul
from tests.support.dns import ask_tcp, make_query, read_frame, read_reply
from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until

SERVICES, INSTANCES, NODES = 2000, 10, 100

BUDGET = 16
"""Connections to one agent that a node may have; the agent itself closes what is more than 200."""

PIPELINED = 100
"""Queries sent at once over one TCP connection; the server takes 128."""

ESTABLISHED = "01"


class Place(NamedTuple):
    """Where an instance is: a node without an agent, and the instance as Consul's catalog describes it."""

    node: str
    node_address: str
    id: str
    service: dict[str, str | int]


def name_of(service: int) -> str:
    return f"service-{service}"


def place_of(service: int, turn: int) -> Place:
    """Spread the instances evenly over the nodes, each with an address of its own."""
    node = (service + turn) % NODES
    instance_id = f"{name_of(service)}-{turn}"
    address = f"10.{turn}.{service >> 8}.{service & 255}"
    described: dict[str, str | int] = {"Service": name_of(service), "ID": instance_id, "Address": address}
    return Place(f"node-{node}", f"10.200.0.{node + 1}", instance_id, {**described, "Port": 1000 + service})


def addresses(service: int) -> list[str]:
    return [str(place_of(service, turn).service["Address"]) for turn in range(INSTANCES)]


def fill(consul: ConsulApi) -> None:
    """Register all instances, node by node."""
    nodes: dict[tuple[str, str], list[dict[str, str | int]]] = {}
    for service in range(SERVICES):
        for turn in range(INSTANCES):
            place = place_of(service, turn)
            nodes.setdefault((place.node, place.node_address), []).append(place.service)
    for (node, address), services in nodes.items():
        consul.register_external(node, address, services)


class Census:
    """Counts, as long as the `with` block lasts, connections to a local TCP port; `most` is the highest count."""

    def __init__(self, port: int) -> None:
        self._port = f":{port:04X}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            now = sum(row[2].endswith(self._port) and row[3] == ESTABLISHED for row in rows)
            self.most = max(self.most, now)


def counts(node: EdgeNode, names: Sequence[str], qtype: str) -> list[tuple[int, int]]:
    """Ask for each name over TCP; return the rcode and the number of answers of each."""
    found = []
    for start in range(0, len(names), PIPELINED):
        part = names[start : start + PIPELINED]
        with socket.create_connection(("127.0.0.1", node.dns), timeout=10) as sock:
            for ident, name in enumerate(part):
                query = make_query(name, qtype, ident=ident)
                sock.sendall(struct.pack("!H", len(query)) + query)
            replies = sorted(read_frame(sock) for _ in part)
        for ident, reply in enumerate(replies):
            number, flags, _, answers = struct.unpack_from("!4H", reply)
            assert number == ident
            found.append((flags & 15, answers))
    return found


def data(node: EdgeNode, service: int) -> list[str]:
    return read_reply(ask_tcp(node.dns, make_query(f"{name_of(service)}.service.consul"))).data


def test_every_service_is_answered_within_the_budget(tmp_path: Path) -> None:
    names = [f"{name_of(service)}.service.consul" for service in range(SERVICES)]
    flags = ("--http", "off", "--tcp", "off", "--workers", "2")
    with running_consul(tmp_path / "consul") as consul, Census(consul.ports["http"]) as census:
        fill(consul)
        began = time.monotonic()
        with running_node(tmp_path, consul.url, flags=flags) as node:
            wait_until(lambda: len(data(node, SERVICES - 1)) == INSTANCES, what="the catalog is there")
            print(f"\nall there after {time.monotonic() - began:.1f} s, {node.memory() >> 20} MiB in three processes")
            for qtype in ("A", "SRV"):
                assert counts(node, names, qtype) == [(0, INSTANCES)] * SERVICES
            assert data(node, 1234) == addresses(1234)

            gone, moved = place_of(1234, 0), place_of(7, 3)
            consul.deregister_external(gone.node, gone.id)
            wait_until(lambda: data(node, 1234) == addresses(1234)[1:], what="one is gone")
            consul.register_external(moved.node, moved.node_address, [{**moved.service, "Address": "10.99.0.1"}])
            wait_until(lambda: "10.99.0.1" in data(node, 7), what="one has moved")
            assert counts(node, names, "A").count((0, INSTANCES)) == SERVICES - 1
        assert 0 < census.most <= BUDGET
