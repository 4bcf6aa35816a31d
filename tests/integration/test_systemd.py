"""The program under systemd, whose place the test takes: readiness, reload, watchdog, socket activation."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lb.wire.hellos import real_hello
from tests.support.consul import Consul
from tests.support.dns import make_query, read_reply
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_ports, port_open, wait_until
from tests.support.systemd import Manager, Service, systemd

NO_CONSUL = "http://127.0.0.1:1"
HOST = "127.0.0.1"
HELLO = real_hello("secure.test")
TWO = ("--workers", "2")
GET = b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def service(
    directory: Path, consul: str, manager: Manager, *flags: str, env: dict[str, str] | None = None
) -> Iterator[EdgeNode]:
    """Run the program as systemd would; the block begins when it has said that it is ready."""
    environment = {**manager.environment, **(env or {})}
    with running_node(
        directory, consul, flags=(*TWO, *flags), env=environment, program=manager.program, ready=False
    ) as node:
        _reaches(manager, node, "active")
        yield node


def _reaches(manager: Manager, node: EdgeNode, *states: str) -> Service:
    """Wait until the service has gone through these states after it was activating."""
    wanted = ["activating", *states]
    wait_until(lambda: _seen(manager, node).states == wanted, what=f"systemd sees the service go through {wanted}")
    return _seen(manager, node)


def _seen(manager: Manager, node: EdgeNode) -> Service:
    return manager.service(node.process.pid)


def _exchange(port: int, data: bytes) -> bytes:
    """Send and read until the other side closes."""
    with socket.create_connection((HOST, port), timeout=5) as client:
        client.sendall(data)
        return _rest(client)


def _rest(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


# Readiness


@pytest.mark.parametrize("agent", [False, True])
def test_it_is_ready_once_everything_answers_be_there_a_catalog_or_not(
    consul: Consul, tmp_path: Path, agent: bool
) -> None:
    http, tls, dns, admin = free_ports(4)
    answers: dict[str, object] = {}

    def ask() -> None:
        """Each is asked once, at the very moment of READY=1."""
        answers["http"] = _exchange(http, GET)[:12]
        answers["tls"] = _exchange(tls, HELLO)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(make_query("web.service.consul"), (HOST, dns))
            answers["dns"] = read_reply(client.recv(4096)).rcode
        with urllib.request.urlopen(f"http://{HOST}:{admin}/health/live", timeout=5) as reply:
            answers["admin"] = reply.status

    places = {"--http": http, "--tls": tls, "--dns": dns, "--admin": admin}
    flags = [word for flag, port in places.items() for word in (flag, f"{HOST}:{port}")]
    url = consul.url if agent else NO_CONSUL
    with systemd(tmp_path, on_ready=ask) as manager, service(tmp_path, url, manager, *flags) as node:
        node.admin = admin
        rcode = answers.pop("dns")
        assert rcode == "SERVFAIL" or (agent and rcode == "NXDOMAIN")
        assert answers == {"http": b"HTTP/1.1 404", "tls": b"", "admin": 200}
        assert _seen(manager, node).status == "serving with 2 workers"


def test_a_start_that_fails_is_never_ready(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken, systemd(tmp_path) as manager:
        address = f"{HOST}:{taken.getsockname()[1]}"
        with running_node(
            tmp_path,
            NO_CONSUL,
            flags=("--http", address),
            env=manager.environment,
            program=manager.program,
            ready=False,
        ) as node:
            assert node.process.wait(10) == 1
        assert manager.notices == []
        assert f"{address}: Address already in use" in node.log.read_text()


def test_it_says_that_it_stops_before_it_drains(tmp_path: Path) -> None:
    with systemd(tmp_path) as manager, service(tmp_path, NO_CONSUL, manager, "--drain-delay", "1s") as node:
        node.process.send_signal(signal.SIGTERM)
        _reaches(manager, node, "active", "stopping")
        assert port_open(node.http), "readiness is red, and the listeners are still open"
        assert node.process.wait(10) == 0
        assert _seen(manager, node).states[-1] == "stopping"


# Reload


def test_an_upgrade_is_a_reload_after_which_another_process_is_the_service(consul: Consul, tmp_path: Path) -> None:
    with systemd(tmp_path) as manager, service(tmp_path, consul.url, manager) as node:
        old = node.process.pid
        new = node.upgrade()
        seen = _reaches(manager, node, "active", "reloading", "active")
        assert seen.main == new != old
        assert seen.ignored == [], "nobody speaks before systemd listens to them, or after"
        assert node.process.wait(10) == 0
        os.kill(new, signal.SIGHUP)
        seen = _reaches(manager, node, "active", "reloading", "active", "reloading", "active")
        assert seen.main not in (old, new)
        os.kill(seen.main, signal.SIGTERM)
        wait_until(lambda: not node.family.pids(), what="all processes end")
        assert _seen(manager, node).states[-1] == "stopping"
        assert _seen(manager, node).ignored == []


def test_after_an_upgrade_that_fails_the_old_program_is_ready_again(consul: Consul, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with (
        systemd(tmp_path) as manager,
        service(tmp_path, consul.url, manager, "--token-file", str(token)) as node,
    ):
        token.unlink()
        node.process.send_signal(signal.SIGHUP)
        seen = _reaches(manager, node, "active", "reloading", "active")
        assert seen.main == node.process.pid
        assert seen.status.startswith("serving with 2 workers; an upgrade has failed: the new program has ended")
        assert seen.ignored == []


def test_told_to_stop_in_the_middle_of_an_upgrade_it_stops(consul: Consul, tmp_path: Path) -> None:
    with systemd(tmp_path) as manager, service(tmp_path, consul.url, manager) as node:
        node.process.send_signal(signal.SIGHUP)
        _reaches(manager, node, "active", "reloading")
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(10) == 0
        seen = _seen(manager, node)
        assert seen.states == ["activating", "active", "reloading", "stopping"]
        assert [notice.fields for notice in manager.notices][-1] == {"STOPPING": "1"}
        wait_until(lambda: not node.family.pids(), what="the program that was being started is gone, too")


# Watchdog


def test_the_watchdog_is_fed_at_least_twice_in_its_time_by_the_next_program_too(tmp_path: Path) -> None:
    allowed = 2.0
    usec = {"WATCHDOG_USEC": str(int(allowed * 1e6))}
    with systemd(tmp_path) as manager, service(tmp_path, NO_CONSUL, manager, env=usec) as node:
        _fed(manager, node, node.process.pid, allowed)
        os.kill(node.process.pid, signal.SIGHUP)
        seen = _reaches(manager, node, "active", "reloading", "active")
        _fed(manager, node, seen.main, allowed)
        seen = _seen(manager, node)
        assert all(after.time - beat.time < allowed for beat, after in itertools.pairwise(seen.beats)), "no gap between"
        assert seen.ignored == []


def _fed(manager: Manager, node: EdgeNode, pid: int, allowed: float) -> None:
    """Expect the beats of a process to be so frequent that two of them come in the time that is allowed."""
    wait_until(lambda: len([b for b in _seen(manager, node).beats if b.pid == pid]) >= 5, what="beats")
    beats = [beat.time for beat in _seen(manager, node).beats if beat.pid == pid]
    assert all(second - first < allowed for first, second in zip(beats, beats[2:], strict=False)), beats


def test_without_a_watchdog_there_are_no_beats(tmp_path: Path) -> None:
    with systemd(tmp_path) as manager, service(tmp_path, NO_CONSUL, manager) as node:
        assert _seen(manager, node).beats == []


# Socket activation


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_of_systemd_are_served_and_what_waits_there_is_answered(
    consul: Consul, tmp_path: Path, workers: str
) -> None:
    """The test keeps the sockets open, too, without SO_REUSEPORT: no other socket can have their addresses."""
    with contextlib.ExitStack() as stack:
        web, echoing = stack.enter_context(origin("web")), stack.enter_context(echo(""))
        http, tls, dns_tcp, admin, tcp, unwanted = (
            stack.enter_context(socket.create_server((HOST, port))) for port in free_ports(6)
        )
        dns_udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        dns_udp.bind(dns_tcp.getsockname())
        ports = {sock: sock.getsockname()[1] for sock in (http, tls, dns_tcp, admin, tcp, unwanted)}
        consul.register("web", web, tags=["http"])
        consul.register(f"echo-{ports[tcp]}", echoing, tags=["tcp"])
        consul.register("secure", echoing, tags=["tls"])

        # They come before there is a program, and wait.
        query = make_query("web.service.consul", "SRV")
        clients = [socket.create_connection((HOST, ports[sock]), timeout=20) for sock in (http, tls, dns_tcp, tcp)]
        for client in clients:
            stack.enter_context(client)
        for client, data in zip(clients, (GET, HELLO, len(query).to_bytes(2, "big") + query, b"hello"), strict=True):
            client.sendall(data)
        asking = stack.enter_context(socket.create_connection((HOST, ports[admin]), timeout=20))
        asking.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")

        manager = stack.enter_context(systemd(tmp_path, [http, tls, dns_udp, dns_tcp, admin, tcp, unwanted]))
        places = {"--http": http, "--tls": tls, "--dns": dns_tcp, "--admin": admin}
        flags = [word for flag, sock in places.items() for word in (flag, f"{HOST}:{ports[sock]}")]
        with service(tmp_path, consul.url, manager, *flags, "--workers", workers) as node:
            node.http, node.dns, node.admin = ports[http], ports[dns_tcp], ports[admin]
            waiting_http, waiting_tls, waiting_dns, waiting_tcp = clients
            assert _rest(asking).startswith(b"HTTP/1.0 200")
            # Without a catalog the answers are others.
            assert _rest(waiting_http)[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 404")
            assert waiting_tls.recv(len(HELLO), socket.MSG_WAITALL) in (HELLO, b"")
            length = int.from_bytes(waiting_dns.recv(2, socket.MSG_WAITALL), "big")
            assert read_reply(waiting_dns.recv(length, socket.MSG_WAITALL)).rcode in ("NOERROR", "SERVFAIL")
            assert waiting_tcp.recv(5, socket.MSG_WAITALL) == b"hello", "it waits until its service is known"
            _serves(node, ports[tls], ports[tcp])
            unwanted.close()
            wait_until(lambda: not port_open(ports[unwanted]), what="the socket that nobody wants is closed")
            assert f"nobody wants its address address={HOST}:{ports[unwanted]}" in node.log.read_text()

            node.upgrade()
            _serves(node, ports[tls], ports[tcp])
        assert "cannot be opened" not in node.log.read_text()


def _serves(node: EdgeNode, tls: int, tcp: int) -> None:
    """Ask every listener of a node several times, so that all its workers have their turn."""
    node.wait_for("web", "web")
    for _ in range(10):
        assert node.get("web") == (200, "web")
        for port, words in ((tls, HELLO), (tcp, b"word")):
            with socket.create_connection((HOST, port), timeout=5) as client:
                client.sendall(words)
                assert client.recv(len(words), socket.MSG_WAITALL) == words
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(make_query("web.service.consul", "SRV"), (HOST, node.dns))
            assert read_reply(client.recv(4096)).rcode == "NOERROR"
