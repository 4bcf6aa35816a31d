"""A node registers itself with a real Consul, and Consul sees whether it is ready."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until

LOOPBACK = ("--register", "127.0.0.1", "--workers", "1")


def passing(consul: Consul, count: int = 1) -> list[dict[str, Any]]:
    """The nodes that Consul has found ready, once there are so many."""

    def found() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = consul.get("/v1/health/service/consul-edge", passing=1)
        return entries if len(entries) == count else []

    return wait_until(found, timeout=20, what=f"{count} edges are passing")


def checked(consul: Consul, node: EdgeNode) -> str:
    """What Consul's check of the node says; empty before it was made."""
    checks = consul.get("/v1/agent/checks").values()
    ours = [check for check in checks if check["ServiceID"] == f"consul-edge:127.0.0.1:{node.admin}"]
    return "".join(check["Output"] for check in ours)


def test_edges_are_found_in_consul_and_leave_it_when_they_drain(consul: Consul, tmp_path: Path) -> None:
    flags = (*LOOPBACK, "--drain-delay", "2s")
    with (
        running_node(tmp_path / "one", consul.url, flags=flags) as one,
        running_node(tmp_path / "two", consul.url, flags=flags) as two,
    ):
        services = {entry["Service"]["Port"]: entry["Service"] for entry in passing(consul, 2)}
        assert services.keys() == {one.admin, two.admin}
        assert {service["Address"] for service in services.values()} == {"127.0.0.1"}
        assert services[one.admin]["Meta"] == {"version": one.status()["version"]}
        wait_until(lambda: "HTTP GET" in checked(consul, one), timeout=15, what="Consul has asked the node")
        assert "200 OK" in checked(consul, one)

        one.process.send_signal(signal.SIGTERM)
        left = passing(consul, 1)
        assert left[0]["Service"]["Port"] == two.admin
        assert not one.ready(), "it drains still, and is not found any more"


def test_an_upgrade_writes_nothing(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url, flags=LOOPBACK) as node:
        before = passing(consul)[0]["Service"]
        node.upgrade()
        assert passing(consul)[0]["Service"]["ModifyIndex"] == before["ModifyIndex"]
        assert node.log.read_text().count("registration: registered ") == 1
        node.stop()
        wait_until(lambda: consul.get("/v1/health/service/consul-edge") == [], what="the node is deregistered")


def test_an_admin_server_on_loopback_needs_an_address_to_tell(consul: Consul, tmp_path: Path) -> None:
    with running_node(tmp_path, consul.url, flags=("--register", "on"), ready=False) as node:
        assert node.process.wait(10) == 2
        assert "--register: nobody else reaches 127.0.0.1:" in node.log.read_text()
