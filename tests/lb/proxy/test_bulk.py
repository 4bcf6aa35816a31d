"""Long bodies, which pass from one connection to the other by a way of their own: to the octet, and to every end."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.support.edge import Edge, eventually, get, put, reply, scenario, web
from tests.support.scripted import Connection, Script, replying

LONG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))  # 3.2 MB, nothing in it repeats
DATE = "Date: Mon, 23 Nov 2026 05:20:40 GMT"
WHOLE = reply(LONG, DATE)
SHORT = reply(b"short", DATE)
UNTOLD = "the rest of the reply is still to come"


def cut_after(octets: int, *before: bytes, end: str = "close") -> Script:
    """Answer with these replies, then with so many octets of the long one, and end the connection."""

    async def script(connection: Connection) -> None:
        for one in before:
            await connection.request()
            await connection.send(one)
        await connection.request()
        await connection.send(WHOLE[:octets])
        if end == "reset":
            connection.reset()

    return script


def held(edge_: Edge) -> int:
    """Octets that are kept for who does not take a long body."""
    assert edge_.plane._http is not None
    return edge_.plane._http._contexts[0].basin.held


@pytest.mark.parametrize("last", ["keep-alive", "close"])
@scenario
async def test_the_same_long_reply_again_and_again_and_then_a_short_one(last: str) -> None:
    async with web(replying(WHOLE, WHOLE, WHOLE, WHOLE, SHORT, WHOLE)) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(4):
            assert (await client.ask(get("/file"))).body == LONG
        assert (await client.ask(get("/file"))).body == b"short"
        answer = await client.ask(get("/file", f"Connection: {last}"))
        assert answer.body == LONG
        assert (answer.field(b"connection") == b"close") is (last == "close")
        if last == "close":
            assert await client.rest() == b""
        assert len(instance.connections) == 1
        stats = edge_.http_stats()
        assert (stats.codes, stats.attempts) == ({200: 6}, {"ok": 6})
        assert stats.sent == 5 * len(LONG) + len(b"short")


@scenario
async def test_long_replies_of_other_lengths_under_one_request() -> None:
    replies = [reply(LONG[:length], DATE) for length in (300_000, 300_000, 140_000, 131_073, 3_000_000, 0, 300_000)]
    async with web(replying(*replies)) as (edge_, _):
        client = await edge_.client()
        for one in replies:
            assert (await client.ask(get("/file"))).body == one.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("size", [1, 20, 60, 200_000])
@scenario
async def test_beginning_of_a_long_reply_may_come_in_any_pieces(size: int) -> None:
    async def in_pieces(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(WHOLE[:size], WHOLE[size : size + 5], WHOLE[size + 5 :])

    async with web(in_pieces) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(4):
            assert (await client.ask(get("/file"))).body == LONG
        assert len(instance.connections) == 1


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("before", [0, 1, 3])
@scenario
async def test_long_reply_that_is_cut_is_cut_for_the_client(before: int, end: str) -> None:
    async with web(cut_after(700_000, *[WHOLE] * before, end=end)) as (edge_, _):
        client = await edge_.client()
        for _ in range(before):
            assert (await client.ask(get("/file"))).body == LONG
        await client.send(get("/file"))
        got = await client.left()
        assert WHOLE.endswith(got.partition(b"\r\n\r\n")[2] + WHOLE[700_000:]) or end == "reset"
        assert len(got) < len(WHOLE)
        await eventually(lambda: edge_.http_stats().active == 0, "the books are closed")
        assert edge_.http_stats().codes == {200: before + 1}


@pytest.mark.parametrize("before", [0, 1, 3])
@scenario
async def test_client_that_reads_slowly_gets_every_octet_and_the_next_reply(before: int) -> None:
    async with web(replying(WHOLE), http={"send_timeout": 5}) as (edge_, [instance]):
        edge_.send_little()
        quick = await edge_.client()
        for _ in range(before):
            assert (await quick.ask(get("/file"))).body == LONG
        client = await edge_.client(buffer=4096)
        await client.send(get("/file"))
        await eventually(lambda: held(edge_) or before == 0, UNTOLD)
        await asyncio.sleep(0.05)
        answer = await client.reply()
        assert answer.body == LONG
        assert (await client.ask(get("/file"))).body == LONG
        await eventually(lambda: held(edge_) == 0, "nothing is kept any more")
        assert instance.open <= 2


@pytest.mark.parametrize("before", [0, 1, 3])
@scenario
async def test_client_that_leaves_in_the_middle_ends_the_instances_connection(before: int) -> None:
    async with web(replying(WHOLE)) as (edge_, [instance]):
        edge_.send_little()
        quick = await edge_.client()
        for _ in range(before):
            assert (await quick.ask(get("/file"))).body == LONG
        client = await edge_.client(buffer=4096)
        await client.send(get("/file"))
        await client.exactly(100_000)
        client.reset()
        await eventually(lambda: edge_.http_stats().codes.get(499) == 1, "the client is seen to leave")
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        assert held(edge_) == 0
        assert (await quick.ask(get("/file"))).body == LONG


@pytest.mark.parametrize("before", [0, 3])
@scenario
async def test_client_that_takes_nothing_is_given_up_in_time(before: int) -> None:
    async with web(replying(WHOLE * 4), http={"send_timeout": 0.3}) as (edge_, _):
        edge_.send_little()
        client = await edge_.client(buffer=4096)
        await client.send(get("/file") * (before + 1))
        await eventually(lambda: edge_.listener_stats.active == 0, "the client is given up")
        assert held(edge_) == 0


@scenario
async def test_instance_that_falls_silent_in_a_long_reply_ends_it_in_time() -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.send(WHOLE)
        await connection.request()
        await connection.send(WHOLE[:600_000])
        await connection.rest()

    async with web(silent, upstream={"read_timeout": 0.3}) as (edge_, _):
        client = await edge_.client()
        assert (await client.ask(get("/file"))).body == LONG
        await client.send(get("/file"))
        assert len(await client.left()) == 600_000
        await eventually(lambda: edge_.http_stats().active == 0, "the books are closed")
        assert edge_.http_stats().attempts == {"ok": 1, "read_timeout": 1}


@scenario
async def test_pipelined_requests_for_long_replies_are_answered_in_order() -> None:
    replies = [reply(b"%d" % number + LONG, DATE) for number in range(5)]
    async with web(replying(*replies)) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/file") * 5)
        for number in range(5):
            assert (await client.reply()).body == b"%d" % number + LONG


@scenario
async def test_long_reply_behind_others_that_are_not_read_yet() -> None:
    large = reply(LONG[:60_000], DATE)
    async with web(replying(large, large, large, WHOLE, large, WHOLE)) as (edge_, _):
        edge_.send_little()
        client = await edge_.client(buffer=4096)
        for _ in range(2):
            await client.send(get("/file") * 3)
            await asyncio.sleep(0.05)
            for _ in range(3):
                answer = await client.reply()
                assert LONG.startswith(answer.body)
                assert len(answer.body) in (60_000, len(LONG))


@scenario
async def test_draining_lets_a_long_reply_end_and_closes_behind_it() -> None:
    async with web(replying(WHOLE)) as (edge_, _):
        edge_.send_little()
        client = await edge_.client(buffer=4096)
        await client.send(get("/file"))
        await client.exactly(50_000)
        draining = asyncio.create_task(edge_.drain(5))
        got = await client.rest()
        await draining
        assert LONG.endswith(got[-1_000_000:])


# Uploads


@pytest.mark.parametrize("first", [10, 100, 70_000, 300_000])
@scenario
async def test_long_body_arrives_to_the_octet_and_the_connection_goes_on(first: int) -> None:
    request = put(LONG)
    async with web(http={"max_body": 0}) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(3):
            await client.send(request[:first], request[first:])
            assert (await client.reply()).body == b"ok"
        assert (await client.ask(get())).body == b"ok"
        got = instance.requests[0].split(b"PUT / ")[1:]
        assert [one.partition(b"\r\n\r\n")[2][: len(LONG)] for one in got] == [LONG] * 3
        assert edge_.http_stats().received == 3 * len(LONG)


@scenario
async def test_request_behind_a_long_body_is_a_request() -> None:
    async with web(http={"max_body": 0}) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(put(LONG, method="POST") + get("/next"))
        assert (await client.reply()).body == b"ok"
        assert (await client.reply()).body == b"ok"
        assert b"GET /next HTTP/1.1" in instance.requests[0]


@pytest.mark.parametrize("status", ["200 OK", "413 Too Large"])
@scenario
async def test_reply_that_comes_before_the_end_of_a_long_body_reaches_the_client(status: str) -> None:
    async def early(connection: Connection) -> None:
        await connection.exactly(1_000_000)
        await connection.send(reply(b"enough", status=status))
        await connection.rest()

    async with web(early, http={"max_body": 0}) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(put(LONG)[:2_000_000])
        answer = await client.reply()
        assert (answer.status, answer.body) == (int(status[:3]), b"enough")
        await client.send(LONG[:200_000])
        assert await client.left() == b""
        await eventually(lambda: instance.open == 0, "the instance is hung up on")


@pytest.mark.parametrize("end", ["close", "reset"])
@scenario
async def test_instance_that_leaves_in_a_long_body_is_502_and_others_are_served(end: str) -> None:
    async def leaving(connection: Connection) -> None:
        await connection.exactly(500_000)
        if end == "reset":
            connection.reset()

    async with web(leaving, http={"max_body": 0}) as (edge_, _):
        client = await edge_.client()
        sending = asyncio.create_task(client.send(put(LONG, method="POST")))
        assert (await client.reply()).status == 502
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert held(edge_) == 0


@scenario
async def test_client_that_stops_in_a_long_body_is_408_and_one_that_leaves_is_499() -> None:
    async with web(http={"max_body": 0, "body_timeout": 0.3}) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(put(LONG)[:900_000])
        assert (await client.reply()).status == 408
        other = await edge_.client()
        await other.send(put(LONG)[:900_000])
        await eventually(lambda: len(instance.connections) == 2, "it is sent on")
        other.reset()
        await eventually(lambda: edge_.http_stats().codes == {408: 1, 499: 1}, "both are counted")


@scenario
async def test_instance_that_takes_nothing_of_a_long_body_is_504() -> None:
    async def deaf(connection: Connection) -> None:
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    body = LONG * 6
    async with web(deaf, http={"max_body": 0}, upstream={"send_timeout": 0.5}) as (edge_, _):
        client = await edge_.client()
        sending = asyncio.create_task(client.send(put(body, method="POST")))
        assert (await client.reply()).status == 504
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await eventually(lambda: held(edge_) == 0, "nothing is kept any more")
