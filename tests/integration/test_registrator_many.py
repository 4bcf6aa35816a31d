"""A registrator between a stand-in for Docker and a real Consul agent: many containers, and engines that misbehave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.consul import Consul
from tests.support.engine import FakeEngine
from tests.support.node import EdgeNode
from tests.support.process import wait_until
from tests.support.registrator import HOST, nothing_written, places, running_registrator, wait_for_places, writes

MANY = 200
LIMIT = 2.0
"""Seconds in which so many containers that start at once are registered."""

PORT = 8000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path).running() as engine:
        yield engine


@pytest.fixture
def node(engine: FakeEngine, consul: Consul, tmp_path: Path) -> Iterator[EdgeNode]:
    with running_registrator(tmp_path, engine.host, consul, "--resync", "200ms", "--cleanup", "off") as node:
        wait_until(engine.listeners, what="events are followed")
        yield node


def test_many_containers_that_start_at_once_are_registered_within_two_seconds(
    engine: FakeEngine, consul: Consul, node: EdgeNode
) -> None:
    names = [f"c{number}" for number in range(MANY)]
    for _ in range(2):
        start = time.monotonic()
        ids = engine.start(*names, port=PORT)
        wait_until(lambda: len(places(consul)) == MANY, step=0.05, what="all are registered")
        assert time.monotonic() - start < LIMIT
        assert places(consul) == {
            f"{HOST}:{name}:80": ("image", "127.0.0.1", PORT + number) for number, name in enumerate(names)
        }
        with nothing_written(consul, node, "image"):
            pass
        engine.kill(*ids)
        wait_for_places(consul, {})
    done = writes(node)
    assert done['registrator_writes_total{kind="register",result="ok"}'] == 2 * MANY
    assert done['registrator_writes_total{kind="deregister",result="ok"}'] == 2 * MANY
    assert sum(done.values()) == 4 * MANY


def test_containers_that_end_while_they_are_being_registered_leave_nothing(
    engine: FakeEngine, consul: Consul, tmp_path: Path
) -> None:
    with running_registrator(tmp_path, engine.host, consul, "--resync", "1h") as node:
        wait_until(engine.listeners, what="events are followed")
        for number in range(20):
            ids = engine.start(f"one-{number}", f"two-{number}", port=PORT)
            wait_until(lambda: places(consul), step=0.0, what="one is registered")
            engine.kill(*ids)
            wait_until(lambda: not places(consul), timeout=2.0, what="none is registered")
        wait_until(lambda: node.status()["registrator"]["containers"] == 0, what="all ends are noticed")
        wait_for_places(consul, {})


def test_one_that_cannot_be_read_costs_no_other_and_stays_as_it_was(
    engine: FakeEngine, consul: Consul, node: EdgeNode
) -> None:
    odd, even = engine.start("odd", "even", port=PORT)
    both = {f"{HOST}:odd:80": ("image", "127.0.0.1", PORT), f"{HOST}:even:80": ("image", "127.0.0.1", PORT + 1)}
    wait_for_places(consul, both)
    engine.inspections[odd] = web.HTTPInternalServerError(text="out of order")
    engine.inspections["f" * 64] = b"{}"
    problems = wait_until(lambda: node.status()["problems"], what="the problem is told")
    assert [(one["subject"], one["reason"]) for one in problems] == [(odd[:12], "HTTP 500: out of order")]
    assert places(consul) == both
    engine.kill(even)
    wait_for_places(consul, {f"{HOST}:odd:80": both[f"{HOST}:odd:80"]})
    del engine.inspections[odd]
    wait_until(lambda: not node.status()["problems"], what="the problem is over")
    engine.kill(odd)
    wait_for_places(consul, {})


@pytest.mark.parametrize("line", [b"", b"nonsense\n"])
def test_a_stream_of_events_that_ends_is_opened_anew(
    engine: FakeEngine, consul: Consul, node: EdgeNode, line: bytes
) -> None:
    (one,) = engine.start("one", port=PORT)
    wait_for_places(consul, {f"{HOST}:one:80": ("image", "127.0.0.1", PORT)})
    engine.send(line)
    wait_until(lambda: not engine.listeners(), what="the stream has ended")
    engine.kill(one)
    engine.start("two", port=PORT + 1)
    wait_for_places(consul, {f"{HOST}:two:80": ("image", "127.0.0.1", PORT + 1)})
    wait_until(engine.listeners, what="events are followed")
    assert node.ready()
