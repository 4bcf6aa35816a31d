"""The dashboard and the alerts on a real Prometheus that finds and scrapes a running node: every query has data."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificate, make_certificate
from tests.support.consul import Consul, require, running_consul
from tests.support.dns import ask_udp, make_query
from tests.support.engine import FakeEngine
from tests.support.node import EdgeNode, running_node
from tests.support.origins import echo, origin
from tests.support.process import free_ports, port_open, running, wait_until
from tests.support.prometheus import CONFIGURATION, DEPLOY, Prometheus, finds_by_consul, running_prometheus
from tests.support.recursor import answer, running_recursor

DASHBOARD = json.loads((DEPLOY / "grafana" / "consul-edge.json").read_text())
WINDOW = "5s"  # in place of Grafana's own choice
SCRAPES = 4

ERRORS_ALONE = {
    "catalog_errors_total",
    "dns_dropped_total",
    "dns_faults_total",
    "dns_rate_limited_total",
    "dns_refused_total",
}
"""Metrics without a sample as long as all is well."""
NOTHING_CLOSED = "lb_listener_up{"
"""In a query that compares it with 0: there is an answer only while a listener cannot be opened."""


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard, with the title of its panel."""
    return [(panel["title"], t["expr"]) for panel in DASHBOARD["panels"] for t in panel.get("targets", ())]


def metrics_of(query: str) -> set[str]:
    """The names of our metrics in a query."""
    return set(re.findall(r"\b(?:up|(?:lb|dns|catalog|registrator|process)_[a-z_]+)\b", query))


class Traffic(threading.Thread):
    """Clients of all kinds, one after the other, until `stop`."""

    def __init__(self, node: EdgeNode, tcp: int, tls: int, certificate: Certificate) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._tcp = tcp
        self._tls = tls
        self._certificate = certificate
        self._over = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._over.wait(0.05):
            try:
                self._turn()
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def _turn(self) -> None:
        assert self._node.get("web")[0] == 200
        assert self._node.get("nobody")[0] == 404
        with socket.create_connection(("127.0.0.1", self._tcp), timeout=5) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"echo: hello"
        with (
            socket.create_connection(("127.0.0.1", self._tls), timeout=5) as plain,
            self._certificate.client().wrap_socket(plain, server_hostname="safe.test") as secure,
        ):
            secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert secure.recv(100)
        with socket.create_connection(("127.0.0.1", self._tls), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100) == b""
        for name in ("web.service.consul", "nosuch.service.consul", "www.example.org", "some.query.consul"):
            ask_udp(self._node.dns, make_query(name))

    def stop(self) -> None:
        """End, and see that every client got what it should."""
        self._over.set()
        self.join(20)
        assert not self.failures, self.failures[:3]


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that has scraped the node."""

    prometheus: Prometheus
    node: EdgeNode
    way: str


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Run everything; the block begins when each kind of traffic was scraped often enough for a rate."""
    directory = tmp_path_factory.mktemp("scraped")
    certificate = make_certificate(directory, "safe.test")
    tls, safe, tcp, dead, dns = free_ports(5)
    resolver = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}" if os.geteuid() == 0 else ""
    flags = ["--register", "127.0.0.1", "--workers", "2", "--tls", f"127.0.0.1:{tls}"]
    flags += ["--access-log", str(directory / "access.log"), "--dns", f"127.0.0.1:{dns}"]
    if resolver:
        flags += ["--dns", f"{resolver}:53"]
    server: list[str | Path] = [require("openssl", "the server of this test"), "s_server", "-www", "-quiet"]
    server += ["-accept", str(safe), "-cert", certificate.certificate, "-key", certificate.key]
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        consul = enter(running_consul(directory / "consul"))
        recursor = enter(running_recursor(lambda query: [answer(query, "www.example.org. 0 A 192.0.2.80")]))
        enter(running(server, log=directory / "server.log"))
        engine = enter(FakeEngine(directory).running())
        engine.start("sidecar", "job")
        flags += ["--docker", engine.host, "--host-name", "edge-1"]
        node = enter(running_node(directory / "edge", consul.url, flags=(*flags, "--recursor", str(recursor.address))))
        node.dns = dns
        way, configuration = configured(consul, node, resolver)
        prometheus = enter(
            running_prometheus(directory / "prometheus", configuration, resolver if way == "dns" else "")
        )
        for port in (enter(origin("one")), enter(origin("two")), dead):
            consul.register("web", port, tags=["http"], meta={"lb_fail_timeout": "1s", "lb_max_fails": "1"})
        consul.register(f"echo-{tcp}", enter(echo("echo: ")), tags=["tcp"])
        consul.register("safe", safe, tags=["tls"])
        wait_until(lambda: port_open(tcp) and port_open(safe), what="the services are there")
        traffic = Traffic(node, tcp, tls, certificate)
        wait_until(lambda: node.get("web")[0] == 200 and len(node.api("/api/routes")) == 3, what="all is routed")
        traffic.start()
        held.callback(traffic.stop)
        enough = f'min(count_over_time({{__name__=~"lb_http_requests_total|lb_tls_sessions_total"}}[1m])) >= {SCRAPES}'
        wait_until(lambda: prometheus.query(enough), timeout=40, step=0.2, what="the node was scraped")
        yield Scraped(prometheus, node, way)


