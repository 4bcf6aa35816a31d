"""More clients than there are file descriptors for: who is served, who waits, what is said, and that it passes."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_port, port_open, wait_until

LIMIT = 200
FLOOD = 240

# The hard limit is what counts: the program raises the soft one itself.
LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT // 2}, {LIMIT}))
os.execv(sys.executable, [sys.executable, "-m", "lb.cli", *sys.argv[1:]])
"""

SHUT = "no more connections are accepted until some are closed: file descriptors would run out"
AGAIN = "connections are accepted again"


def _flood(stack: contextlib.ExitStack, port: int) -> list[socket.socket]:
    """Connect and ask, over and over; whoever is not accepted waits in the kernel's queue."""
    clients = []
    for number in range(FLOOD):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        client.sendall(b"%03d" % number)
        clients.append(client)
    return clients


def _answered(clients: Sequence[socket.socket]) -> list[socket.socket]:
    """Return those that have something to read."""
    news = select.poll()
    for client in clients:
        news.register(client, select.POLLIN)
    ready = {number for number, _ in news.poll(0)}
    return [client for client in clients if client.fileno() in ready]


def _pauses(node: EdgeNode) -> float:
    return sum(count for name, count in node.metrics().items() if name.startswith("lb_accept_pauses_total"))


@pytest.mark.parametrize("workers", [1, 2])
def test_beyond_the_limit_clients_wait_and_nobody_is_blamed(consul: Consul, tmp_path: Path, workers: int) -> None:
    port = free_port()
    with (
        origin("web") as web,
        echo("") as backend,
        running_node(tmp_path, consul.url, flags=("--workers", str(workers)), program=("-c", LIMITED)) as node,
        contextlib.ExitStack() as stack,
    ):
        consul.register(f"echo-{port}", backend, tags=["tcp"], meta={"lb_max_fails": "1"})
        consul.register("web", web, tags=["http"])
        wait_until(lambda: port_open(port), what="the TCP port opens")
        node.wait_for("web", "web")
        assert node.metrics()["process_max_fds"] == LIMIT, "all that may be had is used"
        clients = _flood(stack, port)
        wait_until(lambda: _pauses(node) > 0, what="nobody is accepted any more")
        wait_until(lambda: len(_answered(clients)) > LIMIT // 4, what="those who were accepted are answered")
        served = _answered(clients)
        assert node.ready(), "the supervisor answers, whatever its workers have to do"
        assert len(served) < FLOOD
        for client in served:
            assert len(client.recv(3, socket.MSG_WAITALL)) == 3
            client.sendall(b"again")
            assert client.recv(5, socket.MSG_WAITALL) == b"again"

        rest = [client for client in clients if client not in served]
        while rest:
            for client in served:
                client.close()
            served = wait_until(functools.partial(_answered, rest), what="those who waited are served")
            for client in served:
                assert len(client.recv(3, socket.MSG_WAITALL)) == 3
            rest = [client for client in rest if client not in served]
        for client in served:
            client.close()
        for _ in range(10):
            assert node.get("web") == (200, "web"), "all listeners are open again"
        samples = node.metrics()
        fails = [count for name, count in samples.items() if name.startswith("lb_endpoint_fails{")]
        assert fails == [0, 0]
        assert samples[f'lb_tcp_opened_sessions_total{{service="echo-{port}"}}'] >= FLOOD
        assert samples["lb_worker_restarts_total"] == 0
        log = node.log.read_text()
        assert 1 <= log.count(SHUT) <= workers, "each worker says it once"
        assert "Traceback" not in log
        assert "no file descriptor is left" not in log
