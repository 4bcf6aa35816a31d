"""What is asked of another instance, what is not, and what the client is told then (nginx's rules)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from lb.observe.accesslog import AccessLog
from lb.proxy.http_request import KEEP_OCTETS
from lb.settings import AccessLogSettings
from tests.support.edge import Service, chunked, edge, eventually, get, put, reply, scenario, web
from tests.support.scripted import (
    OK,
    Connection,
    Instance,
    Script,
    closing,
    closing_asked,
    hanging,
    refused,
    replying,
    resetting,
    sending,
    stalled,
)

GARBAGE = sending(b"SSH-2.0-OpenSSH_9.2\r\n")
HALF_A_HEAD = sending(b"HTTP/1.1 200 OK\r\nContent-Le")


@pytest.mark.parametrize("bad", [closing, closing_asked, resetting, HALF_A_HEAD, hanging])
@pytest.mark.parametrize("request_", [get(), put(b"x" * 50_000), get(method="DELETE")], ids=["GET", "PUT", "DELETE"])
@scenario
async def test_request_goes_to_the_next_instance(bad: Script, request_: bytes) -> None:
    async with web(bad, replying(OK), upstream={"read_timeout": 0.2}) as (edge_, [_, good]):
        assert (await edge_.ask(request_)).body == b"ok"
        assert good.requests[0].partition(b"\r\n\r\n")[2] == request_.partition(b"\r\n\r\n")[2]
        stats = edge_.http_stats()
        assert stats.codes == {200: 1}
        assert stats.retries == 1


@pytest.mark.parametrize(
    ("bad", "status"),
    [(closing_asked, 502), (resetting, 502), (GARBAGE, 502), (HALF_A_HEAD, 502), (hanging, 504)],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
@scenario
async def test_request_that_may_have_had_effect_is_not_repeated(bad: Script, status: int, method: str) -> None:
    async with web(bad, replying(OK), upstream={"read_timeout": 0.2}) as (edge_, [_, good]):
        answer = await edge_.ask(put(b"abc", method=method))
        assert answer.status == status
        assert not good.connections
        assert edge_.http_stats().retries == 0


@scenario
async def test_refused_connection_is_retried_for_any_method() -> None:
    good = Instance()
    async with edge(Service("web", [refused(), good])) as edge_:
        for method in ("GET", "POST", "PUT"):
            assert (await edge_.ask(put(b"abc", method=method))).body == b"ok"
        assert edge_.http_stats().attempts["ok"] == 3
        assert edge_.http_stats().attempts["connect_refused"] >= 1


@scenario
async def test_access_log_names_the_endpoint_that_was_asked_last(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with web(closing_asked, replying(OK)) as (edge_, [bad, good]):
        assert edge_.plane._http is not None
        log = AccessLog(AccessLogSettings(str(path), "json"))
        edge_.plane._http._contexts[0].access_log = log
        await edge_.ask(put(b"abc", method="POST"))
        await edge_.ask(get())
        log.close()
        first, second = map(json.loads, path.read_text().splitlines())
    assert (first["status"], first["endpoint"]) == (502, f"127.0.0.1:{bad.port}")
    assert (second["status"], second["endpoint"]) == (200, f"127.0.0.1:{good.port}")


@scenario
async def test_failing_instance_is_left_alone_after_its_failures() -> None:
    async with web(closing_asked, replying(OK)) as (edge_, [bad, _]):
        for _ in range(30):
            assert (await edge_.ask(get())).status == 200
        assert len(bad.connections) == 3


@scenario
async def test_all_refused_is_502_and_names_no_address() -> None:
    async with edge(Service("web", [refused(), refused()])) as edge_:
        answer = await edge_.ask(get())
        assert answer.status == 502
        assert answer.body == b"502 Bad Gateway: the instance refused the connection\n"
        assert edge_.http_stats().attempts == {"connect_refused": 2}


@scenario
async def test_host_name_that_cannot_be_looked_up_is_502_at_once() -> None:
    async with edge(Service("web", [refused()], address="a" * 70 + ".example")) as edge_:
        answer = await edge_.ask(get())
        assert (answer.status, answer.body[:16]) == (502, b"502 Bad Gateway:")


@scenario
async def test_all_suspended_is_502_without_asking() -> None:
    async with web(closing_asked, closing_asked, meta=(("lb_max_fails", "1"),)) as (edge_, instances):
        assert b"without a whole reply" in (await edge_.ask(get())).body
        assert b"no instance of service web is usable" in (await edge_.ask(get())).body
        assert [len(instance.connections) for instance in instances] == [1, 1]


@scenario
async def test_instance_that_does_not_accept_in_time_is_504_or_passed_over() -> None:
    good = Instance()
    with stalled() as silent:
        async with edge(Service("web", [silent]), upstream={"connect_timeout": 0.2}) as edge_:
            assert (await edge_.ask(get())).status == 504
            await good.start()
            edge_.apply(Service("web", [silent, good]))
            for _ in range(2):
                assert (await edge_.ask(put(b"abc", method="POST"))).status == 200
            assert edge_.http_stats().attempts == {"connect_timeout": 2, "ok": 2}
    await good.stop()


@scenario
async def test_client_that_leaves_while_an_instance_is_dialed_is_499() -> None:
    with stalled() as silent:
        async with edge(Service("web", [silent])) as edge_:
            client = await edge_.client()
            await client.send(get())
            await eventually(lambda: edge_.http_stats().active == 1, "the request begins")
            client.reset()
            await eventually(lambda: edge_.http_stats().codes == {499: 1}, "it is given up")


@scenario
async def test_stale_connection_is_replaced_and_no_failure() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()  # the next request crosses the close

    async with web(script, meta=(("lb_max_fails", "1"),)) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(5):
            assert (await client.ask(put(b"abc"))).body == b"ok"
        assert len(instance.connections) == 5
        assert edge_.http_stats().attempts == {"ok": 5}
        assert edge_.http_stats().retries == 0


@scenario
async def test_stale_connection_is_502_for_a_post() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        assert (await client.ask(get())).body == b"ok"
        assert (await client.ask(put(b"abc", method="POST"))).status == 502
        assert (await client.ask(get())).body == b"ok"
        assert len(instance.connections) == 2


@scenario
async def test_fresh_connection_that_closes_is_a_failure_even_after_a_stale_one() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        if not connection.number:
            await connection.send(OK)
            await connection.request()

    async with web(script) as (edge_, [instance]):
        client = await edge_.client()
        assert (await client.ask(get())).body == b"ok"
        assert (await client.ask(get())).status == 502
        assert len(instance.connections) == 2


@pytest.mark.parametrize("extra", [-2000, 2000])
@scenario
async def test_body_is_repeated_only_as_far_as_it_is_kept(extra: int) -> None:
    body = b"x" * (KEEP_OCTETS + extra)
    async with web(closing_asked, replying(OK)) as (edge_, [bad, good]):
        answer = await edge_.ask(put(body))
        assert bad.requests[0].endswith(body)
        if extra < 0:
            assert answer.status == 200
            assert good.requests[0].endswith(b"\r\n\r\n" + body)
        else:
            assert answer.status == 502
            assert not good.connections


@scenario
async def test_rest_of_a_body_follows_to_the_next_instance() -> None:
    async def early_close(connection: Connection) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.exactly(3)

    async with web(early_close, replying(OK)) as (edge_, [_, good]):
        client = await edge_.client()
        await client.send(get("/", "Transfer-Encoding: chunked", method="PUT") + b"5\r\nhello\r\n")
        await eventually(lambda: good.connections, "the next instance is asked")
        await client.send(b"5\r\nworld\r\n0\r\n\r\n")
        assert (await client.reply()).body == b"ok"
        assert good.requests[0].endswith(b"\r\n\r\n" + chunked(b"hello", b"world"))


@scenario
async def test_large_body_waits_while_an_instance_is_dialed() -> None:
    body = b"x" * 900_000
    async with edge(Service("web", [refused(), Instance()])) as edge_:
        for _ in range(4):
            assert (await edge_.ask(put(body))).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@scenario
async def test_reply_that_has_begun_is_cut_and_never_repeated(answer: bytes) -> None:
    async with web(sending(answer), replying(OK)) as (edge_, [_, other]):
        client = await edge_.client()
        await client.send(get())
        await client.until(b"\r\n\r\n")
        got = await client.left()
        assert b"hello" in got
        assert b"0\r\n\r\n" not in got
        assert not other.connections
        assert edge_.http_stats().codes == {200: 1}
        assert edge_.http_stats().attempts == {"closed": 1}


@scenario
async def test_bad_chunk_in_a_reply_cuts_it() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with web(sending(head, b"5\r\nhello\r\n", b"zz\r\n" + OK)) as (edge_, _):
        client = await edge_.client()
        await client.send(get())
        await client.until(b"hello\r\n")
        assert await client.left() == b""


@pytest.mark.parametrize("script", ["reset", "chunks"])
@scenario
async def test_cut_reply_to_http_1_0_without_length_is_a_reset(script: str) -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        coding = b"Transfer-Encoding: chunked\r\n" if script == "chunks" else b""
        await connection.send(b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n", b"5\r\nhello\r\n")
        if script == "reset":
            connection.reset()

    async with web(play) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version="1.0"))
        await client.until(b"hello")
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
        b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK,
        b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"x" * 70_000,
        b"<html>hello</html>",
        b"\r\n\r\n",
    ],
)
@scenario
async def test_illegal_head_of_a_reply_is_502_and_none_of_it_is_seen(answer: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)
        await connection.rest()

    async with web(script) as (edge_, _):
        client = await edge_.client()
        got = await client.ask(get())
        assert got.status == 502
        assert got.field(b"server") == b"consul-edge"
        assert edge_.http_stats().attempts == {"bad_head": 1}
        assert edge_.http_stats().codes == {502: 1}


@scenario
async def test_instance_that_speaks_before_it_is_asked_breaks_nothing() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"220 mail ESMTP\r\n")
        await connection.rest()

    async with web(script) as (edge_, _):
        for _ in range(5):
            assert (await edge_.ask(get())).status == 502


@scenario
async def test_endpoint_that_leaves_is_not_asked_again_and_others_take_over() -> None:
    bad, good = Instance(hanging), Instance(replying(reply(b"good")))
    async with edge(Service("web", [bad]), upstream={"read_timeout": 0.4}) as edge_:
        client = await edge_.client()
        await client.send(get())
        await eventually(lambda: bad.requests, "the first is asked")
        await good.start()
        edge_.apply(Service("web", [good]))
        assert (await client.reply()).body == b"good"
        await asyncio.sleep(0)
    await good.stop()