def configured(consul: Consul, node: EdgeNode, resolver: str) -> tuple[str, str]:
    """How this Prometheus can find the node, and the configuration for that, every second instead of every 15."""
    by_consul, by_dns = ((CONFIGURATION / name).read_text() for name in ("prometheus.yml", "prometheus-dns.yml"))
    if finds_by_consul():
        way, text = "consul", by_consul.replace("127.0.0.1:8500", consul.url.removeprefix("http://"))
    elif resolver:
        way, text = "dns", by_dns
    else:
        way = "static"
        text = re.sub(
            r"    dns_sd_configs:\n.*",
            f"    static_configs: [targets: ['127.0.0.1:{node.admin}']]\n",
            by_dns,
            flags=re.S,
        )
    assert "15s" in text
    return way, text.replace("15s", "1s")


def test_the_node_is_found(scraped: Scraped) -> None:
    targets = scraped.prometheus.targets()
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
    labels = targets[0]["labels"]
    host, _, port = labels["instance"].rpartition(":")
    assert (labels["job"], int(port)) == ("consul-edge", scraped.node.admin)
    if scraped.way == "consul":
        assert (host, labels["node"], labels["dc"]) == ("127.0.0.1", "consul-1", "dc1")
    elif scraped.way == "dns":
        assert host == "7f000001.addr.dc1.consul"


def substituted(query: str) -> str:
    """The query as Grafana sends it, with all edges and services."""
    for variable, value in {"$__rate_interval": WINDOW, "$instance": ".*", "$service": ".*"}.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def test_every_query_of_the_dashboard_has_data(scraped: Scraped) -> None:
    empty = []
    for title, query in queries():
        shown = scraped.prometheus.query(substituted(query))
        excused = metrics_of(query) & ERRORS_ALONE or NOTHING_CLOSED in query
        if not [one for one in shown if one["value"][1] != "NaN"] and not excused:
            empty.append(f"{title}: {query}")
    assert not empty, "\n".join(empty)


def test_what_the_dashboard_shows_is_right(scraped: Scraped) -> None:
    """Some numbers whose truth is known here."""

    def shown(title: str) -> list[dict[str, Any]]:
        return scraped.prometheus.query(substituted(next(query for name, query in queries() if name == title)))

    assert shown("Edges that answer")[0]["value"][1] == "1"
    assert shown("Requests that failed")[0]["value"][1] == "0"
    assert shown("Problems")[0]["value"][1] == "0"
    assert {one["metric"]["service"] for one in shown("Requests by service")} == {"web"}
    codes = {one["metric"]["code"]: float(one["value"][1]) for one in shown("Requests by status")}
    assert codes.keys() == {"200"}
    assert float(shown("HTTP requests")[0]["value"][1]) == pytest.approx(codes["200"], rel=0.5)
    assert "connect_refused" in {one["metric"].get("result") for one in shown("Attempts that failed, retries")}
    assert {one["metric"]["result"] for one in shown("TCP sessions by how they ended")} <= {"ok", "reset"}
    assert {one["metric"]["kind"] for one in shown("Connections closed for how they began")} == {"not_tls"}
    assert shown("Docker and the agent of the host")[0]["value"][1] == "1"
    assert shown("Containers and their services")[0]["value"][1] == "2"
    assert shown("Problems of containers")[0]["value"][1] == "0"


def test_the_variables_of_the_dashboard_have_values(scraped: Scraped) -> None:
    found = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            found[variable["name"]] = scraped.prometheus.get(f"label/{asked[2]}/values", **{"match[]": asked[1]})
    assert [int(one.rpartition(":")[2]) for one in found["instance"]] == [scraped.node.admin]
    assert len(found["service"]) == 3


def test_every_alert_looks_at_what_is_there_and_is_quiet_while_all_is_well(scraped: Scraped) -> None:
    rules = scraped.prometheus.rules()
    names = scraped.prometheus.names()
    for rule in rules:
        scraped.prometheus.query(rule["query"])
        missing = metrics_of(rule["query"]) - names - ERRORS_ALONE
        assert not missing, f"{rule['name']}: there is no {', '.join(missing)}"
        assert rule["health"] in ("ok", "unknown"), rule["lastError"]
    assert any(rule["health"] == "ok" for rule in rules)
    loud = {rule["name"] for rule in rules if rule["state"] != "inactive"}
    assert loud <= {"ConsulEdgeEndpointSuspended"}, "one of three instances refuses"
