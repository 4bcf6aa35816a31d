"""What an instance gets of a request, and what a client gets of a response."""

from __future__ import annotations

import pytest

from tests.support.edge import Service, chunked, edge, get, put, reply, scenario, web
from tests.support.scripted import OK, Connection, Instance, field, replying, sending


@scenario
async def test_request_is_sent_on_with_host_unchanged_and_forwarding_fields() -> None:
    async with web() as (edge_, [instance]):
        answer = await edge_.ask(get("/a?b=c", "Accept: x/y", host="WEB.test:8080"))
        assert (answer.status, answer.body) == (200, b"ok")
        assert instance.requests == [
            b"GET /a?b=c HTTP/1.1\r\nHost: WEB.test:8080\r\nAccept: x/y\r\nX-Forwarded-For: 127.0.0.1\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: WEB.test:8080\r\n\r\n"
        ]


@scenario
async def test_forwarded_for_is_appended_and_the_others_are_replaced() -> None:
    async with web() as (edge_, [instance]):
        await edge_.ask(
            get(
                "/",
                "X-Forwarded-For: 10.0.0.1",
                "X-Forwarded-For: 10.0.0.2",
                "X-Forwarded-Proto: gopher",
                "X-Forwarded-Host: elsewhere",
            )
        )
        request = instance.requests[0]
        assert field(request, b"x-forwarded-for") == b"10.0.0.1, 10.0.0.2, 127.0.0.1"
        assert field(request, b"x-forwarded-proto") == b"http"
        assert field(request, b"x-forwarded-host") == b"web.test"


@scenario
async def test_hop_by_hop_fields_end_at_the_proxy_both_ways() -> None:
    answer = reply(b"ok", "Connection: X-Mine", "X-Mine: 1", "Keep-Alive: timeout=5", "X-Other: 2")
    async with web(replying(answer)) as (edge_, [instance]):
        got = await edge_.ask(
            get("/", "Connection: close, x-secret", "X-Secret: 1", "TE: trailers", "Proxy-Connection: x", "X-Kept: 1")
        )
        request = instance.requests[0].lower()
        for name in (b"connection", b"x-secret", b"te", b"proxy-connection"):
            assert field(request, name) is None
        assert field(request, b"x-kept") == b"1"
        assert got.field(b"x-mine") is None
        assert got.field(b"keep-alive") is None
        assert got.field(b"x-other") == b"2"
        assert got.field(b"connection") == b"close"


@scenario
async def test_virtual_hosts_lead_to_their_services() -> None:
    one, two = Instance(replying(reply(b"one"))), Instance(replying(reply(b"two")))
    async with edge(Service("one", [one]), Service("two", [two], meta=(("lb_host", "*.shop.example"),))) as edge_:
        client = await edge_.client()
        assert (await client.ask(get(host="one.test"))).body == b"one"
        assert (await client.ask(get(host="TWO.TEST:80"))).body == b"two"
        assert (await client.ask(get(host="a.shop.example"))).body == b"two"
        assert (await client.ask(get(host="three.test"))).status == 404
        assert (await client.ask(b"GET http://one.test/x HTTP/1.1\r\nHost: two.test\r\n\r\n")).body == b"one"
        assert one.requests[0].count(b"\r\nHost: one.test\r\n") == 2


@scenario
async def test_service_without_passing_instance_is_503() -> None:
    async with edge(Service("web")) as edge_:
        answer = await edge_.ask(get())
        assert answer.status == 503
        assert b"web has no passing instance" in answer.body
        assert edge_.http_stats().codes == {503: 1}


@pytest.mark.parametrize("size", [0, 1, 70_000])
@scenario
async def test_bodies_of_known_length_pass_both_ways(size: int) -> None:
    body = b"x" * size
    async with web(replying(reply(body))) as (edge_, [instance]):
        answer = await edge_.ask(put(body))
        assert answer.body == body
        assert instance.requests[0].partition(b"\r\n\r\n")[2] == body


