"""Every bad form through a running edge: its status, and that no instance sees an octet of it (tables in `forms`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.lb.proxy.forms import BAD_BODIES, BAD_HEADS, CHUNKED, LIMITS, post
from tests.lb.proxy.strict import Echo
from tests.support.edge import Client, Edge, eventually, get, scenario, web

SOON = 0.2
SMUGGLED = get("/smuggled")


async def refused(client: Client, status: int) -> None:
    """The connection ends in order behind a page of that status."""
    answer = await client.reply()
    assert (answer.status, answer.field(b"connection")) == (status, b"close")
    assert answer.body.startswith(b"%d " % status)
    assert await client.rest() == b""


async def next_client_is_served(edge_: Edge) -> None:
    assert (await edge_.ask(get("/next"))).body == b"/next"


@pytest.mark.parametrize("before", [b"", get("/good")], ids=["first", "behind a good one"])
@pytest.mark.parametrize("name", BAD_HEADS)
@scenario
async def test_bad_head_is_refused_and_no_instance_sees_it(name: str, before: bytes) -> None:
    status, octets = BAD_HEADS[name]
    echo = Echo()
    async with web(echo, http=LIMITS) as (edge_, _):
        client = await edge_.client()
        await client.send(before + octets + SMUGGLED)
        if before:
            assert (await client.reply()).body == b"/good"
        await refused(client, status)
        await next_client_is_served(edge_)
        assert echo.targets == ([b"/good", b"/next"] if before else [b"/next"])
        assert echo.begun == len(echo.asked)
        assert edge_.listener_stats.rejected == {status: 1}


@pytest.mark.parametrize("name", BAD_BODIES)
@scenario
async def test_bad_body_that_comes_with_its_head_reaches_no_instance(name: str) -> None:
    status, octets = BAD_BODIES[name]
    echo = Echo()
    async with web(echo, http=LIMITS) as (edge_, _):
        client = await edge_.client()
        await client.send(post(CHUNKED) + octets + SMUGGLED)
        await refused(client, status)
        await next_client_is_served(edge_)
        assert (echo.begun, echo.targets) == (1, [b"/next"])


@pytest.mark.parametrize("name", BAD_BODIES)
@scenario
async def test_bad_body_behind_its_head_is_never_whole_and_its_connection_never_used_again(name: str) -> None:
    status, octets = BAD_BODIES[name]
    echo = Echo()
    async with web(echo, http=LIMITS) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(post(CHUNKED) + b"3\r\nabc\r\n")
        await eventually(lambda: echo.begun, "the head reaches the instance")
        await client.send(octets + SMUGGLED)
        await refused(client, status)
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        await next_client_is_served(edge_)
        assert (echo.begun, echo.targets, len(instance.connections)) == (2, [b"/next"], 2)
        assert b"smuggled" not in b"".join(instance.requests)


@pytest.mark.parametrize("name", BAD_BODIES)
@scenario
async def test_bad_body_is_refused_octet_by_octet(name: str) -> None:
    status, octets = BAD_BODIES[name]
    echo = Echo()
    async with web(echo, http=LIMITS) as (edge_, _):
        client = await edge_.client()
        await client.send(post(CHUNKED))
        await eventually(lambda: echo.begun, "the head reaches the instance")
        for place in range(min(len(octets), 100)):
            client.writer.write(octets[place : place + 1])
            await asyncio.sleep(0)  # so that each goes out by itself
        await client.send(octets[100:] + SMUGGLED)
        await refused(client, status)
        await next_client_is_served(edge_)
        assert echo.targets == [b"/next"]


# What is sent before the client stops, and whether an instance is asked by then.
STATES: dict[str, tuple[bytes, bool]] = {
    "CR of an empty line": (b"\r", False),
    "method": (b"GE", False),
    "request line": (b"GET /bad HT", False),
    "CR of the request line": (b"GET /bad HTTP/1.1\r", False),
    "no field": (b"GET /bad HTTP/1.1\r\n", False),
    "name": (b"GET /bad HTTP/1.1\r\nHo", False),
    "value": (b"GET /bad HTTP/1.1\r\nHost: web.te", False),
    "CR of a field": (b"GET /bad HTTP/1.1\r\nHost: web.test\r", False),
    "no end of the head": (b"GET /bad HTTP/1.1\r\nHost: web.test\r\n", False),
    "CR of the head": (b"GET /bad HTTP/1.1\r\nHost: web.test\r\n\r", False),
    "no body": (post(b"Content-Length: 10"), True),
    "no body after 100": (post(b"Content-Length: 10", b"Expect: 100-continue"), True),
    "body": (post(b"Content-Length: 10") + b"hello", True),
    "no chunk": (post(CHUNKED), True),
    "chunk size": (post(CHUNKED) + b"5", True),
    "chunk extension": (post(CHUNKED) + b"5;a=", True),
    "CR of a chunk size": (post(CHUNKED) + b"5\r", True),
    "chunk": (post(CHUNKED) + b"5\r\nhel", True),
    "whole chunk": (post(CHUNKED) + b"5\r\nhello", True),
    "CR of a chunk": (post(CHUNKED) + b"5\r\nhello\r", True),
    "last size": (post(CHUNKED) + b"5\r\nhello\r\n0", True),
    "last chunk": (post(CHUNKED) + b"5\r\nhello\r\n0\r\n", True),
    "trailer": (post(CHUNKED) + b"0\r\nX-Sum: 1", True),
    "no end of the trailer": (post(CHUNKED) + b"0\r\nX-Sum: 1\r\n", True),
    "CR of the body": (post(CHUNKED) + b"0\r\n\r", True),
}


@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
@pytest.mark.parametrize("state", STATES)
@scenario
async def test_client_that_leaves_in_mid_request_takes_its_request_with_it(state: str, how: str) -> None:
    octets, asked = STATES[state]
    echo = Echo()
    async with web(echo) as (edge_, [instance]):
        client = await edge_.client()
        await client.send(octets)
        await eventually(lambda: echo.begun if asked else edge_.listener_stats.accepted, "the octets arrive")
        match how:
            case "close":
                await client.close()
            case "reset":
                client.reset()
            case _:
                client.eof()
                assert await client.rest() in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
        await eventually(lambda: edge_.listener_stats.active == 0, "the client's connection ends")
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        await next_client_is_served(edge_)
        assert (echo.begun, echo.targets) == (1 + asked, [b"/next"])
        assert edge_.http_stats().codes == ({499: 1, 200: 1} if asked else {200: 1})


@scenario
async def test_client_that_falls_silent_in_mid_request_is_408_in_every_state() -> None:
    echo = Echo()
    async with web(echo, http={"header_timeout": SOON, "body_timeout": SOON}) as (edge_, [instance]):

        async def stop(octets: bytes) -> None:
            client = await edge_.client()
            await client.send(octets)
            if b"Expect" in octets:
                await client.until(b"\r\n\r\n")
            await refused(client, 408)

        await asyncio.gather(*(stop(octets) for octets, _ in STATES.values()))
        await eventually(lambda: instance.open == 0, "the instance is hung up on")
        await next_client_is_served(edge_)
        assert echo.targets == [b"/next"]
        assert echo.begun == 1 + sum(asked for _, asked in STATES.values())


@scenario
async def test_client_that_says_nothing_is_closed_without_an_answer() -> None:
    async with web(http={"header_timeout": SOON}) as (edge_, [instance]):
        client = await edge_.client()
        assert await client.rest() == b""
        assert not instance.connections
