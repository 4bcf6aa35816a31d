"""The catalog changes while clients are served: nothing is lost, and a new instance takes traffic at once."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.consul import Consul, require
from tests.support.nginx import http_block, running_nginx
from tests.support.node import EdgeNode, running_node
from tests.support.origins import origin
from tests.support.process import free_ports, wait_until

CHANGES = 200
REGISTRATIONS = 60


def test_no_request_fails_over_200_changes_of_the_catalog(consul: Consul, tmp_path: Path) -> None:
    wrk = require("wrk", "this test loads a virtual host while its instances change")
    ports = free_ports(4)
    servers = "".join(f'server {{ listen 127.0.0.1:{p}; location / {{ return 200 "{p}"; }} }}' for p in ports)
    config = http_block(tmp_path / "nginx", f"keepalive_requests 1000000; {servers}")
    with running_nginx(tmp_path / "nginx", config), running_node(tmp_path, consul.url) as node:
        steady, *moving = ports
        consul.register("web", steady, tags=["http"])
        node.wait_for("web", str(steady))
        report = (tmp_path / "wrk.txt").open("wb+")
        host, url = "Host: web.test", f"http://127.0.0.1:{node.http}/"
        load = subprocess.Popen([wrk, "-c", "16", "-t", "1", "-d", "300", "-H", host, url], stdout=report)
        try:
            for change in range(CHANGES):
                _change(node, consul, change, moving)
        finally:
            load.send_signal(signal.SIGINT)
            load.wait(20)
        report.seek(0)
        text = report.read().decode()
        done = re.search(r"(\d+) requests in", text)
        assert done is not None, text
        assert int(done[1]) > CHANGES, text
        assert "Socket errors" not in text, text
        assert "Non-2xx" not in text, text
        samples = node.metrics()
        codes = {name for name in samples if name.startswith("lb_http_requests_total")}
        # wrk is interrupted in the middle of its last requests: those are the 499.
        assert codes <= {f'lb_http_requests_total{{code="{code}",service="web"}}' for code in (200, 499)}
        assert samples["catalog_publications_total"] >= CHANGES * 3 / 4


def _change(node: EdgeNode, consul: Consul, change: int, ports: list[int]) -> None:
    """Register, maintenance on, maintenance off, deregister, one instance after the other; wait until it is seen."""
    step, which = change % 4, change // 4 % len(ports)
    name = f"web-{ports[which]}"
    if step == 0:
        consul.register("web", ports[which], tags=["http"])
    elif step in (1, 2):
        consul.maintenance(name, step == 1)
    else:
        consul.deregister(name)
    health = ("passing", "critical", "passing", None)[step]
    wait_until(lambda: node.instances("web").get(name) == health, what=f"change {change} is seen")


def test_a_registration_takes_traffic(consul: Consul, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One instance moves between two ports; measured from the moment that the agent has accepted the registration."""
    with origin("left") as left, origin("right") as right, running_node(tmp_path, consul.url) as node:
        consul.register("web", left, id="web", tags=["http"])
        node.wait_for("web", "left")
        delays = []
        client = http.client.HTTPConnection("127.0.0.1", node.http, timeout=5)
        with contextlib.closing(client):
            for turn in range(REGISTRATIONS):
                name, port = ("left", left) if turn % 2 else ("right", right)
                consul.register("web", port, id="web", tags=["http"])
                accepted = time.perf_counter()
                while _ask(client) != name:
                    assert time.perf_counter() - accepted < 5, f"{name} gets no traffic"
                delays.append((time.perf_counter() - accepted) * 1000)
    delays.sort()
    with capsys.disabled():
        print(
            f"\nregistration accepted -> first answer of the new instance: p50 {statistics.median(delays):.1f} ms, "
            f"p90 {delays[int(len(delays) * 0.9)]:.1f} ms, worst {delays[-1]:.1f} ms of {len(delays)}"
        )


def _ask(client: http.client.HTTPConnection) -> str:
    client.request("GET", "/", headers={"Host": "web.test"})
    return client.getresponse().read().decode()