@scenario
async def test_chunked_bodies_pass_both_ways_as_they_are() -> None:
    sent = b"3;ext=1\r\nabc\r\n1\r\nd\r\n0\r\nX-Trailer: 1\r\n\r\n"
    back = b"2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with web(replying(head + back)) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get("/", "Transfer-Encoding: chunked"), sent[:4], sent[4:9], sent[9:])
        answer = await client.reply()
        assert answer.body == back
        assert instance.requests[0].partition(b"\r\n\r\n")[2] == sent
        assert (await client.ask(get())).body == back


@pytest.mark.parametrize("cut", range(1, 20))
@scenario
async def test_response_may_come_in_any_pieces(cut: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: now\r\n\r\n"
    whole = head + chunked(b"hello", b"world")
    places = sorted({cut * 7 % len(whole), cut * 13 % len(whole), len(head) - 2, len(head) + cut})
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    async with web(sending(*[piece for piece in pieces if piece])) as (edge_, _):
        answer = await edge_.ask(get())
        assert answer.head + answer.body == b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n" + (
            chunked(b"hello", b"world")
        )


@scenario
async def test_head_204_and_304_have_no_body_and_the_connection_goes_on() -> None:
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n',
        OK,
    )
    async with web(replying(*answers)) as (edge_, [instance]):
        client = await edge_.client()
        assert (await client.ask(get(method="HEAD"))).field(b"content-length") == b"5"
        no_content = await client.ask(get())
        assert (no_content.status, no_content.field(b"content-length")) == (204, None)
        assert (await client.ask(get())).status == 304
        assert (await client.ask(get())).body == b"ok"
        assert len(instance.connections) == 1


@scenario
async def test_response_that_ends_with_its_connection_becomes_chunked_for_http_1_1() -> None:
    async with web(sending(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", b"world")) as (edge_, _):
        client = await edge_.client()
        answer = await client.ask(get())
        assert answer.field(b"transfer-encoding") == b"chunked"
        assert answer.body == chunked(b"hello", b"world")
        assert (await client.ask(get())).status == 200  # and it is kept alive


@scenario
async def test_response_that_ends_with_its_connection_stays_so_for_http_1_0() -> None:
    async with web(sending(b"HTTP/1.0 200 OK\r\n\r\n", b"hello", b"world")) as (edge_, _):
        client = await edge_.client()
        await client.send(get("/", "Connection: keep-alive", version="1.0"))
        head = await client.until(b"\r\n\r\n")
        assert b"chunked" not in head
        assert field(head, b"connection") == b"close"
        assert await client.rest() == b"helloworld"


@scenario
async def test_chunked_response_is_decoded_for_http_1_0() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with web(replying(head + chunked(b"hello", b"world"))) as (edge_, _):
        client = await edge_.client()
        await client.send(get(version="1.0"))
        got = await client.rest()
        assert b"Transfer-Encoding" not in got
        assert got.endswith(b"\r\n\r\nhelloworld")


@scenario
async def test_response_without_date_gets_one_and_one_with_date_keeps_it() -> None:
    async with web(replying(OK, reply(b"ok", "Date: yesterday"))) as (edge_, _):
        client = await edge_.client()
        assert (await client.ask(get())).field(b"date")
        assert (await client.ask(get())).field(b"date") == b"yesterday"


@scenario
async def test_interim_responses_pass_but_100_ends_at_the_proxy() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with web(replying(b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK)) as (edge_, _):
        client = await edge_.client()
        hints = await client.ask(get())
        assert (hints.status, hints.field(b"link")) == (103, b"</a>")
        assert (await client.reply()).body == b"ok"
        old = await edge_.ask(get(version="1.0"))
        assert old.status == 200


@scenario
async def test_expectation_is_met_by_the_proxy_and_not_sent_on() -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        await client.send(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"abc")).body == b"ok"
        assert field(instance.requests[0], b"expect") is None
        assert instance.requests[0].endswith(b"\r\n\r\nabc")
        assert edge_.http_stats().sent == 2


@scenario
async def test_server_sent_events_arrive_one_by_one() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await connection.send(b"data: 1\n\n")
        assert await connection.reader.read(1) == b""  # ends when the proxy does

    async with web(script) as (edge_, _):
        client = await edge_.client()
        await client.send(get())
        await client.until(b"data: 1\n\n")
