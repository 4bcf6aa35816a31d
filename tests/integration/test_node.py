"""A whole node on a real Consul, as its operator sees it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_port, free_ports, port_open, running, wait_until


def _talk(port: int, text: bytes) -> bytes:
    """Send to a TCP port, half-close, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


def _command(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lb.cli", *argv]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)


def test_http_tcp_and_dns_follow_one_catalog(consul: Consul, tmp_path: Path) -> None:
    tcp_port = free_port()
    with origin("web") as web, echo("> ") as backend, running_node(tmp_path, consul.url) as node:
        assert node.get("web")[0] == 404
        consul.register("web", web, tags=["http"])
        consul.register(f"echo-{tcp_port}", backend, tags=["tcp"])
        node.wait_for("web", "web")
        wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
        assert _talk(tcp_port, b"hello") == b"> hello"
        dig = ["dig", "+short", "@127.0.0.1", "-p", str(node.dns), "web.service.dc1.consul", "SRV"]
        answer = subprocess.run(dig, capture_output=True, text=True, timeout=10, check=True).stdout
        assert answer.split()[2] == str(web)
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as client:
            client.sendall(b"one")
            assert client.recv(100) == b"> one"
            consul.deregister(f"echo-{tcp_port}-{backend}")
            wait_until(lambda: not port_open(tcp_port), what="the TCP port closes")
            client.sendall(b"two")
            assert client.recv(100) == b"> two"


def test_a_port_that_is_taken_is_told_retried_and_hurts_nobody(consul: Consul, tmp_path: Path) -> None:
    with socket.socket() as squatter, echo("> ") as backend, running_node(tmp_path, consul.url) as node:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken, free = squatter.getsockname()[1], free_port()
        consul.register(f"first-{taken}", backend, tags=["tcp"])
        consul.register(f"second-{free}", backend, tags=["tcp"])
        wait_until(lambda: port_open(free), what="the other port opens")
        problem = wait_until(lambda: _problem(node, f"first-{taken}"), what="the problem is shown")
        assert "Address already in use" in problem["reason"]
        assert node.metrics()[f'lb_listener_up{{listener="tcp 127.0.0.1:{taken}"}}'] == 0
        assert "Address already in use" in node.log.read_text()
        squatter.close()
        wait_until(lambda: port_open(taken), what="the port is tried again")
        wait_until(lambda: not _problem(node, f"first-{taken}"), what="the problem is gone")
        assert _talk(taken, b"hello") == b"> hello"


def _problem(node: EdgeNode, subject: str) -> dict[str, str] | None:
    problems = node.api("/api/status")["problems"]
    return next((p for p in problems if p["subject"].startswith(subject)), None)


def test_what_is_not_used_is_shown_by_name_and_reason(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url) as node:
        consul.register("web", web, tags=["http"], meta={"lb_max_fails": "many"})
        consul.register("nosuffix", web, tags=["tcp"])
        consul.register("portless", 0, tags=["http"])
        node.wait_for("web", "web")
        for subject, word in (("web", "many"), ("nosuffix", "port"), ("portless", "port")):
            problem = wait_until(lambda s=subject: _problem(node, s), what=f"{subject} is named")
            assert word in problem["reason"]
        log = node.log.read_text()
        assert all(name in log for name in ("lb_max_fails", "nosuffix", "portless"))
        samples = node.metrics()
        assert samples['lb_problems{kind="option"}'] == 1
        assert node.get("portless")[0] in (404, 503)


def test_status_and_routes_as_tables_and_json(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        admin = f"127.0.0.1:{node.admin}"
        status = _command("status", "--admin", admin)
        assert status.returncode == 0
        assert consul.url in status.stdout
        assert json.loads(_command("status", "--json", "--admin", admin).stdout)["ready"] is True
        routes = _command("routes", "--admin", admin)
        assert "web.test" in routes.stdout
        assert f"127.0.0.1:{web}" in routes.stdout
        (route,) = json.loads(_command("routes", "--json", "--admin", admin).stdout)
        assert route["service"] == "web"
    nobody = _command("status", "--admin", admin)
    assert nobody.returncode == 1
    assert admin in nobody.stderr


def test_readiness_is_red_until_the_first_catalog(consul: Consul, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with running_node(tmp_path, nobody, ready=False) as node:
        wait_until(lambda: port_open(node.admin), what="the admin server answers")
        assert not node.ready()
        assert node.api("/health/ready")["reasons"] == ["no catalog yet"]
        assert node.api("/health/live")
        assert nobody.removeprefix("http://") in json.dumps(node.api("/api/status"))


def test_the_last_good_catalog_outlives_consul_and_a_restart(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    with origin("web") as web, running_consul(tmp_path) as consul:
        with running_node(tmp_path / "first", consul.url, flags=state) as node:
            consul.register("web", web, tags=["http"])
            node.wait_for("web", "web")
            consul.kill()
            wait_until(lambda: not node.api("/api/status")["catalog"]["connected"], what="Consul is missed")
            assert node.get("web") == (200, "web")
            assert node.ready()
        with running_node(tmp_path / "second", consul.url, flags=state) as node:
            assert node.get("web") == (200, "web")
            assert "disk" in " ".join(node.api("/health/ready")["reasons"])
            assert node.metrics()["catalog_fresh"] == 0
            consul.start()
            wait_until(lambda: node.metrics()["catalog_fresh"] == 1, what="the catalog is confirmed")
            assert node.get("web") == (200, "web")


@pytest.mark.parametrize("workers", ["1", "4"])
def test_sigterm_lets_what_is_in_flight_end(consul: Consul, tmp_path: Path, workers: str) -> None:
    tcp_port = free_port()
    with echo("> ") as backend, running_node(tmp_path, consul.url, flags=("--workers", workers)) as node:
        consul.register(f"echo-{tcp_port}", backend, tags=["tcp"])
        wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as client:
            client.sendall(b"one")
            assert client.recv(100) == b"> one"
            node.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not port_open(tcp_port), what="no more connections are taken")
            assert not port_open(node.http)
            assert not node.ready()
            client.sendall(b"two")
            assert client.recv(100) == b"> two"
        assert node.process.wait(10) == 0


def test_drain_timeout_and_a_second_signal_end_the_waiting(consul: Consul, tmp_path: Path) -> None:
    tcp_port = free_port()
    with echo("> ") as backend:
        consul.register(f"echo-{tcp_port}", backend, tags=["tcp"])
        for flags, signals in ((("--drain-timeout", "300ms"), 1), ((), 2)):
            with running_node(tmp_path / str(signals), consul.url, flags=flags) as node:
                wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
                with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as client:
                    client.sendall(b"one")
                    assert client.recv(100) == b"> one"
                    node.process.send_signal(signal.SIGTERM)
                    wait_until(lambda: not port_open(tcp_port), what="it drains")
                    if signals == 2:
                        node.process.send_signal(signal.SIGTERM)
                    assert node.process.wait(10) == 0


def test_drain_delay_keeps_listeners_open_with_readiness_red(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url, flags=("--drain-delay", "1s")) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not node.ready(), what="readiness is red")
        assert node.api("/health/ready")["reasons"] == ["draining"]
        assert node.get("web") == (200, "web")
        assert node.process.wait(10) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain_delay(consul: Consul, tmp_path: Path, second: signal.Signals) -> None:
    tcp_port = free_port()
    with echo("> ") as backend, running_node(tmp_path, consul.url, flags=("--drain-delay", "1h")) as node:
        consul.register(f"echo-{tcp_port}", backend, tags=["tcp"])
        wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as client:
            client.sendall(b"one")
            assert client.recv(100) == b"> one"
            node.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not node.ready(), what="readiness is red")
            assert port_open(tcp_port)
            node.process.send_signal(second)
            assert node.process.wait(10) == 0


def test_the_access_log_is_reopened_on_sigusr1(consul: Consul, tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with origin("web") as web, running_node(tmp_path, consul.url, flags=("--access-log", str(path))) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        wait_until(lambda: '"GET / HTTP/1.1" 200 3' in path.read_text(), what="the request is logged")
        path.rename(moved)
        node.process.send_signal(signal.SIGUSR1)
        wait_until(path.exists, what="the log is opened anew")
        node.get("web", "/after")
        wait_until(lambda: "/after" in path.read_text(), what="the next request is in the new file")
        assert "/after" not in moved.read_text()


def test_the_access_log_names_the_user_but_no_password(consul: Consul, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with origin("web") as web, running_node(tmp_path, consul.url, flags=("--access-log", str(path))) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        for host, status in (("web.test", 200), ("unknown.test", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/private", headers={"Host": host, "Authorization": "Basic am9lOnNlY3JldA=="})
                assert connection.getresponse().status == status
    lines = [line for line in path.read_text().splitlines() if "/private" in line]
    assert [line.partition(" [")[0] for line in lines] == ["127.0.0.1 - joe"] * 2
    assert "secret" not in path.read_text()
    assert "am9l" not in path.read_text()


def test_sigusr1_without_an_access_log_is_harmless(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url, flags=("--drain-delay", "0s")) as node:
        node.process.send_signal(signal.SIGUSR1)
        assert node.ready()
        assert node.terminate() == 0


def test_dns_alone_is_run_and_shown(consul: Consul, tmp_path: Path) -> None:
    dns, admin = free_ports(2)
    argv = [sys.executable, "-m", "lb.cli", "dns", "--consul", consul.url, "--recursor", "off"]
    argv += ["--dns", f"127.0.0.1:{dns}", "--admin", f"127.0.0.1:{admin}", "--state-dir", "off"]
    with running(argv, log=tmp_path / "edge.log") as process:
        wait_until(lambda: port_open(admin), what="it runs")
        status = _command("status", "--admin", f"127.0.0.1:{admin}").stdout
        assert f"127.0.0.1:{dns} (0 replies)" in status
        assert "http 0.0.0.0:80" not in status
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_token_from_its_file_never_reaches_the_log(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("very-secret\n")

    class Gossip(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()
            self.wfile.write(f"token {self.headers['X-Consul-Token']} is bad".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gossip) as agent:
        threading.Thread(target=agent.serve_forever, args=(0.01,), daemon=True).start()
        flags = ("--token-file", str(file), "--log-level", "debug")
        with running_node(tmp_path, f"http://127.0.0.1:{agent.server_port}", flags=flags, ready=False) as node:
            wait_until(lambda: "token *** is bad" in node.log.read_text(), what="the refusal is logged")
            assert "very-secret" not in node.log.read_text()
        agent.shutdown()


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (("run",), {"CONSUL_HTTP_ADDR": "https://127.0.0.1:1", "CONSUL_CACERT": __file__}, (__file__, "TLS")),
        (("run", "--http", "off", "--tcp", "off", "--dns", "off"), {}, ("run: ", "turned off")),
        (("dns", "--dns", "off"), {}, ("dns: ", "turned off")),
    ],
)
def test_what_cannot_run_is_refused_before_it_listens(
    argv: tuple[str, ...], environ: dict[str, str], words: tuple[str, ...]
) -> None:
    result = _command(*argv, **environ)
    assert result.returncode == 2
    assert all(word in result.stderr for word in words)
    assert "started" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--http", "nonsense"), ("--http", "nonsense")),
        (("--http", "127.0.0.1:99999"), ("--http", "99999")),
        (("--max-body", "lots"), ("--max-body", "lots")),
        (("--workers", "0"), ("--workers",)),
        (("--recursor", "127.0.0.1"), ("--recursor", "itself")),
    ],
)
def test_a_bad_flag_is_named_with_its_reason(flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = _command("run", *flags)
    assert result.returncode == 2
    assert all(word in result.stderr for word in words)
    assert "Traceback" not in result.stderr


def test_an_address_that_is_taken_ends_the_start_with_its_name(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        result = _command("run", "--http", f"127.0.0.1:{port}", "--dns", "off", "--admin", "off", "--tcp", "off")
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "Address already in use" in result.stderr


def test_ctrl_c_ends_it_at_once_without_consul(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "lb.cli", "run", "--consul", "127.0.0.1:1", "--http", "127.0.0.1:0"]
    admin = free_port()
    argv += ["--dns", "127.0.0.1:0", "--admin", f"127.0.0.1:{admin}", "--tcp", "off"]
    with running(argv, log=tmp_path / "edge.log") as process:
        wait_until(lambda: port_open(admin), what="it runs")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert time.monotonic() - start < 5
    assert "Traceback" not in (tmp_path / "edge.log").read_text()
