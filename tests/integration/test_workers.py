"""Several workers as one: what an operator sees of them, and what clients notice when one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_port, port_open, wait_until

FOUR = ("--workers", "4")


def _requests(node: EdgeNode, service: str = "web") -> float:
    return node.metrics()[f'lb_http_requests_total{{code="200",service="{service}"}}']


def _replaced(node: EdgeNode, pid: int) -> bool:
    pids = node.worker_pids()
    return len(pids) == 4 and pid not in pids


def test_workers_share_traffic_and_are_counted_as_one(consul: Consul, tmp_path: Path) -> None:
    tcp_port = free_port()
    with origin("web") as web, echo("> ") as backend, running_node(tmp_path, consul.url, flags=FOUR) as node:
        consul.register("web", web, tags=["http"])
        consul.register(f"echo-{tcp_port}", backend, tags=["tcp"])
        node.wait_for("web", "web")
        wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
        before = _requests(node)
        for number in range(1, 41):
            assert node.get("web") == (200, "web")
            assert _requests(node) == before + number, "a scrape is up to date, whichever worker it was"
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", tcp_port), timeout=5))
                client.sendall(b"hello")
                assert client.recv(100) == b"> hello"
            samples = node.metrics()
            assert samples[f'lb_tcp_active_sessions{{service="echo-{tcp_port}"}}'] == 20
            endpoint = f'endpoint="127.0.0.1:{backend}",kind="tcp",service="echo-{tcp_port}"'
            assert samples[f"lb_endpoint_active_connections{{{endpoint}}}"] == 20
        wait_until(
            lambda: node.metrics()[f'lb_tcp_active_sessions{{service="echo-{tcp_port}"}}'] == 0, what="sessions end"
        )
        assert samples["lb_workers"] == 4


def test_three_failures_in_all_suspend_an_instance_for_all_workers(consul: Consul, tmp_path: Path) -> None:
    """nginx's vector: of two peers, one that closes each connection unanswered gets its max_fails tries."""
    hits = []

    def refuse(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(1000)
                hits.append(1)
                connection.close()

    with (
        origin("good") as good,
        socket.create_server(("127.0.0.1", 0)) as bad,
        running_node(tmp_path, consul.url, flags=FOUR) as node,
    ):
        thread = threading.Thread(target=refuse, args=(bad,), daemon=True)
        thread.start()
        meta = {"lb_max_fails": "3", "lb_fail_timeout": "60s"}
        consul.register("web", good, tags=["http"], meta=meta)
        consul.register("web", bad.getsockname()[1], tags=["http"], meta=meta)
        wait_until(lambda: len(node.instances("web")) == 2, what="both are known")
        hits.clear()
        for _ in range(40):
            assert node.get("web") == (200, "good")
        assert len(hits) == 3
        bad.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_requests_are_balanced_as_by_one_worker(consul: Consul, tmp_path: Path) -> None:
    with origin("a") as a, origin("b") as b, running_node(tmp_path, consul.url, flags=FOUR) as node:
        consul.register("web", a, tags=["http"])
        consul.register("web", b, tags=["http"])
        wait_until(lambda: len(node.instances("web")) == 2, what="both are known")
        answers = [node.get("web")[1] for _ in range(30)]
        assert (answers.count("a"), answers.count("b")) == (15, 15)


def test_least_conn_sees_the_connections_of_all_workers(consul: Consul, tmp_path: Path) -> None:
    port = free_port()
    with (
        echo("a") as a,
        echo("b") as b,
        running_node(tmp_path, consul.url, flags=FOUR) as node,
        contextlib.ExitStack() as clients,
    ):
        consul.register(f"echo-{port}", a, tags=["tcp"])
        consul.register(f"echo-{port}", b, tags=["tcp"])
        wait_until(lambda: len(node.instances(f"echo-{port}")) == 2, what="both are known")
        wait_until(lambda: port_open(port), what="the port opens")
        answers = []
        for _ in range(10):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.sendall(b"x")
            answers.append(client.recv(10))
        assert (answers.count(b"ax"), answers.count(b"bx")) == (5, 5)


def test_a_worker_that_is_killed_is_replaced_and_its_queue_is_served(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url, flags=FOUR) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        for _ in range(20):
            assert node.get("web") == (200, "web")
        counted = _requests(node)
        for victim in node.worker_pids():
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            # Some of these go to the socket of the dead worker and wait there.
            for _ in range(20):
                assert node.get("web") == (200, "web")
            wait_until(lambda v=victim: _replaced(node, v), what="the worker is replaced")
            assert time.monotonic() - killed < 2
            counted += 20
            assert _requests(node) == counted, "no count is lost, and none goes backwards"
        samples = node.metrics()
        assert samples["lb_worker_restarts_total"] == 4
        assert samples[f'lb_connections_active{{listener="http 127.0.0.1:{node.http}"}}'] == 0
        assert "worker ended" in node.log.read_text()


def test_what_a_dead_worker_had_under_way_is_counted_no_more(consul: Consul, tmp_path: Path) -> None:
    port = free_port()
    with echo("") as backend, running_node(tmp_path, consul.url, flags=("--workers", "1")) as node:
        consul.register(f"echo-{port}", backend, tags=["tcp"], meta={"lb_max_conns": "1"})
        wait_until(lambda: port_open(port), what="the port opens")
        wait_until(
            lambda: node.metrics()[f'lb_tcp_active_sessions{{service="echo-{port}"}}'] == 0, what="the probe has gone"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"one")
            assert client.recv(100) == b"one"
            (pid,) = node.worker_pids()
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"two")
            assert client.recv(100) == b"two", "the only connection that the instance may have is free again"
        samples = node.metrics()
        assert samples[f'lb_tcp_opened_sessions_total{{service="echo-{port}"}}'] >= 2


def test_workers_end_when_the_supervisor_is_killed(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url, flags=FOUR) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        workers = node.worker_pids()
        os.kill(node.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), what="all workers end")
        assert not port_open(node.http)
        with running_node(tmp_path / "again", consul.url, flags=(*FOUR, "--http", f"127.0.0.1:{node.http}")) as again:
            assert again.ready(), "the ports are free"
        node.process.wait(5)


def test_a_request_under_way_survives_the_death_of_the_supervisor(consul: Consul, tmp_path: Path) -> None:
    port = free_port()
    with (
        echo("> ") as backend,
        running_node(tmp_path, consul.url, flags=("--workers", "2", "--drain-timeout", "5s")) as node,
    ):
        consul.register(f"echo-{port}", backend, tags=["tcp"])
        wait_until(lambda: port_open(port), what="the port opens")
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"one")
            assert client.recv(100) == b"> one"
            os.kill(node.process.pid, signal.SIGKILL)
            wait_until(lambda: not port_open(port), what="no new connection is taken")
            client.sendall(b"two")
            assert client.recv(100) == b"> two"
        wait_until(lambda: not node.family.pids(), what="the workers end")
        node.process.wait(5)


def test_a_worker_that_cannot_start_is_an_error_with_a_reason(tmp_path: Path) -> None:
    flags = ("--workers", "2", "--access-log", str(tmp_path / "nowhere" / "access.log"))
    with (
        pytest.raises(RuntimeError, match="ended with status"),
        running_node(tmp_path, "http://127.0.0.1:1", flags=flags),
    ):
        pass
    log = (tmp_path / "edge.log").read_text()
    assert "nowhere" in log
    assert "Traceback" not in log
