"""A registrator through everything that goes wrong around it: no ghosts, nothing missing, nothing written in vain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.docker import Docker, running_docker
from tests.support.node import running_node
from tests.support.process import wait_until
from tests.support.registrator import (
    HOST,
    environment,
    nothing_written,
    places,
    port_of,
    published,
    running_registrator,
    wait_for_places,
)

LOCAL = "127.0.0.1"
SLEEP = ("sleep", "300")
RESYNC = ("--resync", "200ms")
RARELY = ("--resync", "1h")
"""What is seen with this is seen without a resync."""

Places = dict[str, tuple[str, str, int]]


@pytest.fixture
def engine(docker: Docker) -> Iterator[Docker]:
    """An engine without containers, before and after."""
    docker.remove_containers()
    yield docker
    docker.remove_containers()


def named(name: str, *options: str) -> tuple[str, ...]:
    """Return the options of a container that is service `web`."""
    return (*published("80"), f"--name={name}", "--env=SERVICE_NAME=web", *options)


def web(docker: Docker, *names: str, host: str = HOST) -> Places:
    """Return what these containers are to be registered as."""
    return {f"{host}:{name}:80": ("web", LOCAL, port_of(docker, name)) for name in names}


def test_killed_and_started_again_it_takes_over_what_is_there_and_removes_what_has_gone(
    engine: Docker, consul: Consul, tmp_path: Path
) -> None:
    with engine.container(*SLEEP, options=named("stays")), engine.container(*SLEEP, options=named("goes")):
        with running_registrator(tmp_path / "first", engine.host, consul, *RESYNC) as node:
            wait_for_places(consul, web(engine, "stays", "goes"))
            node.process.kill()
            node.process.wait()
        before = consul.get("/v1/health/service/web")
        with running_registrator(tmp_path / "second", engine.host, consul, *RESYNC) as node:
            with nothing_written(consul, node, "web"):
                assert consul.get("/v1/health/service/web") == before
            node.process.kill()
            node.process.wait()
        engine.call("kill", "goes")
        with engine.container(*SLEEP, options=named("comes")):
            with running_registrator(tmp_path / "third", engine.host, consul, *RARELY) as node:
                wait_for_places(consul, web(engine, "stays", "comes"))
                assert node.terminate() == 0
            assert places(consul) == web(engine, "stays", "comes"), "registrations outlive the registrator"


def test_a_host_that_is_renamed_leaves_no_ghosts(engine: Docker, consul: Consul, tmp_path: Path) -> None:
    with engine.container(*SLEEP, options=named("one")), engine.container(*SLEEP, options=named("two")):
        for host in ("old", "new"):
            with running_registrator(tmp_path / host, engine.host, consul, *RESYNC, host=host) as node:
                wait_for_places(consul, web(engine, "one", "two", host=host))
                with nothing_written(consul, node, "web"):
                    pass


def test_an_agent_that_was_restarted_and_has_forgotten_all_is_told_again_without_a_resync(
    engine: Docker, tmp_path: Path
) -> None:
    with (
        running_consul(tmp_path / "consul") as consul,
        engine.container(*SLEEP, options=named("one")),
        running_registrator(tmp_path / "edge", engine.host, consul, *RARELY) as node,
        ExitStack() as later,
    ):
        wait_for_places(consul, web(engine, "one"))
        consul.stop()
        wait_until(lambda: not node.status()["registrator"]["consul"]["connected"], what="the loss is noticed")
        later.enter_context(engine.container(*SLEEP, options=named("two")))
        consul.restart(wipe=True)
        wait_for_places(consul, web(engine, "one", "two"))
        consul.restart()
        wait_for_places(consul, web(engine, "one", "two"))
        with consul.paused():
            engine.call("kill", "two")
        wait_for_places(consul, web(engine, "one"), timeout=20)
        assert node.ready()


def test_an_engine_that_was_restarted_is_compared_anew(tmp_path: Path, consul: Consul) -> None:
    """Ports that were chosen by Docker are others afterwards, and may be those of other containers."""
    with running_docker() as engine:
        for name in ("one", "two", "three"):
            engine.call(
                "run",
                "--detach",
                *named(name, "--restart=always", "--stop-signal=KILL"),
                "consul-edge-tests/busybox",
                *SLEEP,
            )
        with (
            engine.container(*SLEEP, options=named("once", "--stop-signal=KILL")),
            running_registrator(tmp_path / "edge", engine.host, consul, *RARELY) as node,
        ):
            wait_for_places(consul, web(engine, "one", "two", "three", "once"))
            before = places(consul)
            engine.kill()
            wait_until(lambda: not node.status()["registrator"]["docker"]["connected"], what="the loss is noticed")
            assert places(consul) == before, "while nothing is known of containers, they stay registered"
            engine.start_again()
            wait_until(lambda: node.status()["registrator"]["docker"]["connected"], what="the engine is followed")
            wait_for_places(consul, web(engine, "one", "two", "three"))
            engine.call("kill", "two")  # events are followed again
            wait_for_places(consul, web(engine, "one", "three"))


def test_docker_and_consul_may_come_later_than_the_registrator(engine: Docker, tmp_path: Path) -> None:
    consul = Consul(tmp_path / "consul")
    with running_registrator(
        tmp_path / "edge", engine.host, consul, *RARELY, "--retry-interval", "100ms", ready=False
    ) as node:
        ready = wait_until(lambda: node.api("/health/ready"), what="the admin server answers")
        assert not ready["ready"]
        with engine.container(*SLEEP, options=named("one")):
            consul.start()
            try:
                wait_for_places(consul, web(engine, "one"))
                wait_until(node.ready, what="it is ready")
            finally:
                consul.stop()


@pytest.mark.parametrize("missing", ["Docker", "Consul"])
def test_attempts_at_the_start_come_to_an_end(engine: Docker, consul: Consul, tmp_path: Path, missing: str) -> None:
    there = engine.host if missing == "Consul" else f"unix://{tmp_path}/none.sock"
    agent = consul if missing == "Docker" else Consul(tmp_path / "consul")
    attempts = ("--retry-attempts", "1", "--retry-interval", "50ms")
    with running_registrator(tmp_path / "edge", there, agent, *attempts, ready=False) as node:
        assert node.process.wait(15) == 1
        assert "the registrator gives up" in node.log.read_text()


def test_the_next_program_goes_on_where_the_old_one_ended(engine: Docker, consul: Consul, tmp_path: Path) -> None:
    with (
        engine.container(*SLEEP, options=named("one")),
        running_registrator(tmp_path / "edge", engine.host, consul, *RESYNC) as node,
        ExitStack() as later,
    ):
        wait_for_places(consul, web(engine, "one"))
        before = consul.get("/v1/health/service/web")
        node.upgrade()
        assert consul.get("/v1/health/service/web") == before, "nothing was deregistered, nor written again"
        later.enter_context(engine.container(*SLEEP, options=named("two")))
        wait_for_places(consul, web(engine, "one", "two"))
        with nothing_written(consul, node, "web"):
            pass


def test_what_is_registered_can_be_removed_at_exit(engine: Docker, consul: Consul, tmp_path: Path) -> None:
    consul.register("theirs", 80)
    flags = (*RESYNC, "--deregister-on-exit")
    with (
        engine.container(*SLEEP, options=named("one")),
        running_registrator(tmp_path / "edge", engine.host, consul, *flags) as node,
    ):
        wait_until(lambda: len(places(consul)) == 2, what="both are registered")
        node.upgrade()
        assert len(places(consul)) == 2
        node.stop()
        assert set(places(consul)) == {"theirs-80"}


def test_a_container_that_failed_may_stay_registered(engine: Docker, consul: Consul, tmp_path: Path) -> None:
    flags = (*RESYNC, "--deregister", "on-success")
    end = ("sh", "-c", "trap 'exit 3' USR1; trap 'exit 0' USR2; while :; do sleep 0.05; done")
    with running_registrator(tmp_path / "first", engine.host, consul, *flags) as node:
        for name in ("fails", "succeeds"):
            engine.call("run", "--detach", *named(name), "consul-edge-tests/busybox", *end)
        both = web(engine, "fails", "succeeds")
        wait_for_places(consul, both)
        failed = web(engine, "fails")
        engine.call("kill", "--signal=USR1", "fails")
        engine.call("kill", "--signal=USR2", "succeeds")
        wait_for_places(consul, failed)
        with nothing_written(consul, node, "web"):
            pass
    with running_registrator(tmp_path / "second", engine.host, consul, *flags) as node:
        with nothing_written(consul, node, "web"):
            assert places(consul) == failed
        engine.call("rm", "fails")
        wait_for_places(consul, {})


def test_addresses_of_containers_on_their_own_networks(engine: Docker, consul: Consul, tmp_path: Path) -> None:
    expose = ("--expose=80", "--env=SERVICE_NAME=web")
    with (
        engine.network("back") as back,
        engine.network("front") as front,
        running_registrator(tmp_path / "edge", engine.host, consul, *RARELY, "--internal") as node,
    ):
        inside = (*expose, f"--network={front}", "--name=one")
        with engine.container(*SLEEP, options=(*inside, *environment(SERVICE_NETWORK=back))):
            front_address, place = address(engine, "one", front), f"{HOST}:one:80"
            wait_for_places(consul, {place: ("web", front_address, 80)})
            engine.call("network", "connect", back, "one")
            wait_for_places(consul, {place: ("web", address(engine, "one", back), 80)})
            engine.call("network", "disconnect", back, "one")
            wait_for_places(consul, {place: ("web", front_address, 80)})
        with engine.container(*SLEEP, options=(*expose, "--name=plain")):
            wait_for_places(consul, {f"{HOST}:plain:80": ("web", address(engine, "plain", "bridge"), 80)})
        wait_for_places(consul, {})
        assert node.ready()


def address(docker: Docker, container: str, network: str) -> str:
    """Return a container's address on a network."""
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker.call("inspect", "--format", form, container).strip()


def test_a_registrator_that_fails_hurts_no_balancer(consul: Consul, tmp_path: Path) -> None:
    flags = ("--docker", f"unix://{tmp_path}/none.sock", "--retry-attempts", "0", "--workers", "1")
    with running_node(tmp_path, consul.url, flags=flags) as node:
        reasons = wait_until(lambda: node.api("/health/ready")["reasons"], what="it is told")
        assert "given up" in reasons[0]
        assert node.ready()
        assert node.get("nobody")[0] == 404
        assert node.terminate() == 0
