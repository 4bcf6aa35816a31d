"""A drain under the hands of clients that keep their connections: nobody's request is lost by it."""

from __future__ import annotations

import asyncio
import random
from ipaddress import ip_network
from typing import Any

import pytest

from lb.proxy.context import patience
from tests.lb.wire.hellos import real_hello
from tests.support.edge import Client, Edge, Service, chunked, edge, eventually, get, put, reply, scenario, web
from tests.support.process import free_port
from tests.support.scripted import OK, Connection, Instance, replying

HELLO = real_hello("web.test")
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
TRUSTING: dict[str, Any] = {"networks": (ip_network("127.0.0.0/8"),)}


async def echo(connection: Connection) -> None:
    """Say back what comes."""
    while part := await connection.some():
        await connection.send(part)


async def varied(connection: Connection) -> None:
    """Answer after a while, at times much, at times in parts."""
    choice = random.Random(connection.number)
    while True:
        await connection.request()
        body = b"x" * choice.choice((2, 2000, 200_000, 1_000_000))
        answer = reply(body)
        await asyncio.sleep(choice.choice((0, 0, 0.005)))
        cut = choice.randrange(len(answer))
        await connection.send(answer[:cut])
        await asyncio.sleep(choice.choice((0, 0.002)))
        await connection.send(answer[cut:])


async def _ask_until_told(client: Client, choice: random.Random) -> int:
    """Ask and ask, with pauses, until a reply says that it is the last; returns how many there were."""
    count = 0
    while True:
        request = choice.choice((get(), get("/long?" + "y" * 200), put(b"z" * 3000), get("/", "Cookie: a=b")))
        answer = await client.ask(request)
        assert answer.status == 200
        count += 1
        if answer.field(b"connection") == b"close":
            assert await client.rest() == b""
            return count
        await asyncio.sleep(choice.choice((0, 0, 0.001, 0.01, 0.1, 0.3)))


@pytest.mark.parametrize("seed", range(20))
@scenario
async def test_no_request_is_lost_by_a_drain(seed: int) -> None:
    choice = random.Random(seed)
    async with web(varied, varied, replying(OK)) as (edge_, _):
        clients = [await edge_.client() for _ in range(24)]
        asking = [
            asyncio.create_task(_ask_until_told(client, random.Random((seed << 8) + number)))
            for number, client in enumerate(clients)
        ]
        await asyncio.sleep(choice.uniform(0.05, 0.4))
        await edge_.plane.drain(5)
        assert all(task.done() for task in asking)  # it went on for as long as it was needed, and no longer
        counts = await asyncio.gather(*asking)
        assert sum(counts) > 48
        assert set(edge_.http_stats().codes) == {200}
        assert edge_.http_stats().codes[200] == sum(counts)


@scenario
async def test_a_client_that_asks_again_soon_is_answered_and_told_that_it_was_the_last() -> None:
    async with web() as (edge_, _):
        client, silent = await edge_.client(), await edge_.client()
        assert (await client.ask(get())).field(b"connection") is None
        draining = asyncio.create_task(edge_.plane.drain(5))
        await asyncio.sleep(1)
        for one in (client, silent):
            answer = await one.ask(get())
            assert (answer.status, answer.field(b"connection")) == (200, b"close")
            assert await one.rest() == b""
        await asyncio.wait_for(draining, 0.5)


@scenario
async def test_who_is_silent_for_long_is_closed_at_once_and_who_is_not_a_little_later() -> None:
    loop = asyncio.get_running_loop()
    async with web() as (edge_, _):
        old, fresh = await edge_.client(), await edge_.client()
        await old.ask(get())
        await asyncio.sleep(0.6)
        await fresh.ask(get())
        start = loop.time()
        draining = asyncio.create_task(edge_.plane.drain(1))  # half of it is how long a client may be silent
        assert await old.rest() == b""
        assert loop.time() - start < 0.35
        assert await fresh.rest() == b""
        assert 0.4 < loop.time() - start < 0.9
        await draining
        assert loop.time() - start < 1


@pytest.mark.parametrize(("grace", "most"), [(30, 2.0), (3, 1.5), (0, 0.0)])
def test_patience_is_short_beside_the_time_to_drain(grace: float, most: float) -> None:
    assert patience(grace) == most


@scenario
async def test_with_nothing_in_flight_a_drain_takes_no_time() -> None:
    loop = asyncio.get_running_loop()
    port = free_port()
    async with edge(Service("web", [Instance()]), Service(f"front-{port}", [Instance(echo)], tags=("tcp",))) as edge_:
        assert (await edge_.ask(get())).status == 200
        await eventually(lambda: not edge_.listener_stats.active, "the client has left")
        start = loop.time()
        await edge_.plane.drain(30)
        assert loop.time() - start < 0.3


