"""A running registrator for tests, and what a Consul agent has of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.consul import ConsulApi
from tests.support.docker import Docker
from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until

HOST = "edge-1"
"""The first part of service IDs."""


@contextlib.contextmanager
def running_registrator(
    directory: Path, engine: str, consul: ConsulApi, *flags: str, host: str = HOST, ready: bool = True
) -> Iterator[EdgeNode]:
    """Run `consul-edge registrator`; with `ready`, all containers are registered when the block begins."""
    usual = ("--docker", engine, "--host-name", host)
    with running_node(
        directory, consul.url, flags=(*usual, *flags), env={"DOCKER_HOST": ""}, command="registrator", ready=ready
    ) as node:
        yield node


def published(*ports: str, host: str = "127.0.0.1") -> tuple[str, ...]:
    """Return the options of `docker run` that publish container ports (`80`, `53/udp`) on ports that are free."""
    return tuple(f"--publish={host}::{port}" for port in ports)


def environment(**values: str) -> tuple[str, ...]:
    """Return the options of `docker run` that set variables."""
    return tuple(f"--env={name}={value}" for name, value in values.items())


def port_of(docker: Docker, container: str, port: str = "80/tcp") -> int:
    """Return where a container's port is published."""
    return int(docker.call("port", container, port).split()[0].rpartition(":")[2])


def places(consul: ConsulApi) -> dict[str, tuple[str, str, int]]:
    """Return what is registered with the agent by service ID: name, address and port."""
    return {
        service_id: (service["Service"], service["Address"], service["Port"])
        for service_id, service in consul.get("/v1/agent/services").items()
    }


def wait_for_places(consul: ConsulApi, expected: dict[str, tuple[str, str, int]], timeout: float = 10.0) -> None:
    """Wait until exactly this is registered with the agent, and with the catalog."""

    def probe() -> bool:
        seen, known = places(consul), catalog(consul)
        assert (seen, known) == (expected, set(expected)), f"the agent has {seen}, the catalog {known}"
        return True

    wait_until(probe, timeout=timeout, what=f"{sorted(expected)} are registered")


def catalog(consul: ConsulApi) -> set[str]:
    """Return the IDs of all services of the agent's node in the catalog."""
    node = consul.get("/v1/agent/self")["Config"]["NodeName"]
    return set(consul.get(f"/v1/catalog/node/{node}")["Services"]) - {"consul"}


def status_of(consul: ConsulApi, service_id: str) -> tuple[str, str]:
    """Return status and output of the one check of a service."""
    checks = [check for check in consul.get("/v1/agent/checks").values() if check["ServiceID"] == service_id]
    assert len(checks) == 1, f"{service_id} has {len(checks)} checks"
    return checks[0]["Status"], checks[0]["Output"]


def indexes(consul: ConsulApi, names: Sequence[str]) -> dict[str, str]:
    """Return Consul's index of the list of services and of each of these: they rise with every write that matters."""
    paths = ["/v1/catalog/services", *(f"/v1/health/service/{name}" for name in names)]
    return {path: consul.request("GET", path)[1]["X-Consul-Index"] for path in paths}


def resyncs(node: EdgeNode) -> list[float]:
    """Return how often all containers were read, and all services."""
    metrics = node.metrics()
    return [metrics[f'registrator_resyncs_total{{side="{side}"}}'] for side in ("docker", "consul")]


def writes(node: EdgeNode) -> dict[str, float]:
    """Return how much was written to the agent, by kind and result."""
    return {name: value for name, value in node.metrics().items() if name.startswith("registrator_writes_total")}


def wait_resyncs(node: EdgeNode, count: int) -> None:
    """Wait until Docker and the agent were read so often from now on."""
    start = resyncs(node)
    wait_until(
        lambda: all(now >= before + count for now, before in zip(resyncs(node), start, strict=True)),
        what=f"both sides were read {count} times",
    )


@contextlib.contextmanager
def nothing_written(consul: ConsulApi, node: EdgeNode, *names: str) -> Iterator[None]:
    """Run a block, then wait until both sides were read twice; assert that none of it wrote anything to Consul."""
    # What Consul shows already is counted when its answer has come: before the next reading is over.
    wait_resyncs(node, 1)
    before: tuple[Any, ...] = (writes(node), indexes(consul, names))
    yield
    wait_resyncs(node, 2)
    after = (writes(node), indexes(consul, names))
    assert after == before, f"before {before}, after {after}"
