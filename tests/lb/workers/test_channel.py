"""Messages and descriptors from one process to another."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from lb.workers import channel as module
from lb.workers.channel import Body, Channel


class End:
    """One end, and what it got."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: asyncio.Queue[tuple[str, Body, list[int]]] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.channel = Channel(sock, lambda *message: self.messages.put_nowait(message), self.ended.set)


def connected(test: Callable[[End, End], Awaitable[None]]) -> None:
    """Run a test with both ends of a channel."""

    async def run() -> None:
        before = len(os.listdir("/proc/self/fd"))
        one, other = map(End, socket.socketpair())
        async with asyncio.timeout(10):
            await test(one, other)
        one.channel.close()
        other.channel.close()
        assert len(os.listdir("/proc/self/fd")) == before, "descriptors are left open"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_messages_arrive_in_order_both_ways() -> None:
    async def test(one: End, other: End) -> None:
        for number in range(100):
            one.channel.send("number", {"n": number})
            other.channel.send("answer", {"n": number})
        for number in range(100):
            assert await other.messages.get() == ("number", {"n": number}, [])
            assert await one.messages.get() == ("answer", {"n": number}, [])

    connected(test)


def test_a_message_larger_than_any_buffer_arrives_whole() -> None:
    async def test(one: End, other: End) -> None:
        text = "ä" * 3_000_000
        one.channel.send("large", {"text": text})
        one.channel.send("small")
        await one.channel.flush()
        kind, body, _ = await other.messages.get()
        assert (kind, body == {"text": text}) == ("large", True)
        assert await other.messages.get() == ("small", {}, [])

    connected(test)


def test_descriptors_come_with_the_message_that_they_were_sent_with() -> None:
    async def test(one: End, other: End) -> None:
        pipes = [os.pipe() for _ in range(150)]
        # Large enough to be cut, so that descriptors meet octets of another message.
        one.channel.send("first", {"text": "x" * 1_000_000}, [write for _, write in pipes[:100]])
        one.channel.send("none", {})
        one.channel.send("second", {}, [write for _, write in pipes[100:]])
        for _, write in pipes:
            os.close(write)  # what was sent is a duplicate
        received = []
        for count in (100, 0, 50):
            _, _, descriptors = await other.messages.get()
            assert len(descriptors) == count
            received += descriptors
        for number, (read, _) in enumerate(pipes):
            os.write(received[number], b"%d" % number)
            assert os.read(read, 10) == b"%d" % number
            assert not os.get_inheritable(received[number])
            os.close(read)
            os.close(received[number])

    connected(test)


def test_the_end_is_told_once_after_all_messages() -> None:
    async def test(one: End, other: End) -> None:
        one.channel.send("last")
        one.channel.close()
        one.channel.send("too late")
        await other.ended.wait()
        assert other.messages.get_nowait() == ("last", {}, [])
        assert other.messages.empty()
        assert not other.channel.is_open
        assert not one.ended.is_set(), "who closes is not told"

    connected(test)


@pytest.mark.parametrize(
    "octets",
    [
        b"\xff\xff\xff\xff\0\0",
        b"\0\0\0\2\0\1[]",
        b"\0\0\0\4\0\0oops",
        b"\0\0\0\2\0\0[]",
        b"\0\0\0\1\0\0" + b"5",
    ],
)
def test_what_is_no_message_ends_the_channel(octets: bytes) -> None:
    async def test(one: End, other: End) -> None:
        one.channel._sock.send(octets)
        await other.ended.wait()
        assert other.messages.empty()

    connected(test)


def test_what_was_sent_before_the_end_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ", 100)

    async def test(one: End, other: End) -> None:
        got: list[Any] = []
        for number in range(50):
            one.channel.send("number", {"n": number})
        one.channel.close()
        other.channel.drain()
        while not other.messages.empty():
            got.append(other.messages.get_nowait()[1]["n"])
        assert got == list(range(50))

    connected(test)


def test_the_last_words_are_read_by_a_process_with_very_many_descriptors() -> None:
    """select(2) knows none above 1023."""
    code = """
import asyncio, fcntl, socket
from lb.proxy.ceiling import raise_limit
from lb.workers.channel import Channel

async def main():
    assert raise_limit() > 1500, "the test cannot have so many"
    one, other = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(other.fileno(), fcntl.F_DUPFD, 1500))
    channel = Channel(high, lambda kind, body, descriptors: print(kind, body), lambda: print("end"))
    teller = Channel(one, lambda *message: None, lambda: None)
    teller.send("last", {"words": 1})
    teller.close()
    other.close()
    channel.drain()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("last {'words': 1}\nend\n", "")
