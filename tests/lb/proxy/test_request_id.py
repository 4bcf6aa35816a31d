"""The id of a request: what the instance gets, and what the access log shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lb.observe.accesslog import AccessLog
from lb.settings import AccessLogSettings
from tests.support.edge import Edge, Service, edge, get, put, reply, scenario, web
from tests.support.scripted import Instance, field, refused, replying

NAME = {"request_id": "X-Request-ID"}
FRESH = re.compile(rb"[0-9a-f]{32}")
DATED = reply(b"ok", "Date: Mon, 23 Nov 2026 05:20:40 GMT")


def ids(instance: Instance) -> list[bytes | None]:
    """The ids that an instance got, in order."""
    return [field(head, b"x-request-id") for head in instance.requests[0].split(b"\r\n\r\n") if head]


def log_to(edge_: Edge, path: Path) -> AccessLog:
    """Give the running plane an access log of JSON lines."""
    assert edge_.plane._http is not None
    log = AccessLog(AccessLogSettings(str(path), "json"))
    edge_.plane._http._contexts[0].access_log = log
    return log


@scenario
async def test_every_request_gets_an_id_of_its_own() -> None:
    async with web(replying(DATED), http=NAME) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(5):
            await client.ask(get())
        await client.ask(put(b"abc"))
        got = ids(instance)[:5]
        assert all(one and FRESH.fullmatch(one) for one in got)
        assert len(set(got)) == 5
        assert instance.requests[0].count(b"X-Request-ID: ") == 6


@scenario
async def test_without_the_setting_a_client_s_field_passes_and_none_is_added() -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        await client.ask(get())
        await client.ask(get("/", "x-request-id: a b"))
        assert ids(instance) == [None, b"a b"]


@pytest.mark.parametrize("own", ["a", "7f3c-01.B_c", "x" * 128])
@scenario
async def test_a_client_s_own_id_lives_on(own: str) -> None:
    async with web(replying(DATED), http=NAME) as (edge_, [instance]):
        client = await edge_.client()
        for _ in range(3):
            await client.ask(get("/", f"x-request-ID: \t{own} "))
        assert ids(instance) == [own.encode()] * 3


@pytest.mark.parametrize("own", ["", "a b", 'a"b', "x" * 129, "ä", "a,b"])
@scenario
async def test_what_is_no_id_is_replaced(own: str) -> None:
    async with web(replying(DATED), http=NAME) as (edge_, [instance]):
        await edge_.ask(get("/", f"X-Request-Id: {own}"))
        (got,) = ids(instance)
        assert got is not None
        assert FRESH.fullmatch(got)


@scenario
async def test_two_ids_are_none() -> None:
    async with web(http=NAME) as (edge_, [instance]):
        await edge_.ask(get("/", "X-Request-ID: a", "Accept: */*", "x-request-id: b"))
        (got,) = ids(instance)
        assert got is not None
        assert FRESH.fullmatch(got)
        assert b"Accept: */*\r\n" in instance.requests[0]


@scenario
async def test_long_run_of_blanks_costs_no_more_than_its_length() -> None:
    lines = [f"X-Request-ID: a{' ' * 7000}b" for _ in range(4)]
    async with web(http=NAME) as (edge_, _):
        assert (await edge_.ask(get("/", *lines))).status == 200


@scenario
async def test_log_shows_the_id_that_the_instance_got(tmp_path: Path) -> None:
    async with web(replying(DATED), http=NAME) as (edge_, [instance]):
        log = log_to(edge_, tmp_path / "log")
        client = await edge_.client()
        for own in ((), (), ("X-Request-ID: mine",), ("X-Request-ID: mine",)):
            await client.ask(get("/", *own))
        log.close()
        logged = [json.loads(line)["request_id"].encode() for line in (tmp_path / "log").read_text().splitlines()]
        assert logged == ids(instance)


@scenario
async def test_request_keeps_its_id_from_one_instance_to_the_next() -> None:
    good = Instance(replying(DATED))
    async with edge(Service("web", [refused(), good]), http=NAME) as edge_:
        for _ in range(4):
            assert (await edge_.ask(get("/", "X-Request-ID: mine"))).status == 200
        heads = [head for part in good.requests for head in part.split(b"\r\n\r\n") if head]
        assert [field(head, b"x-request-id") for head in heads] == [b"mine"] * 4
