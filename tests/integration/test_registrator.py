"""Containers of a real Docker daemon as services of a real Consul agent: what is there is registered, nothing else is.

One registrator runs for all tests here. After each test the containers are gone, and so must be their services.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.docker import Docker
from tests.support.node import EdgeNode
from tests.support.process import wait_until
from tests.support.registrator import (
    HOST,
    environment,
    nothing_written,
    places,
    port_of,
    published,
    running_registrator,
    status_of,
    wait_for_places,
)

NODE = "consul-1"
LOCAL = "127.0.0.1"
SLEEP = ("sleep", "300")
RESYNC = "200ms"
QUICKLY = 1.0
"""Seconds in which what an event says is registered, here: with a margin for a busy machine."""


class World(NamedTuple):
    """What all tests here share."""

    docker: Docker
    consul: Consul
    node: EdgeNode


@pytest.fixture(scope="module")
def _world(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("registrator")
    with (
        running_consul(directory / "consul", node=NODE) as consul,
        running_registrator(directory / "edge", docker.host, consul, "--resync", RESYNC) as node,
    ):
        yield World(docker, consul, node)


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """An engine, an agent and a registrator between them; nothing runs, nothing is registered, before and after."""
    assert places(_world.consul) == {}
    yield _world
    _world.docker.remove_containers()
    wait_for_places(_world.consul, {})
    assert _world.node.ready()
    assert _world.node.status()["registrator"]["services"] == 0


def service(world: World, name: str, container: str, port: str = "80/tcp") -> tuple[str, str, int]:
    """Return name, address and port of a service whose container publishes one port on loopback."""
    return name, LOCAL, port_of(world.docker, container, port)


def test_a_container_is_registered_when_it_starts_and_deregistered_when_it_ends(world: World) -> None:
    docker, consul, node = world
    start = (*published("80"), "--name=web-1", *environment(SERVICE_NAME="web", SERVICE_TAGS="http,a\\,b"))
    with docker.container(*SLEEP, options=(*start, "--env=SERVICE_LB_POLICY=least_conn")) as container:
        web = f"{HOST}:web-1:80"
        wait_for_places(consul, {web: service(world, "web", container)}, QUICKLY)
        registered = consul.get(f"/v1/agent/service/{web}")
        assert registered["Tags"] == ["http", "a,b"]
        assert registered["Meta"] == {"registrator": NODE, "lb_policy": "least_conn"}
        with nothing_written(consul, node, "web"):
            pass
        for command in (("stop", "--time=0"), ("kill",)):
            docker.call(*command, container)
            wait_for_places(consul, {}, QUICKLY)
            docker.call("start", container)
            wait_for_places(consul, {web: service(world, "web", container)}, QUICKLY)
        docker.call("restart", "--time=0", container)
        wait_for_places(consul, {web: service(world, "web", container)}, QUICKLY)
        with nothing_written(consul, node, "web"):
            pass
        events = node.status()["registrator"]["events"]
        docker.call("pause", container)
        wait_until(lambda: node.status()["registrator"]["events"] > events, what="the pause is noticed")
        with nothing_written(consul, node, "web"):
            docker.call("unpause", container)


def test_a_container_that_is_renamed_has_the_new_name_and_is_never_without_one(world: World) -> None:
    docker, consul, node = world
    with docker.container(*SLEEP, options=(*published("80"), "--name=old", "--env=SERVICE_NAME=web")) as container:
        place = service(world, "web", container)
        wait_for_places(consul, {f"{HOST}:old:80": place}, QUICKLY)
        docker.call("rename", "old", "new")
        seen: list[int] = []

        def renamed() -> bool:
            seen.append(len(consul.get("/v1/health/service/web")))
            return set(places(consul)) == {f"{HOST}:new:80"}

        wait_until(renamed, step=0.0, what="the new name is registered")
        assert min(seen) >= 1
        wait_for_places(consul, {f"{HOST}:new:80": place})
        with nothing_written(consul, node, "web"):
            pass


def test_dockers_healthcheck_and_a_pause_are_the_status_of_the_service(world: World) -> None:
    docker, consul, node = world
    check = ("--health-cmd=cat /tmp/fine", "--health-interval=300ms", "--health-retries=1")
    with docker.container(*SLEEP, options=(*published("80"), "--name=web", *check)) as container:
        web = f"{HOST}:web:80"
        wait_for_places(consul, {web: service(world, "busybox", container)}, QUICKLY)
        assert status_of(consul, web)[0] == "critical"
        docker.call("exec", container, "sh", "-c", "echo >/tmp/fine")
        wait_until(lambda: status_of(consul, web) == ("passing", "healthy"), what="healthy")
        wait_until(lambda: len(consul.get("/v1/health/service/busybox", passing=1)) == 1, what="it passes")
        with nothing_written(consul, node, "busybox"):
            pass
        docker.call("pause", container)
        wait_until(lambda: status_of(consul, web) == ("critical", "paused"), timeout=QUICKLY, what="paused")
        docker.call("unpause", container)
        wait_until(lambda: status_of(consul, web) == ("passing", "healthy"), what="healthy again")
        docker.call("exec", container, "busybox", "rm", "/tmp/fine")
        wait_until(lambda: status_of(consul, web) == ("critical", "unhealthy"), what="unhealthy")
        with nothing_written(consul, node, "busybox"):
            pass


def test_ports_of_a_container_are_services_of_their_own(world: World) -> None:
    docker, consul, _ = world
    options = (
        *published("80", "81", "82", "53/udp"),
        "--name=many",
        *environment(SERVICE_NAME="env", SERVICE_81_NAME="eighty-one", SERVICE_82_IGNORE="1", SERVICE_TAGS="env"),
        "--label=SERVICE_TAGS=label",
    )
    with docker.container(*SLEEP, options=options) as container:
        expected = {
            f"{HOST}:many:80": service(world, "env-80", container),
            f"{HOST}:many:81": service(world, "eighty-one", container, "81/tcp"),
            f"{HOST}:many:53:udp": service(world, "env-53", container, "53/udp"),
        }
        wait_for_places(consul, expected, QUICKLY)
        tags = {key: one["Tags"] for key, one in consul.get("/v1/agent/services").items()}
        assert tags == {
            f"{HOST}:many:80": ["label"],
            f"{HOST}:many:81": ["label"],
            f"{HOST}:many:53:udp": ["label", "udp"],
        }
        docker.call("kill", container)
        wait_for_places(consul, {}, QUICKLY)


def test_a_container_on_the_hosts_network_is_registered_where_it_listens(world: World) -> None:
    docker, consul, _ = world
    options = ("--network=host", "--expose=7777", "--name=host", "--env=SERVICE_NAME=bare")
    with docker.container(*SLEEP, options=options):
        wait_for_places(consul, {f"{HOST}:host:7777": ("bare", "", 7777)}, QUICKLY)


def test_what_is_not_offered_is_not_registered_and_what_is_wrong_is_told(world: World) -> None:
    docker, consul, node = world
    with (
        docker.container(*SLEEP, options=("--expose=80", "--name=hidden")),
        docker.container(*SLEEP, options=(*published("80"), "--name=ignored", "--env=SERVICE_IGNORE=yes")),
        docker.container(
            *SLEEP, options=(*published("80"), "--name=odd", *environment(SERVICE_NAME="odd", SERVICE_CHECK_TTL="soon"))
        ) as odd,
    ):
        wait_for_places(consul, {f"{HOST}:odd:80": service(world, "odd", odd)}, QUICKLY)
        problems = node.status()["problems"]
        assert len(problems) == 1
        assert "odd" in problems[0]["subject"]
        assert "soon" in problems[0]["reason"]
        with nothing_written(consul, node):
            pass


def test_containers_that_die_at_once_leave_nothing(world: World) -> None:
    docker, consul, node = world
    deaths = node.metrics()['registrator_events_total{type="die"}']
    for number in range(3):
        docker.call("run", f"--name=brief-{number}", *published("80"), "consul-edge-tests/busybox", "true")
    wait_until(
        lambda: node.metrics()['registrator_events_total{type="die"}'] == deaths + 3, what="the deaths are noticed"
    )
    wait_for_places(consul, {})
    with nothing_written(consul, node):
        pass


def test_services_of_others_are_left_alone(world: World) -> None:
    docker, consul, node = world
    consul.register("db", 5432)
    consul.register("web", 8080, id=f"{HOST}:taken:80")
    theirs = places(consul)
    try:
        with docker.container(*SLEEP, options=(*published("80"), "--name=taken", "--env=SERVICE_NAME=ours")):
            problems = wait_until(lambda: node.status()["problems"], what="the conflict is told")
            assert [problem["subject"].endswith(f"{HOST}:taken:80") for problem in problems] == [True]
            assert places(consul) == theirs
            with nothing_written(consul, node, "web"):
                pass
    finally:
        for service_id in theirs:
            consul.deregister(service_id)


def test_the_registrator_is_shown_wherever_the_node_is(world: World) -> None:
    docker, consul, node = world
    with docker.container(*SLEEP, options=(*published("80"), "--name=web")) as container:
        wait_for_places(consul, {f"{HOST}:web:80": service(world, "busybox", container)})
        shown = node.status()
        assert (shown["registrator"]["containers"], shown["registrator"]["services"]) == (1, 1)
        assert shown["registrator"]["node"] == NODE
        assert shown["catalog"]["connected"]
        metrics = node.metrics()
        for name, value in {
            "registrator_docker_connected": 1,
            "registrator_consul_connected": 1,
            "registrator_containers": 1,
            "registrator_services": 1,
            "registrator_problems": 0,
            "catalog_connected": 1,
        }.items():
            assert metrics[name] == value, name
        admin = f"127.0.0.1:{node.admin}"
        text = subprocess.run(
            [sys.executable, "-m", "lb.cli", "status", "--admin", admin], capture_output=True, text=True, check=True
        ).stdout
        assert f"registrator  {docker.host}: 1 containers, 1 services\n" in text
        with urllib.request.urlopen(f"http://{admin}/", timeout=5) as page:
            assert f"{docker.host}: 1 containers, 1 services" in page.read().decode()


def test_a_service_that_somebody_else_removes_is_there_again_at_once(world: World) -> None:
    docker, consul, _ = world
    with docker.container(*SLEEP, options=(*published("80"), "--name=web")) as container:
        expected = {f"{HOST}:web:80": service(world, "busybox", container)}
        wait_for_places(consul, expected)
        consul.deregister(f"{HOST}:web:80")
        wait_for_places(consul, expected)
