"""What passes between a client and its instance, by a TCP port and by a TLS server name: ends, resets, pressure."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from lb.observe.stats import TcpStats
from lb.proxy.relay import Relay
from tests.lb.wire.hellos import real_hello
from tests.support.edge import Client, Edge, Service, edge, eventually, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, Script

Way = Literal["tcp", "tls"]
HELLO = real_hello("web.test")
DATA = random.Random(2).randbytes(32_000_000)
"""More than the kernel takes for two connections."""
MUCH = 1 << 20
"""Octets that one session may hold: what one read brings, and what a transport takes before it says stop, both ways."""

both_ways = pytest.mark.parametrize("way", ["tcp", "tls"])


class Front:
    """A service behind one of the two listeners; TLS clients have said hello, and instances have heard it."""

    def __init__(self, edge_: Edge, way: Way, port: int) -> None:
        self.edge = edge_
        self._way = way
        self._port = port

    async def client(self, **options: Any) -> Client:
        """A client that may speak for itself now."""
        if self._way == "tcp":
            return await self.edge.client(self._port, **options)
        client = await self.edge.client(self.edge.tls_port, **options)
        client.writer.write(HELLO)
        return client

    @property
    def stats(self) -> TcpStats:
        """Its counters."""
        return self.edge.tcp_stats(f"web-{self._port}") if self._way == "tcp" else self.edge.tls_stats("web")

    @property
    def held(self) -> int:
        """Octets that its sessions have taken and not passed on."""
        listeners = self.edge.plane._tcp if self._way == "tcp" else self.edge.plane._tls
        assert listeners is not None
        held = 0
        for relay in listeners._sessions:
            assert isinstance(relay, Relay)
            held += len(relay._early) + relay.client.get_write_buffer_size()
            held += relay.upstream.transport.get_write_buffer_size() if relay.upstream else 0
        return held

    async def results(self, **results: int) -> None:
        """Wait until sessions have ended so."""
        await eventually(lambda: self.stats.results == results, f"{results}, not {self.stats.results}")


@contextlib.asynccontextmanager
async def front(way: Way, script: Script, **settings: Any) -> AsyncIterator[Front]:
    """Run a service with one instance that plays `script`."""

    async def greeted(connection: Connection) -> None:
        if way == "tls":
            await connection.exactly(len(HELLO))
        await script(connection)

    port = free_port()
    name = f"web-{port}" if way == "tcp" else "web"
    async with edge(Service(name, [Instance(greeted)], tags=(way,)), **settings) as edge_:
        yield Front(edge_, way, port)


@both_ways
@scenario
async def test_an_instance_answers_megabytes_to_a_client_that_has_said_all(way: Way) -> None:
    async def script(connection: Connection) -> None:
        assert await connection.rest() == b"all of it, please"
        await connection.send(DATA)

    async with front(way, script) as service:
        client = await service.client()
        await client.send(b"all of it, please")
        client.eof()
        assert await client.rest() == DATA
        await service.results(ok=1)


@both_ways
@scenario
async def test_a_client_sends_megabytes_to_an_instance_that_has_said_all(way: Way) -> None:
    heard = b""

    async def script(connection: Connection) -> None:
        nonlocal heard
        await connection.send(b"go on")
        connection.eof()
        await asyncio.sleep(0.1)
        heard = await connection.rest()

    async with front(way, script) as service:
        client = await service.client()
        assert await client.rest() == b"go on"
        await client.send(DATA)
        await client.close()
        await service.results(ok=1)
        await eventually(lambda: heard == DATA, "it is heard, whole")


@both_ways
@scenario
async def test_a_reset_by_the_instance_reaches_the_client_as_one_behind_what_was_said(way: Way) -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"as I was say")
        await asyncio.sleep(0.1)
        connection.reset()

    async with front(way, script) as service:
        client = await service.client()
        assert await client.exactly(12) == b"as I was say"
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await service.results(reset=1)


@both_ways
@scenario
async def test_a_reset_by_the_client_reaches_the_instance_as_one(way: Way) -> None:
    seen: list[str] = []

    async def script(connection: Connection) -> None:
        await connection.exactly(4)
        try:
            seen.append(repr(await connection.rest()))
        except ConnectionResetError:
            seen.append("reset")

    async with front(way, script) as service:
        client = await service.client()
        await client.send(b"well")
        await eventually(lambda: service.stats.received >= 4, "it passes")
        await asyncio.sleep(0.05)
        client.reset()
        await eventually(lambda: seen, "the instance notices")
        assert seen == ["reset"]
        await service.results(reset=1)


@scenario
async def test_a_reset_after_a_half_close_is_a_reset_still() -> None:
    async def script(connection: Connection) -> None:
        await connection.rest()
        await connection.send(b"half of it")
        await asyncio.sleep(0.05)
        connection.reset()

    async with front("tcp", script) as service:
        client = await service.client()
        client.eof()
        assert await client.exactly(10) == b"half of it"
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await service.results(reset=1)


@scenario
async def test_a_client_that_has_gone_while_it_is_answered_ends_the_instance() -> None:
    ended: list[str] = []

    async def script(connection: Connection) -> None:
        await connection.rest()
        try:
            while True:
                await connection.send(b"x" * 100_000)
        except ConnectionError as error:
            ended.append(type(error).__name__)

    async with front("tcp", script) as service:
        client = await service.client()
        await client.close()
        await eventually(lambda: ended, "the instance notices")
        await service.results(reset=1)


@both_ways
@scenario
async def test_who_does_not_read_costs_little_memory_and_loses_nothing(way: Way) -> None:
    proceed = asyncio.Event()
    heard = bytearray()

    async def script(connection: Connection) -> None:
        telling = asyncio.create_task(connection.send(DATA))
        await proceed.wait()
        while len(heard) < len(DATA):
            heard.extend(await connection.some())
        await telling

    async with front(way, script) as service:
        client = await service.client(buffer=1 << 16)
        telling = asyncio.create_task(client.send(DATA))
        most = 0
        for _ in range(60):
            await asyncio.sleep(0.01)
            most = max(most, service.held)
        assert 0 < most < MUCH
        assert not telling.done()
        moved = service.stats.received + service.stats.sent
        await asyncio.sleep(0.2)
        assert service.stats.received + service.stats.sent == moved  # nothing is taken any more, from either
        proceed.set()
        assert await client.exactly(len(DATA)) == DATA
        await telling
        await eventually(lambda: heard == DATA, "it is heard, whole")
        client.eof()
        assert await client.rest() == b""
        await service.results(ok=1)


@scenario
async def test_an_end_in_order_waits_for_a_client_that_reads_late() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(DATA)

    async with front("tcp", script) as service:
        client = await service.client(buffer=1 << 16)
        client.eof()
        await asyncio.sleep(0.3)
        assert service.held < MUCH
        assert await client.rest() == DATA
        await service.results(ok=1)
