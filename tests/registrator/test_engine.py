"""`Engine` on a real Docker daemon and on the tests' stand-in alike; what no daemon does, on the stand-in alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web

from lb.errors import EngineError, InspectError, SettingsError
from registrator import docker as module
from registrator.docker import Engine
from registrator.events import Event, EventKind
from tests.support.docker import IMAGE, Docker
from tests.support.engine import KILLED, FakeEngine
from tests.support.process import wait_until
from tests.support.registrator import published

NOBODY = "0" * 64


class Stage(Protocol):
    """An engine on which containers can be started and killed."""

    host: str

    def start(self, name: str) -> list[str]:
        """Start a container that publishes port 80; return its id."""

    def kill(self, container: str) -> None:
        """Kill it."""


class RealStage:
    """A real daemon."""

    def __init__(self, docker: Docker) -> None:
        self.host = docker.host
        self._docker = docker

    def start(self, name: str) -> list[str]:
        options = (f"--name={name}", "--env=COLOUR=blue", *published("80"))
        return self._docker.call("run", "--detach", *options, IMAGE, "sleep", "300").split()

    def kill(self, container: str) -> None:
        self._docker.call("kill", container)


class FakeStage:
    """The stand-in."""

    def __init__(self, engine: FakeEngine) -> None:
        self.host = engine.host
        self._engine = engine

    def start(self, name: str) -> list[str]:
        return self._engine.start(name, environment=("COLOUR=blue",))

    def kill(self, container: str) -> None:
        self._engine.kill(container)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path).running() as engine:
        yield engine


@pytest.fixture(params=["real", "fake"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield FakeStage(request.getfixturevalue("fake"))
        return
    docker: Docker = request.getfixturevalue("docker")
    yield RealStage(docker)
    docker.remove_containers()


def with_engine(host: str, test: Callable[[Engine], Awaitable[None]]) -> None:
    """Run a test with an engine of ours."""

    async def run() -> None:
        engine = Engine(host)
        try:
            async with asyncio.timeout(30):
                await test(engine)
        finally:
            await engine.close()

    asyncio.run(run())


async def told(events: AsyncGenerator[Event, None], last: EventKind) -> list[Event]:
    """Return events up to one of that kind."""
    found = [await anext(events)]
    while found[-1].kind != last:
        found.append(await anext(events))
    return found


def test_a_container_is_listed_and_inspected(stage: Stage) -> None:
    async def test(engine: Engine) -> None:
        (identifier,) = stage.start("web")
        assert await engine.running() == [identifier]
        assert await engine.ended() == []
        container = await engine.inspect(identifier)
        assert container is not None
        assert (container.id, container.name, container.running) == (identifier, "web", True)
        assert container.environment["COLOUR"] == "blue"
        assert [(port.number, port.protocol) for port in container.ports] == [(80, "tcp")]
        assert [place.host_ip for place in container.ports[0].published] == ["127.0.0.1"]
        assert list(container.networks) == ["bridge"]
        stage.kill(identifier)
        assert await engine.running() == []
        assert await engine.ended() == [identifier]
        container = await engine.inspect(identifier)
        assert container is not None
        assert (container.running, container.exit_code) == (False, KILLED)

    with_engine(stage.host, test)


def test_a_container_that_is_not_there_is_none(stage: Stage) -> None:
    async def test(engine: Engine) -> None:
        assert await engine.inspect(NOBODY) is None

    with_engine(stage.host, test)


def test_events_are_told_from_a_moment_on_old_ones_first(stage: Stage) -> None:
    async def test(engine: Engine) -> None:
        before = await engine.time()
        (one,) = stage.start("one")
        async with contextlib.aclosing(engine.events(before)) as events:
            connected, started = await told(events, "start")
            stage.kill(one)
            *_, died = await told(events, "die")
        assert [event.kind for event in (connected, started, died)] == ["connect", "start", "die"]
        assert {event.container for event in (connected, started, died)} == {one}
        assert died.exit_code == KILLED
        assert before <= started.time < died.time <= await engine.time()
        async with contextlib.aclosing(engine.events(started.time + 1)) as events:
            assert died in await told(events, "die")

    with_engine(stage.host, test)


# What no daemon does


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"{", "not an answer of Docker's"),
        (b"[]", "not an answer of Docker's"),
        (b"[" * 100_000, "not an answer of Docker's"),
        (b"{}", "Id is missing"),
        (web.HTTPInternalServerError(text="out of order"), "HTTP 500: out of order"),
    ],
)
def test_a_bad_answer_about_a_container_concerns_that_container(
    fake: FakeEngine, answer: bytes | web.HTTPException, reason: str
) -> None:
    async def test(engine: Engine) -> None:
        bad, good = fake.start("bad", "good")
        fake.inspections[bad] = answer
        with pytest.raises(InspectError, match=reason):
            await engine.inspect(bad)
        assert await engine.inspect(good) is not None

    with_engine(fake.host, test)


def test_an_answer_is_not_read_past_its_limit(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 10_000)

    async def test(engine: Engine) -> None:
        (bad,) = fake.start("bad")
        fake.inspections[bad] = b" " * 10_001
        with pytest.raises(InspectError, match="more than 10000 octets"):
            await engine.inspect(bad)

    with_engine(fake.host, test)


@pytest.mark.parametrize("identifier", ["", "../version", "a/b", "a?b", "-a", "a" * 300])
def test_what_is_no_id_is_not_asked_for(fake: FakeEngine, identifier: str) -> None:
    async def test(engine: Engine) -> None:
        with pytest.raises(InspectError, match="no container's id"):
            await engine.inspect(identifier)
        assert fake.asked == []

    with_engine(fake.host, test)


@pytest.mark.parametrize("line", [b"nonsense\n", b"1\n", b"[" * 100_000 + b"\n", b" " * (2 * module.LINE + 1) + b"\n"])
def test_a_line_that_is_none_ends_the_events_with_an_error(fake: FakeEngine, line: bytes) -> None:
    async def test(engine: Engine) -> None:
        async with contextlib.aclosing(engine.events(0)) as events:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.to_thread(wait_until, fake.listeners, what="the stream is open")
            fake.send(line)
            with pytest.raises(EngineError, match="not an answer of Docker's"):
                await waiting

    with_engine(fake.host, test)


def test_events_that_mean_nothing_are_passed_over(fake: FakeEngine) -> None:
    async def test(engine: Engine) -> None:
        async with contextlib.aclosing(engine.events(0)) as events:
            waiting = asyncio.ensure_future(told(events, "start"))
            await asyncio.to_thread(wait_until, fake.listeners, what="the stream is open")
            for line in (b"{}\n", b'{"Type": "container", "Action": "start", "Actor": {"ID": 7}}\n'):
                fake.send(line)
            (identifier,) = fake.start("web")
            assert {event.container for event in await waiting} == {identifier}

    with_engine(fake.host, test)


def test_events_end_with_the_engine(fake: FakeEngine) -> None:
    async def test(engine: Engine) -> None:
        async with contextlib.aclosing(engine.events(0)) as events:
            waiting = asyncio.ensure_future(anext(events, None))
            await asyncio.to_thread(wait_until, fake.listeners, what="the stream is open")
            fake.end_streams()
            assert await waiting is None
        await asyncio.to_thread(wait_until, lambda: not fake.listeners(), what="nobody listens")

    with_engine(fake.host, test)


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def test(engine: Engine) -> None:
        for call in (engine.running(), engine.time(), engine.inspect(NOBODY), anext(engine.events(0))):
            with pytest.raises(EngineError, match=f"unix://{tmp_path}/none.sock: "):
                await call

    with_engine(f"unix://{tmp_path}/none.sock", test)


@pytest.mark.parametrize(
    "address", ["", "unix://", "unix://relative", "tcp://", "tcp://host", "tcp://h:p", "http://h:1", "ssh://h"]
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"is neither unix:///path nor tcp://host:port"):
        module.check_address(address)
