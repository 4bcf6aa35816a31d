"""One program follows another under load: nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consul import Consul, require, running_consul
from tests.support.dns import make_query
from tests.support.nginx import http_block, running_nginx
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_port, port_open, wait_until

UPGRADES = 20
ECHOES = 100


class Echoes(threading.Thread):
    """Clients that keep their TCP connections open and ask over them, over and over, until `stop`."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._over = threading.Event()
        self.ready = threading.Event()
        self.asked = 0
        self.failures: list[str] = []

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        clients = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(ECHOES)]
        await asyncio.gather(*(self._ask(number, *client) for number, client in enumerate(clients)))

    async def _ask(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        while not self._over.is_set():
            word = b"%d-%d " % (number, turn)
            try:
                writer.write(word)
                async with asyncio.timeout(10):
                    answer = await reader.readexactly(len(word))
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(f"{number}, turn {turn}: {error!r}")
                return
            if answer != word:
                self.failures.append(f"{number}: {answer!r} for {word!r}")
            turn += 1
            self.asked += 1
            if self.asked >= ECHOES:
                self.ready.set()
            await asyncio.sleep(0.02)
        writer.close()

    def stop(self) -> None:
        """End them all."""
        self._over.set()
        self.join(20)


class Questions(threading.Thread):
    """A client that asks DNS over and over, each time from another port, and wants an answer at the first try."""

    def __init__(self, port: int, query: bytes) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._query = query
        self._over = threading.Event()
        self.answered = 0
        self.failures = 0

    def run(self) -> None:
        while not self._over.is_set():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(2)
                sock.sendto(self._query, ("127.0.0.1", self._port))
                try:
                    answered = sock.recv(4096)[3] & 15 == 0
                except TimeoutError:
                    answered = False
            self.answered += answered
            self.failures += not answered
            self._over.wait(0.002)

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join(20)


@contextlib.contextmanager
def _load(wrk: str, report: Path, node: EdgeNode, *fields: str) -> Iterator[None]:
    """Ask for the virtual host until the end of the block."""
    command = [
        wrk,
        "-c",
        "16",
        "-t",
        "1",
        "-d",
        "300",
        "-H",
        "Host: web.test",
        *fields,
        f"http://127.0.0.1:{node.http}/",
    ]
    with report.open("wb") as file, subprocess.Popen(command, stdout=file) as load:
        try:
            yield
        finally:
            load.send_signal(signal.SIGINT)
            load.wait(20)


def _good(report: Path) -> int:
    """How many requests wrk made, none of which failed."""
    text = report.read_text()
    done = re.search(r"(\d+) requests in", text)
    assert done is not None, text
    assert "Socket errors" not in text, text
    assert "Non-2xx" not in text, text
    return int(done[1])


def test_20_upgrades_under_load_lose_nothing(consul: Consul, tmp_path: Path) -> None:
    wrk = require("wrk", "this test loads a virtual host while the program is replaced")
    tcp_port, backend = free_port(), free_port()
    config = http_block(
        tmp_path / "nginx", f"keepalive_requests 1000000; server {{ listen 127.0.0.1:{backend}; return 200 web; }}"
    )
    flags = ("--workers", "2", "--drain-timeout", "300s")
    with (
        echo("") as echoing,
        running_nginx(tmp_path / "nginx", config),
        running_node(tmp_path, consul.url, flags=flags) as node,
    ):
        consul.register("web", backend, tags=["http"])
        consul.register(f"echo-{tcp_port}", echoing, tags=["tcp"])
        node.wait_for("web", "web")
        wait_until(lambda: port_open(tcp_port), what="the TCP port opens")
        questions = Questions(node.dns, make_query("web.service.consul"))
        questions.start()
        clients = Echoes(tcp_port)
        clients.start()
        assert clients.ready.wait(20)
        with _load(wrk, tmp_path / "kept.txt", node), _load(wrk, tmp_path / "new.txt", node, "-H", "Connection: close"):
            for _ in range(UPGRADES):
                before = clients.asked
                node.upgrade()
                wait_until(lambda b=before: clients.asked > b + 2 * ECHOES, what="all clients asked again")
        clients.stop()
        questions.stop()
        assert clients.failures == []
        assert questions.failures == 0
        assert questions.answered > UPGRADES * 10
        assert _good(tmp_path / "kept.txt") > UPGRADES * 100
        assert _good(tmp_path / "new.txt") > UPGRADES * 100
        wait_until(lambda: len(node.family.pids()) == 3, timeout=30, what="one supervisor and two workers are left")
        samples = node.metrics()
        made = _good(tmp_path / "kept.txt") + _good(tmp_path / "new.txt")
        counted = sum(value for name, value in samples.items() if name.startswith("lb_http_requests_total{"))
        assert counted >= made, "counts go on over upgrades"
        assert samples[f'lb_tcp_active_sessions{{service="echo-{tcp_port}"}}'] == 0
        assert samples["lb_worker_restarts_total"] == 0
        assert "Traceback" not in node.log.read_text()


def test_balancing_state_is_taken_over(consul: Consul, tmp_path: Path) -> None:
    """nginx forgets at a reload who has failed; here a suspended instance stays suspended."""
    with socket.socket() as nobody, origin("good") as good, running_node(tmp_path, consul.url) as node:
        nobody.bind(("127.0.0.1", 0))  # refuses connections
        meta = {"lb_max_fails": "1", "lb_fail_timeout": "60s"}
        consul.register("web", good, tags=["http"], meta=meta)
        consul.register("web", nobody.getsockname()[1], tags=["http"], meta=meta)
        wait_until(lambda: len(node.instances("web")) == 2, what="both are known")
        for _ in range(4):
            assert node.get("web") == (200, "good")
        fails = f'lb_endpoint_fails{{endpoint="127.0.0.1:{nobody.getsockname()[1]}",kind="http",service="web"}}'
        assert node.metrics()[fails] == 1
        node.upgrade()
        assert node.metrics()[fails] == 1
        for _ in range(4):
            assert node.get("web") == (200, "good")
        assert node.metrics()[fails] == 1, "it was not tried again"
        assert node.metrics()['lb_http_requests_total{code="200",service="web"}'] == 8


def test_the_agent_may_be_away_during_an_upgrade(tmp_path: Path) -> None:
    with (
        origin("web") as web,
        running_consul(tmp_path / "consul") as consul,
        running_node(tmp_path, consul.url) as node,
    ):
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        consul.stop()
        node.upgrade()
        assert node.get("web") == (200, "web")
        consul.start()
        consul.register("new", web, tags=["http"])
        node.wait_for("new", "web")


def test_a_program_that_cannot_start_again_changes_nothing(consul: Consul, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with origin("web") as web, running_node(tmp_path, consul.url, flags=("--token-file", str(token))) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        before, workers = node.pid(), node.worker_pids()
        token.unlink()
        done = _upgrade_command(node)
        assert done.returncode == 1
        assert "the new program has ended" in done.stderr
        assert (node.pid(), node.worker_pids()) == (before, workers)
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in node.worker_pids() and node.ready(), what="workers are replaced as before")
        consul.register("new", web, tags=["http"])
        node.wait_for("new", "web")
        assert "--token-file" in node.log.read_text(), "the new program's own words are in the log"
        token.write_text("secret")
        assert _upgrade_command(node).returncode == 0, "the next one succeeds"


def _upgrade_command(node: EdgeNode) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lb.cli", "upgrade", "--admin", f"127.0.0.1:{node.admin}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_upgrades_and_tells_who_follows_whom(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url) as node:
        before = node.pid()
        done = _upgrade_command(node)
        assert done.returncode == 0, done.stderr
        after = node.pid()
        assert after != before
        assert re.search(rf"process {after} .* follows {before}", done.stdout)
        assert node.process.wait(10) == 0


def test_a_program_that_is_told_to_end_while_another_follows_ends(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url) as node:
        os.kill(node.process.pid, signal.SIGHUP)
        os.kill(node.process.pid, signal.SIGTERM)
        assert node.process.wait(20) == 0
        wait_until(lambda: not node.family.pids() or _serving(node), what="all have ended, or the new one serves")


def _serving(node: EdgeNode) -> bool:
    with contextlib.suppress(OSError):
        return node.ready()
    return False


LAUNCHER = """
import pathlib, sys
from lb.cli import main
sys.argv += pathlib.Path(__file__).with_suffix(".flags").read_text().split()
sys.exit(main())
"""


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_new_program_may_have_other_flags(consul: Consul, tmp_path: Path, before: int, after: int) -> None:
    """It is started by the same command line, whatever that leads to now: other workers, other ports."""
    launcher, closed, opened = tmp_path / "launcher.py", free_port(), free_port()
    launcher.write_text(LAUNCHER)
    launcher.with_suffix(".flags").write_text(f"--workers {before} --tls 127.0.0.1:{closed}")
    with origin("web") as web, running_node(tmp_path, consul.url, program=[str(launcher)]) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        assert len(node.worker_pids()) == before
        launcher.with_suffix(".flags").write_text(f"--workers {after} --tls 127.0.0.1:{opened}")
        node.upgrade()
        assert len(node.worker_pids()) == after
        for _ in range(30):
            assert node.get("web") == (200, "web"), "no socket is left without a worker"
        assert port_open(opened)
        wait_until(lambda: not port_open(closed), what="the port that is not wanted any more is closed")


def test_many_upgrades_at_once_are_one_after_another(consul: Consul, tmp_path: Path) -> None:
    with origin("web") as web, running_node(tmp_path, consul.url, flags=("--workers", "2")) as node:
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        before = node.pid()
        for _ in range(5):
            os.kill(before, signal.SIGHUP)
        wait_until(lambda: _serving(node) and node.pid() != before, timeout=30, what="another program serves")
        wait_until(lambda: len(node.family.pids()) == 3, timeout=30, what="one program is left")
        assert node.get("web") == (200, "web")
