"""What the proxy counts in place reaches a report, whichever way a request or a session goes."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from lb.observe.stats import Stats
from tests.support import edge as support
from tests.support.edge import Edge, Service, edge, eventually, get, put, reply, scenario, web
from tests.support.process import free_port
from tests.support.scripted import OK, Connection, Instance, closing, replying

DATE = "Date: Mon, 23 Nov 2026 04:43:59 GMT"
QUIET = "nothing more is told"


class Reported:
    """The totals of one plane that reports, asked anew each time."""

    def __init__(self, plane: Edge) -> None:
        self._plane = plane
        self._totals = Stats()

    def totals(self) -> Stats:
        changes = self._plane.stats.changes()
        if changes is not None:
            self._totals.add(json.loads(json.dumps(changes)), 1)
        return self._totals


@pytest.fixture(autouse=True)
def _reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "Stats", partial(Stats, reporting=True))


@pytest.mark.parametrize("fields", [(), (DATE,)], ids=["parsed", "remembered"])
@scenario
async def test_each_request_is_reported(fields: tuple[str, ...]) -> None:
    """A head with a date is remembered, and such a reply goes the shortest way."""
    async with web(replying(reply(b"ok", *fields))) as (edge_, _):
        reported = Reported(edge_)
        client = await edge_.client()
        for number in range(1, 6):
            assert (await client.ask(get())).body == b"ok"
            counters = reported.totals().http("web")
            assert (counters.codes, counters.attempts) == ({200: number}, {"ok": number})
            assert (counters.active, sum(counters.buckets), counters.sent) == (0, number, 2 * number)
        assert (await client.ask(put(b"abc"))).body == b"ok"
        assert (await client.ask(get(host="nobody.test"))).status == 404
        totals = reported.totals()
        assert totals.http("web").received == 3
        listener = totals.listener(f"http {edge_.addresses['http']}")
        assert (listener.accepted, listener.active, listener.up, listener.rejected) == (1, 1, True, {404: 1})
        await client.close()
        await eventually(lambda: reported.totals() and not listener.active, "the end of the connection is told")
        assert edge_.stats.changes() is None, QUIET


@pytest.mark.parametrize("fields", [(), (DATE,)], ids=["parsed", "remembered"])
@scenario
async def test_a_request_is_reported_while_it_waits(fields: tuple[str, ...]) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        for number in range(4):
            await connection.request()
            if number == 3:
                await go_on.wait()
            await connection.send(reply(b"ok", *fields))
        await connection.rest()

    async with web(slow) as (edge_, _):
        reported = Reported(edge_)
        client = await edge_.client()
        for _ in range(3):
            await client.ask(get())
        counters = reported.totals().http("web")
        assert counters.active == 0
        await client.send(get())
        await eventually(lambda: reported.totals() and counters.active == 1, "the request is told")
        go_on.set()
        await client.reply()
        reported.totals()
        assert counters.active == 0


@scenario
async def test_retries_and_failures_are_reported() -> None:
    async with web(closing, replying(OK)) as (edge_, _):
        reported = Reported(edge_)
        for _ in range(3):
            assert (await edge_.ask(get())).body == b"ok"
        counters = reported.totals().http("web")
        assert counters.codes == {200: 3}
        assert counters.attempts["ok"] == 3
        assert counters.retries == sum(counters.attempts.values()) - 3 > 0


async def _echo(connection: Connection) -> None:
    while part := await connection.some():
        await connection.send(part)


@scenario
async def test_the_bytes_of_a_session_are_reported_while_it_lasts() -> None:
    port = free_port()
    service = Service(f"echo-{port}", [Instance(_echo)], tags=("tcp",))
    async with edge(service) as edge_:
        reported = Reported(edge_)
        client = await edge_.client(port)
        for number in range(1, 4):
            await client.send(b"12345")
            assert await client.exactly(5) == b"12345"
            counters = reported.totals().tcp(service.name)
            assert (counters.active, counters.received, counters.sent) == (1, 5 * number, 5 * number)
            assert edge_.stats.changes() is None, QUIET
        client.eof()
        await client.rest()
        await eventually(lambda: reported.totals() and counters.results == {"ok": 1}, "the end of the session is told")
        assert counters.active == 0


@scenario
async def test_a_connection_that_begins_wrong_is_reported() -> None:
    async with edge() as edge_:
        reported = Reported(edge_)
        client = await edge_.client(edge_.tls_port)
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        await client.left()
        listener = reported.totals().listener(f"tls {edge_.addresses['tls']}")
        await eventually(lambda: reported.totals() and not listener.active, "the end of the connection is told")
        assert (listener.accepted, listener.turned_away) == (1, {"not_tls": 1})
