"""Bad requests get a clear status and never reach an instance."""

from __future__ import annotations

import pytest

from tests.support.edge import eventually, get, put, scenario, web
from tests.support.scripted import closing_asked, replying

HTTP = {"max_body": 1000, "max_header": 4096, "max_header_line": 1024, "max_headers": 20}
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, b"GET /\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: web.test\n\n"),
        (400, b"GET / HTTP/1.1\r\nHost: web.test\r\nX: a\rb\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: web.test\r\nX: a\0b\r\n\r\n"),
        (400, get("/", "X : 1")),
        (400, get("/", "X: 1", " folded")),
        (400, get(host="")),
        (400, get("/", "Host: web.test")),
        (400, get(host="web.test/x")),
        (400, get("/../x")),
        (400, get("/%zz")),
        (400, get("/", "Content-Length: 1", "Content-Length: 1") + b"a"),
        (400, get("/", "Content-Length: +1") + b"a"),
        (400, get("/", "Content-Length: 3", CHUNKED) + b"0\r\n\r\n"),
        (400, get("/", CHUNKED, version="1.0") + b"0\r\n\r\n"),
        (400, get("/", CHUNKED) + b"xyz\r\n"),
        (400, get("/", CHUNKED) + b"1\nab\r\n0\r\n\r\n"),
        (400, get("/", *(f"X-{n}: 1" for n in range(21)))),
        (404, get(host="nobody.test")),
        (404, put(b"abc").replace(b"web.test", b"nobody.test")),
        (405, get(method="TRACE")),
        (405, b"CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n"),
        (413, put(b"x" * 1001)),
        (413, get("/", "Content-Length: 1001", "Expect: 100-continue")),
        (413, get("/", CHUNKED) + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        (414, get("/" + "x" * 1100)),
        (414, b"GET /" + b"x" * 1100),
        (417, get("/", "Expect: 200-maybe")),
        (431, get("/", "X: " + "x" * 1100)),
        (431, get("/", *(f"X-{n}: " + "x" * 900 for n in range(5)))),
        (431, get("/", *(f"X-{n}: " + "x" * 900 for n in range(5)))[:-4]),
        (501, get("/", "Transfer-Encoding: gzip, chunked")),
        (505, b"GET / HTTP/2.0\r\nHost: web.test\r\n\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
)
@scenario
async def test_bad_request_is_refused(status: int, request_: bytes) -> None:
    async with web(http=HTTP) as (edge_, [instance]):
        client = await edge_.client()
        answer = await client.ask(request_ + get("/smuggled") if b"\r\n\r\n" in request_ else request_)
        assert answer.status == status
        assert answer.field(b"content-type") == b"text/plain; charset=utf-8"
        assert answer.body.startswith(b"%d " % status)
        assert answer.body.count(b"\n") == 1
        if answer.field(b"connection") == b"close":
            client.eof()
            assert await client.rest() == b""
            assert not instance.connections
        else:
            assert status == 404
            assert (await client.reply()).body == b"ok"
        assert sum(edge_.listener_stats.rejected.values()) == 1


@scenario
async def test_bad_request_behind_good_ones_is_refused_after_their_replies() -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get("/1") + put(b"abc") + b"GET / HTTP/9.9\r\n\r\n" + get("/2"))
        assert [(await client.reply()).status for _ in range(3)] == [200, 200, 505]
        client.eof()
        assert await client.rest() == b""
        assert instance.requests[0].count(b"HTTP/1.1\r\n") == 2


@scenario
async def test_bad_chunk_late_in_a_body_is_400_and_the_instance_is_hung_up_on() -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get("/", CHUNKED, method="POST") + b"3\r\nabc\r\n", b"zz\r\n")
        assert (await client.reply()).status == 400
        assert b"zz" not in instance.requests[0]
        assert edge_.http_stats().codes == {400: 1}


@scenario
async def test_chunked_body_over_the_limit_is_413_while_it_streams() -> None:
    async with web(http=HTTP) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/", CHUNKED, method="POST") + b"3e8\r\n" + b"x" * 1000 + b"\r\n", b"1\r\nx\r\n")
        assert (await client.reply()).status == 413


@scenario
async def test_no_limit_on_bodies_when_it_is_0() -> None:
    async with web(http={"max_body": 0}) as (edge_, _):
        assert (await edge_.ask(put(b"x" * 3_000_000))).status == 200


@scenario
async def test_client_that_sends_all_before_it_reads_still_gets_its_413() -> None:
    async with web(http=HTTP) as (edge_, _):
        client = await edge_.client()
        await client.send(put(b"x" * 8_000_000))
        assert (await client.reply()).status == 413
        client.eof()
        assert await client.rest() == b""


@scenario
async def test_head_gets_no_page_but_its_length() -> None:
    async with web(closing_asked) as (edge_, _):
        client = await edge_.client()
        answer = await client.ask(get(method="HEAD"))
        assert answer.status == 502
        assert int(answer.field(b"content-length") or 0) > 0
        assert (await client.ask(get(method="HEAD", host="nobody.test"))).status == 404
        assert (await client.ask(get(host="nobody.test"))).body.startswith(b"404 Not Found: ")


@scenario
async def test_page_says_nothing_that_the_stranger_sent() -> None:
    async with web() as (edge_, _):
        answer = await edge_.ask(get("/<script>", host="evil.test"))
        assert b"script" not in answer.body
        assert b"evil" not in answer.body


@scenario
async def test_request_split_at_every_byte_is_the_same_request() -> None:
    request = get("/a", "X: 1", CHUNKED, method="PUT") + b"3\r\nabc\r\n0\r\n\r\n"
    async with web(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (edge_, [instance]):
        client = await edge_.client()
        for place in range(1, len(request)):
            client.writer.write(request[:place])
            await client.writer.drain()
            await client.send(request[place:])
            assert (await client.reply()).status == 200
        (received,) = instance.requests
        whole = received[: received.index(b"0\r\n\r\n") + 5]
        assert received == whole * (len(request) - 1)


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", put(b"x" * 5000), get(host="nobody.test") * 3])
@scenario
async def test_client_that_is_gone_before_it_is_answered_is_no_error_of_the_loop(request_: bytes) -> None:
    async with web(http=HTTP) as (edge_, _):
        for _ in range(50):
            client = await edge_.client()
            client.writer.write(request_)
            client.reset()
        await eventually(lambda: edge_.listener_stats.accepted == 50, "all are accepted")
    # that the loop had nothing to complain of is checked at the end of every scenario
