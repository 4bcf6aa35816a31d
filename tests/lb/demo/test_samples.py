"""The sample services and the way in which they find each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from lb.demo.resolve import ResolveError, resolve
from lb.demo.samples import LINE_LIMIT, HttpBackend, HttpFront, Sample, TcpFront
from lb.settings import Address

ANY_PORT = Address("127.0.0.1", 0)
GUARD = 20.0


class Zone(asyncio.DatagramProtocol):
    """A DNS server that knows the addresses of some names, and is deaf to the first `deaf` questions."""

    def __init__(self, names: dict[str, str], deaf: int = 0) -> None:
        self._names = names
        self._deaf = deaf
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._deaf:
            self._deaf -= 1
            return
        question = DNSRecord.parse(data)
        reply = question.reply()
        address = self._names.get(str(question.q.qname).rstrip("."))
        if address is None:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            reply.add_answer(RR(question.q.qname, QTYPE.A, rdata=A(address)))
        self._transport.sendto(b"noise", addr)
        self._transport.sendto(reply.pack(), addr)


@asynccontextmanager
async def zone(names: dict[str, str], deaf: int = 0) -> AsyncIterator[Address]:
    """Serve names; give the server's address."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Zone(names, deaf), local_addr=("127.0.0.1", 0))
    try:
        yield Address(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


@asynccontextmanager
async def started(*samples: Sample) -> AsyncIterator[None]:
    """Run samples."""
    try:
        for sample in samples:
            await sample.start()
        yield
    finally:
        for sample in samples:
            await sample.stop()


async def get(address: Address, path: str = "/") -> tuple[int, str]:
    """GET and return status and text."""
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as reply:
        return reply.status, await reply.text()


def test_backend_answers_any_request_alike() -> None:
    async def scenario() -> None:
        backend = HttpBackend(ANY_PORT)
        async with asyncio.timeout(GUARD), started(backend):
            assert await get(backend.address) == (200, "this is httpbackendservice, version: v1.0.0\n")
            assert await get(backend.address, "/any/path?q") == await get(backend.address)
            async with (
                aiohttp.ClientSession() as client,
                client.post(f"http://{backend.address}/", data=b"body") as reply,
            ):
                assert await reply.text() == "this is httpbackendservice, version: v1.0.0\n"

    asyncio.run(scenario())


def test_front_calls_the_backend_by_its_name() -> None:
    async def scenario() -> None:
        backend = HttpBackend(Address("127.0.0.2", 0), "v1.2.3")
        async with asyncio.timeout(GUARD), started(backend), zone({"back.service.consul": "127.0.0.2"}) as dns:
            front = HttpFront(ANY_PORT, Address("back.service.consul", backend.address.port), dns)
            async with started(front):
                assert await get(front.address) == (
                    200,
                    "this is httpfrontservice, version: v1.0.0, calling backendservice ok, "
                    "its resp: [this is httpbackendservice, version: v1.2.3\n]\n",
                )

    asyncio.run(scenario())


def test_front_tells_why_a_call_failed() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(GUARD), zone({}) as dns:
            front = HttpFront(ANY_PORT, Address("back.service.consul", 1), dns)
            async with started(front):
                assert await get(front.address) == (
                    502,
                    "this is httpfrontservice, version: v1.0.0, calling backendservice failed: "
                    "back.service.consul: NXDOMAIN, no address\n",
                )

    asyncio.run(scenario())


def test_echo_quotes_each_line_with_its_newline() -> None:
    async def scenario() -> bytes:
        echo = TcpFront(ANY_PORT, "v1.0.0")
        async with asyncio.timeout(GUARD), started(echo):
            reader, writer = await asyncio.open_connection(*echo.address)
            writer.write(b"hello\nyou")
            writer.write_eof()
            received = await reader.read()
            writer.close()
            return received

    time = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00"
    pattern = rb"\[v1\.0\.0\]%b \[hello\n\]\[v1\.0\.0\]%b \[you\]" % (time, time)
    assert re.fullmatch(pattern, asyncio.run(scenario()))


def test_echo_hangs_up_on_an_endless_line() -> None:
    async def scenario() -> None:
        echo = TcpFront(ANY_PORT)
        async with asyncio.timeout(GUARD), started(echo):
            reader, writer = await asyncio.open_connection(*echo.address)
            writer.write(b"x" * (4 * LINE_LIMIT))
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()

    asyncio.run(scenario())


def test_echo_that_stops_closes_its_connections() -> None:
    async def scenario() -> None:
        echo = TcpFront(ANY_PORT)
        async with asyncio.timeout(GUARD), started(echo):
            reader, writer = await asyncio.open_connection(*echo.address)
            writer.write(b"hello\n")
            await reader.readuntil(b"\n]")
            await echo.stop()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(scenario())


def test_lost_datagram_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.demo.resolve.TIMEOUT", 0.05)

    async def scenario() -> None:
        async with asyncio.timeout(GUARD):
            async with zone({"a.consul": "192.0.2.1"}, deaf=1) as dns:
                assert await resolve("a.consul", dns) == "192.0.2.1"
            async with zone({}, deaf=9) as dns:
                with pytest.raises(ResolveError, match=f"a.consul: no reply from DNS server {dns}"):
                    await resolve("a.consul", dns)

    asyncio.run(scenario())


def test_dns_server_that_is_not_there_is_an_error_that_names_it() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(GUARD), zone({}) as dns:
            pass
        with pytest.raises(ResolveError, match=f"a.consul: DNS server {dns}: "):
            await resolve("a.consul", dns)

    asyncio.run(scenario())


def test_without_a_dns_server_the_system_resolves() -> None:
    assert asyncio.run(resolve("localhost", None)) == "127.0.0.1"
