"""Writes that are gathered: their order, and what becomes of them when a connection ends meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from lb.proxy.http_session import HttpSession
from lb.proxy.outbox import LARGE, Outbox
from tests.support.edge import get, scenario, web


class Recorder(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes | str] = []
        self.told: list[Recorder] = []
        self.closing = False

    def write(self, data: Any) -> None:
        """See asyncio.Transport."""
        self.done.append(data)
        self.told.append(self)

    def close(self) -> None:
        """See asyncio.Transport."""
        self.done.append("close")
        self.closing = True

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self.closing

    def get_write_buffer_size(self) -> int:
        """See asyncio.Transport."""
        return 0


@scenario
async def test_everything_is_done_in_order_at_the_end_of_the_turn() -> None:
    outbox, one, other = Outbox(asyncio.get_running_loop()), Recorder(), Recorder()
    outbox.write(one, b"a")
    outbox.write(other, b"b")
    outbox.write(one, b"c")
    outbox.close(one)
    outbox.write(one, b"too late")
    assert not one.done
    await asyncio.sleep(0)
    assert (one.done, other.done) == ([b"a", b"c", "close"], [b"b"])


@scenario
async def test_instances_are_asked_before_clients_are_answered() -> None:
    outbox, client, instance = Outbox(asyncio.get_running_loop()), Recorder(), Recorder()
    order: list[Recorder] = []
    client.told = instance.told = order
    outbox.write(client, b"a")
    outbox.ask(instance, b"b")
    outbox.ask(instance, b"c")
    await asyncio.sleep(0)
    assert order == [instance, instance, client]
    assert (instance.done, client.done) == ([b"b", b"c"], [b"a"])


@scenario
async def test_large_pieces_do_not_wait() -> None:
    outbox, client, instance = Outbox(asyncio.get_running_loop()), Recorder(), Recorder()
    outbox.write(client, b"a")
    outbox.ask(instance, b"b" * LARGE)
    assert (instance.done, client.done) == ([b"b" * LARGE], [b"a"])
    outbox.write(client, b"c" * LARGE)
    assert client.done == [b"a", b"c" * LARGE]


@scenario
async def test_what_was_flushed_is_not_done_twice_and_more_can_follow() -> None:
    outbox, one = Outbox(asyncio.get_running_loop()), Recorder()
    outbox.write(one, b"a")
    outbox.flush()
    assert one.done == [b"a"]
    outbox.write(one, b"b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert one.done == [b"a", b"b"]


@scenario
async def test_connection_that_is_gone_by_then_hurts_no_other() -> None:
    outbox, gone, other = Outbox(asyncio.get_running_loop()), Recorder(), Recorder()
    outbox.write(gone, b"a")
    outbox.write(other, b"b")
    gone.closing = True
    await asyncio.sleep(0)
    assert (gone.done, other.done) == ([], [b"b"])


@scenario
async def test_reply_that_is_ready_goes_out_before_a_client_that_has_said_all_is_closed() -> None:
    async with web() as (edge_, _):
        assert edge_.plane._http is not None
        session, client = HttpSession(edge_.plane._http._contexts[0]), Recorder()
        session.connection_made(client)
        session.data_received(get(host="nobody.test"))
        assert not session.eof_received()
        (reply,) = client.done
        assert isinstance(reply, bytes)
        assert reply.startswith(b"HTTP/1.1 404 ")
        session.connection_lost(None)


@scenario
async def test_request_behind_the_last_one_is_not_answered() -> None:
    async with web() as (edge_, _):
        assert edge_.plane._http is not None
        session, client = HttpSession(edge_.plane._http._contexts[0]), Recorder()
        session.connection_made(client)
        session.data_received(get("/", "Connection: close", host="nobody.test"))
        session.data_received(get(host="nobody.test"))
        await asyncio.sleep(0)
        assert client.done[1:] == ["close"]
        session.connection_lost(None)
