"""A running node whose workers ask a real Consul, with ACLs, for what the catalog does not have; and Consul's end."""

from __future__ import annotations

from pathlib import Path

from tests.support.consul import running_consul
from tests.support.dns import Seen, ask_udp, make_query, read_reply
from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until

SILENT = "up.query.consul"
"""A query that nobody asks before Consul is gone."""


def ask(node: EdgeNode, name: str) -> Seen:
    return read_reply(ask_udp(node.dns, make_query(name)))


def secrets_shown(node: EdgeNode, secret: str) -> list[str]:
    """Where other users of the machine, or readers of the log, would find a secret."""
    shown = [str(node.log)] if secret in node.log.read_text() else []
    for pid in node.family.pids():
        command = Path(f"/proc/{pid}/cmdline")
        if secret.encode() in command.read_bytes():
            shown.append(str(command))
    return shown


def test_workers_ask_with_the_token_and_outlive_consul(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with running_consul(tmp_path / "consul", acl=True) as consul:
        token.write_text(consul.token)
        consul.register("web", 8000, address="10.5.0.1")
        for name in ("geo", "up"):
            query = {"Name": name, "Service": {"Service": "web"}, "DNS": {"TTL": "10s"}}
            consul.call("POST", "/v1/query", query)
        flags = ("--workers", "2", "--token-file", str(token), "--dns-max-stale", "6s", "--log-level", "debug")
        with running_node(tmp_path, consul.url, flags=flags) as node:
            wait_until(lambda: ask(node, "web.service.consul").answer, what="the catalog is served")
            seen = ask(node, "geo.query.consul")
            assert [row[2:] for row in seen.answer] == [(10, "10.5.0.1")]
            assert ask(node, "nosuch.query.consul").rcode == "NXDOMAIN"
            assert ask(node, "web.service.dc9.consul").rcode == "NXDOMAIN"
            assert node.metrics()['dns_agent_questions_total{result="nothing"}'] >= 2
            for _ in range(20):  # each worker has asked at least once
                assert ask(node, "geo.query.consul").answer
            consul.kill()
            wait_until(lambda: node.metrics()["dns_stale"] == 1, what="the catalog is no longer confirmed")
            assert ask(node, "web.service.consul").data == ["10.5.0.1"]
            assert ask(node, "geo.query.consul").data == ["10.5.0.1"]
            assert ask(node, SILENT).rcode == "SERVFAIL"
            wait_until(lambda: ask(node, "web.service.consul").rcode == "SERVFAIL", what="the catalog is too old")
            assert ask(node, "geo.query.consul").rcode == "SERVFAIL"
            assert node.metrics()["dns_stale"] == 2
            consul.start()
            wait_until(lambda: ask(node, SILENT).data == ["10.5.0.1"], timeout=30, what="all is well again")
            assert ask(node, "web.service.consul").data == ["10.5.0.1"]
            assert secrets_shown(node, consul.token) == []
