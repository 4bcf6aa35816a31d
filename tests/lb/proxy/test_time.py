"""Everything that may take too long ends on time, and says so."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.edge import eventually, get, put, reply, scenario, web
from tests.support.scripted import OK, Connection, hanging, replying

SOON = 0.2


class Since:
    """Tells how long something took."""

    def __init__(self) -> None:
        self._start = asyncio.get_running_loop().time()

    def is_about(self, seconds: float) -> bool:
        """Never early, and no more than a little late."""
        return seconds <= asyncio.get_running_loop().time() - self._start < seconds + 0.5


@scenario
async def test_client_that_says_nothing_is_closed() -> None:
    async with web(http={"header_timeout": SOON}) as (edge_, _):
        since = Since()
        client = await edge_.client()
        assert await client.rest() == b""
        assert since.is_about(SOON)


@pytest.mark.parametrize("first", [b"", get()], ids=["first request", "second request"])
@scenario
async def test_slow_head_is_408_however_it_trickles(first: bytes) -> None:
    async with web(http={"header_timeout": SOON}) as (edge_, [instance]):
        client = await edge_.client()
        if first:
            assert (await client.ask(first)).status == 200
        since = Since()
        answer = asyncio.create_task(client.reply())
        request = get("/slow")
        for place in range(len(request)):
            if answer.done():
                break
            client.writer.write(request[place : place + 1])
            await asyncio.sleep(0.03)
        assert (await answer).status == 408
        assert since.is_about(SOON)
        assert not any(b"/slow" in request for request in instance.requests)


@scenario
async def test_slow_body_is_408_and_the_instance_is_hung_up_on() -> None:
    async with web(hanging, http={"body_timeout": SOON}) as (edge_, [instance]):
        client = await edge_.client()
        since = Since()
        await client.send(get("/", "Content-Length: 10", method="POST") + b"hello")
        assert (await client.reply()).status == 408
        assert since.is_about(SOON)
        await eventually(lambda: instance.open == 0, "the instance is hung up on")


@scenario
async def test_body_that_keeps_coming_is_not_cut() -> None:
    async with web(http={"body_timeout": SOON}) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/", "Content-Length: 6", method="POST"))
        for _ in range(6):
            await asyncio.sleep(SOON / 2)
            await client.send(b"x")
        assert (await client.reply()).status == 200


@scenario
async def test_silent_instance_is_504() -> None:
    async with web(hanging, upstream={"read_timeout": SOON}) as (edge_, [instance]):
        since = Since()
        assert (await edge_.ask(get())).status == 504
        assert since.is_about(SOON)
        assert edge_.http_stats().attempts == {"read_timeout": 1}
        await eventually(lambda: instance.open == 0, "the instance is hung up on")


@scenario
async def test_instance_that_stops_in_mid_reply_is_cut_in_time() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(reply(b"hello world")[:-6])
        await connection.rest()

    async with web(script, upstream={"read_timeout": SOON}) as (edge_, _):
        client = await edge_.client()
        since = Since()
        await client.send(get())
        assert (await client.left()).endswith(b"hello")
        assert since.is_about(SOON)


@scenario
async def test_reply_that_keeps_coming_is_not_cut() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        whole = reply(b"hello")
        await connection.send(whole[:-5])
        for place in range(5):
            await asyncio.sleep(SOON / 2)
            await connection.send(whole[len(whole) - 5 + place :][:1])
        await connection.rest()

    async with web(script, upstream={"read_timeout": SOON}) as (edge_, _):
        assert (await edge_.ask(get())).body == b"hello"


@scenario
async def test_instance_that_does_not_take_the_body_is_504() -> None:
    async def script(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    async with web(script, upstream={"send_timeout": SOON}, http={"max_body": 0}) as (edge_, _):
        client = await edge_.client()
        sending = asyncio.create_task(client.send(put(b"x" * 20_000_000, method="POST")))
        assert (await client.reply()).status == 504
        assert edge_.http_stats().attempts == {"send_timeout": 1}
        client.reset()
        await asyncio.gather(sending, return_exceptions=True)


@scenario
async def test_client_that_does_not_read_is_cut_in_time() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(reply(b"x" * 50_000_000))

    async with web(script, http={"send_timeout": SOON}) as (edge_, [instance]):
        client = await edge_.client(buffer=1024)
        await client.send(get())
        await eventually(lambda: edge_.http_stats().codes, "the request ends")
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert len(await client.left()) < 50_000_000
        assert edge_.http_stats().codes == {200: 1}


@pytest.mark.parametrize("fields", [(), ("Connection: close",)], ids=["kept alive", "closed behind it"])
@scenario
async def test_client_that_reads_slowly_gets_all_of_its_reply(fields: tuple[str, ...]) -> None:
    body = b"x" * 200_000
    async with web(replying(reply(body)), http={"send_timeout": SOON, "keepalive_timeout": SOON}) as (edge_, _):
        edge_.send_little()
        client = await edge_.client(buffer=4096)
        await client.send(get("/", *fields))
        await client.until(b"\r\n\r\n")
        assert await client.slowly(len(body)) == body


@scenario
async def test_reply_that_is_out_and_not_read_is_given_up_in_time() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(reply(b"x" * 6_000_000))
        await connection.rest()

    async with web(script, http={"send_timeout": SOON, "keepalive_timeout": 60}) as (edge_, _):
        client = await edge_.client(buffer=1024)
        await client.send(get("/", "Connection: close"))
        await eventually(lambda: edge_.listener_stats.active == 0, "the connection ends")


@scenario
async def test_lingering_ends_in_time_when_the_client_neither_speaks_nor_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lb.proxy.http_session.LINGER_TIMEOUT", SOON)
    async with web() as (edge_, _):
        client = await edge_.client()
        assert (await client.ask(b"nonsense\r\n\r\n")).status == 400
        await eventually(lambda: edge_.listener_stats.active == 0, "the connection ends")


@scenario
async def test_lingering_ends_in_time_when_the_client_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.proxy.http_session.LINGER_LONGEST", SOON)
    async with web(http={"max_body": 10}) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))

        async def pour() -> None:
            while True:
                await client.send(b"100\r\n" + b"x" * 256 + b"\r\n")
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await pour()


@scenario
async def test_times_are_per_request_on_a_connection_that_is_kept() -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(SOON * 1.5)
            await connection.send(OK)

    async with web(script, http={"header_timeout": SOON, "keepalive_timeout": SOON, "body_timeout": SOON}) as (
        edge_,
        _,
    ):
        client = await edge_.client()
        for _ in range(3):
            assert (await client.ask(get())).status == 200
