"""What is answered from a catalog that no agent confirms any more, over a real socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from dnsserver.metrics import DnsCollector
from lb.errors import AgentUnreachable
from lb.settings import DnsSettings
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.dns_catalog import instance, snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import wait_until

CATALOG = snapshot([instance("web", 1)])
NAMES = (
    "web.service.consul",
    "nosuch.service.consul",
    "n1.node.consul",
    "1.0.0.10.in-addr.arpa",
    "9.9.9.9.in-addr.arpa",
)


def rcodes(server: RunningDns) -> list[str]:
    return [read_reply(ask_udp(server.port, make_query(name, "ANY"))).rcode for name in NAMES]


def stale(server: RunningDns) -> float | None:
    registry = CollectorRegistry()
    registry.register(DnsCollector(server.stats))
    return server.call(lambda: registry.get_sample_value("dns_stale"))


GOOD = ["NOERROR", "NXDOMAIN", "NOERROR", "NOERROR", "NXDOMAIN"]


def test_answers_end_when_the_catalog_is_too_old_and_come_back() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK, max_stale=60), CATALOG) as server:
        assert (rcodes(server), stale(server)) == (GOOD, 0)
        server.call(lambda: server.server.confirm(30))
        assert (rcodes(server), stale(server)) == (GOOD, 1)
        server.call(lambda: server.server.confirm(60))
        assert (rcodes(server), stale(server)) == (["SERVFAIL"] * 5, 2)
        server.call(lambda: server.server.confirm(None))
        assert (rcodes(server), stale(server)) == (GOOD, 0)


def test_the_time_runs_out_by_itself() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK, max_stale=60), CATALOG) as server:
        server.call(lambda: server.server.confirm(59.9))
        wait_until(lambda: set(rcodes(server)) == {"SERVFAIL"}, what="the answers end")


def test_without_a_limit_answers_go_on() -> None:
    with running_dns(DnsSettings(listen=LOOPBACK), CATALOG) as server:
        server.call(lambda: server.server.confirm(1e9))
        assert (rcodes(server), stale(server)) == (GOOD, 1)


def test_an_agent_is_not_asked_for_a_catalog_that_is_too_old() -> None:
    asked: list[str] = []

    async def ask(path: str, params: Mapping[str, str]) -> Any:
        asked.append(path)
        raise AgentUnreachable("gone")

    with running_dns(DnsSettings(listen=LOOPBACK, max_stale=60), CATALOG, ask=ask) as server:
        server.call(lambda: server.server.confirm(60))
        reply = read_reply(ask_udp(server.port, make_query("geo.query.consul")))
        assert (reply.rcode, asked) == ("SERVFAIL", [])


def test_names_of_the_hosts_file_are_answered_whatever_became_of_the_catalog(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.6.0.1 printer.corp.example\n10.6.0.2 alias.service.consul\n")
    settings = DnsSettings(listen=LOOPBACK, max_stale=60, hosts=hosts)
    asked = (("printer.corp.example", "A"), ("1.0.6.10.in-addr.arpa", "PTR"), ("printer.corp.example", "AAAA"))

    def answers(server: RunningDns) -> list[tuple[str, list[str]]]:
        seen = [read_reply(ask_udp(server.port, make_query(*each))) for each in asked]
        return [(each.rcode, each.data) for each in seen]

    with running_dns(settings) as server:
        good = [("NOERROR", ["10.6.0.1"]), ("NOERROR", ["printer.corp.example."]), ("NOERROR", [])]
        assert (rcodes(server), answers(server)) == (["SERVFAIL"] * 5, good)
        server.apply(CATALOG)
        assert (rcodes(server), answers(server)) == (GOOD, good)
        server.call(lambda: server.server.confirm(60))
        assert (rcodes(server), answers(server)) == (["SERVFAIL"] * 5, good)
        within = read_reply(ask_udp(server.port, make_query("alias.service.consul")))
        assert within.rcode == "SERVFAIL", "inside the domain the catalog has the say, and it is not known"
