"""A plane that goes away, and a catalog that changes, under the hands of clients."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.edge import Service, edge, eventually, get, reply, scenario, web
from tests.support.scripted import OK, Connection, Instance, hanging, replying


@scenario
async def test_draining_closes_idle_clients_and_lets_requests_end() -> None:
    proceed = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await proceed.wait()
            await connection.send(OK)

    async with web(script) as (edge_, [instance]):
        silent, idle, busy = [await edge_.client() for _ in range(3)]
        await idle.ask(get(host="nobody.test"))
        await busy.send(get())
        await eventually(lambda: instance.requests and instance.requests[0], "the request is on its way")
        draining = asyncio.create_task(edge_.drain(5))
        assert await silent.rest() == b""
        assert await idle.rest() == b""
        with pytest.raises(ConnectionError):
            await edge_.client()
        proceed.set()
        answer = await busy.reply()
        assert (answer.body, answer.field(b"connection")) == (b"ok", b"close")
        assert await busy.rest() == b""
        await draining
        assert edge_.idle == 0


@scenario
async def test_request_that_has_begun_when_draining_begins_is_answered() -> None:
    async with web() as (edge_, _):
        client = await edge_.client()
        await client.send(get()[:10])
        await eventually(lambda: edge_.listener_stats.active == 1, "it is accepted")
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(edge_.drain(5))
        await asyncio.sleep(0.05)
        await client.send(get()[10:])
        assert (await client.reply()).body == b"ok"
        assert await client.rest() == b""
        await draining


@scenario
async def test_request_that_lasts_too_long_is_ended_with_the_time_to_drain() -> None:
    async with web(hanging) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get())
        await eventually(lambda: instance.requests, "the request is on its way")
        await edge_.drain(0.1)
        assert await client.left() == b""
        assert edge_.http_stats().codes == {499: 1}


@scenario
async def test_reply_that_is_not_read_yet_is_not_cut_by_a_drain() -> None:
    body = b"x" * 6_000_000
    async with web(replying(reply(body))) as (edge_, _):
        client = await edge_.client(buffer=1024)
        await client.send(get())
        head = await client.until(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        draining = asyncio.create_task(edge_.drain(5))
        await asyncio.sleep(0.1)
        assert await client.body(head) == body
        assert await client.rest() == b""
        await draining


@scenario
async def test_catalog_changes_lose_no_request() -> None:
    instances = [Instance() for _ in range(4)]
    async with edge(Service("web", instances), http={"keepalive_requests": 1_000_000}) as edge_:
        done = False

        async def ask() -> int:
            client = await edge_.client()
            count = 0
            while not done:
                answer = await client.ask(get())
                assert (answer.status, answer.body) == (200, b"ok")
                count += 1
            return count

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for number in range(200):
            edge_.apply(Service("web", [i for place, i in enumerate(instances) if place != number % 5]))
            await asyncio.sleep(0.002)
        done = True
        assert sum(await asyncio.gather(*asking)) > 200
        assert set(edge_.http_stats().codes) == {200}


@scenario
async def test_service_that_leaves_and_comes_back_is_served_again() -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        assert (await client.ask(get())).status == 200
        edge_.apply()
        assert (await client.ask(get())).status == 404
        edge_.apply(Service("web"))
        assert (await client.ask(get())).status == 503
        edge_.apply(Service("web", [instance]))
        assert (await client.ask(get())).status == 200
        assert len(instance.connections) == 2
