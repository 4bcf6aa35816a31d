"""DNS of a whole node that has no Consul: what it answers all the same, and how often."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.node import EdgeNode, running_node
from tests.support.process import free_port, wait_until

WORKERS = 4
RATE = 20
QUESTIONS = 400
QUERY = make_query("printer.corp.example")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeNode]:
    """A node with a hosts file and a rate, whose Consul agent nobody has ever seen."""
    directory = tmp_path_factory.mktemp("node")
    hosts = directory / "hosts"
    hosts.write_text("10.6.0.1 printer.corp.example\n")
    flags = ("--workers", str(WORKERS), "--dns-rate", str(RATE), "--hosts", str(hosts), "--dns-max-stale", "1s")
    with running_node(directory, f"http://127.0.0.1:{free_port()}", flags=flags, ready=False) as running:
        wait_until(lambda: ask_udp(running.dns, QUERY), what="DNS answers")
        yield running


def test_names_of_the_hosts_file_need_no_catalog(node: EdgeNode) -> None:
    assert read_reply(ask_udp(node.dns, QUERY)).data == ["10.6.0.1"]
    assert read_reply(ask_udp(node.dns, make_query("1.0.6.10.in-addr.arpa", "PTR"))).data == ["printer.corp.example."]
    assert read_reply(ask_udp(node.dns, make_query("web.service.consul"))).rcode == "SERVFAIL"


def test_the_rate_is_that_of_the_node_whichever_workers_a_client_reaches(node: EdgeNode) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(QUESTIONS)]
        for sock in socks:
            sock.bind(("127.0.0.7", 0))
        began = time.monotonic()
        for sock in socks:
            sock.sendto(QUERY, ("127.0.0.1", node.dns))
        whole = sum("tc" not in read_reply(reply).flags for reply in replies(node, socks))
        seconds = int(time.monotonic() - began) + 2
    assert RATE // WORKERS <= whole <= seconds * RATE


def replies(node: EdgeNode, socks: list[socket.socket]) -> list[bytes]:
    """Collect replies until each question was answered or dropped."""
    waiting = set(socks)
    found: list[bytes] = []

    def all_seen() -> bool:
        for sock in select.select(waiting, (), (), 0.05)[0]:
            found.append(sock.recv(4096))
            waiting.remove(sock)
        return len(found) + node.metrics().get('dns_rate_limited_total{action="drop"}', 0) == QUESTIONS

    wait_until(all_seen, what="each question was answered or dropped")
    return found