_DATE = "Date: Mon, 23 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    "whole",
    [
        reply(b"x" * 1_000_000, _DATE),
        reply(b"x" * 1_000_000),
        reply(b"x" * 2000, _DATE),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * 900, b"y" * 900),
    ],
    ids=["long, as before", "long", "short", "chunked"],
)
@scenario
async def test_a_reply_that_began_before_the_drain_is_followed_by_one_that_tells(whole: bytes) -> None:
    proceed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(whole)
        await connection.request()
        await connection.send(whole[:1000])
        await proceed.wait()
        await connection.send(whole[1000:])
        await connection.request()
        await connection.send(OK)

    async with web(script) as (edge_, _):
        client = await edge_.client()
        first = await client.ask(get())
        await client.send(get())
        head = await client.until(b"\r\n\r\n")
        draining = asyncio.create_task(edge_.plane.drain(5))
        await asyncio.sleep(0.05)
        proceed.set()
        # It was not told, and so it may ask again.
        assert b"connection" not in head.lower()
        assert await client.body(head) == first.body
        answer = await client.ask(get())
        assert (answer.body, answer.field(b"connection")) == (b"ok", b"close")
        assert await client.rest() == b""
        await draining


@pytest.mark.parametrize("kind", ["http", "tcp", "tls"])
@scenario
async def test_beginnings_are_treated_alike_by_all_listeners(kind: str) -> None:
    """A connection without its PROXY header yet: whole soon after, it is served; never begun, it is closed in time."""
    port = free_port()
    service = Service(f"web-{port}", [Instance(echo if kind != "http" else None)], tags=("http", "tcp", "tls"))
    async with edge(service, proxy_protocol=TRUSTING) as edge_:
        listener = {"http": edge_.port, "tcp": port, "tls": edge_.tls_port}[kind]
        late, split, silent = [await edge_.client(listener) for _ in range(3)]
        await split.send(PROXY[:10])
        await _accepted(edge_, kind, 3)
        draining = asyncio.create_task(edge_.plane.drain(2))
        await asyncio.sleep(0.3)
        words = {"http": get(host=f"web-{port}.test"), "tcp": b"hello", "tls": real_hello(f"web-{port}.test")}[kind]
        await late.send(PROXY + words)
        assert await late.exactly(5) == (b"HTTP/" if kind == "http" else words[:5])
        assert await silent.left() == b""
        assert edge_.turned_away(kind) == {"draining": 1}
        await split.send(PROXY[10:] + words)
        assert await split.exactly(5) == (b"HTTP/" if kind == "http" else words[:5])
        await late.close()
        await split.close()
        await draining


async def _accepted(edge_: Edge, kind: str, count: int) -> None:
    def accepted() -> int:
        return sum(stats.active for name, stats in edge_.stats.listeners() if name.startswith(f"{kind} "))

    await eventually(lambda: accepted() == count, "they are accepted")


@scenario
async def test_a_hello_that_is_on_its_way_is_waited_for() -> None:
    async with edge(Service("web", [Instance(echo)], tags=("tls",))) as edge_:
        late, silent = await edge_.client(edge_.tls_port), await edge_.client(edge_.tls_port)
        await _accepted(edge_, "tls", 2)
        draining = asyncio.create_task(edge_.plane.drain(2))
        await asyncio.sleep(0.3)
        await late.send(HELLO)
        assert await late.exactly(len(HELLO)) == HELLO
        assert await silent.left() == b""
        assert edge_.turned_away("tls") == {"draining": 1}
        await late.send(b"still here")
        assert await late.exactly(10) == b"still here"
        await late.close()
        await draining


@scenario
async def test_a_tunnel_lasts_for_the_time_to_drain_and_is_reset_then() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        await echo(connection)

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get("/", "Connection: upgrade", "Upgrade: x"))
        assert (await client.reply()).status == 101
        draining = asyncio.create_task(edge_.plane.drain(0.6))
        await asyncio.sleep(0.4)
        await client.send(b"more")
        assert await client.exactly(4) == b"more"
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await draining
        await eventually(lambda: not instance.open, "the instance has noticed")


@scenario
async def test_a_reply_that_is_cut_by_the_end_of_the_drain_does_not_look_whole() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nthe first half")
        await connection.rest()

    async with web(script) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version="1.0"))
        assert (await client.until(b"half")).endswith(b"the first half")
        draining = asyncio.create_task(edge_.plane.drain(0.1))
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await draining
