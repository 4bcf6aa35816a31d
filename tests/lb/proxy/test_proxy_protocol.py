"""The PROXY protocol: taken from networks that are trusted, on every listener, and told to services that ask for it."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest

from lb.wire.proxyprotocol import Address, parse_proxy_header, write_v1, write_v2
from tests.lb.wire.hellos import real_hello
from tests.support.edge import LOCAL, Client, Edge, Service, edge, eventually, get, put, scenario
from tests.support.process import free_port
from tests.support.scripted import OK, Connection, Instance, field, refused, replying

TOLD: tuple[Address, Address] = (("203.0.113.7", 4711), ("198.51.100.1", 443))
V1, V2 = write_v1(*TOLD), write_v2(*TOLD)
UNKNOWN, LOCAL_COMMAND = b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
WRITERS = {"v1": write_v1, "v2": write_v2}
LISTENERS = ("http", "tcp", "tls")
TRUSTED: dict[str, Any] = {"networks": (ip_network("192.0.2.0/24"), ip_network(LOCAL))}
STRANGERS: dict[str, Any] = {"networks": (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))}

HELLO = real_hello("web.test")
BEGINNINGS = {"http": get(), "tcp": b"hello", "tls": HELLO}
"""What a client says first."""


async def echo(connection: Connection) -> None:
    """Say back what comes."""
    while part := await connection.some():
        await connection.send(part)


class Place:
    """A service `web` behind all three listeners, told of its clients by version 1; `heard` is what it was told."""

    def __init__(self, listener: str) -> None:
        self.listener = listener
        self.port = free_port()
        self.instance = Instance(replying(OK) if listener == "http" else echo)
        tag, meta = (listener, ()) if listener == "http" else (listener, (("lb_proxy_protocol", "v1"),))
        if listener == "tcp":
            meta = (*meta, ("lb_port", str(self.port)))
        self.service = Service("web", [self.instance], tags=(tag,), meta=meta)

    async def client(self, edge_: Edge) -> Client:
        ports = {"http": edge_.port, "tcp": self.port, "tls": edge_.tls_port}
        return await edge_.client(ports[self.listener])

    async def heard(self, client: Client) -> tuple[str, bytes]:
        """From whom the instance believes to hear, and what; the client's words have come back by then."""
        if self.listener == "http":
            assert (await client.reply()).status == 200
            request = self.instance.requests[0]
            return (field(request, b"x-forwarded-for") or b"").decode(), BEGINNINGS["http"]
        size = len(BEGINNINGS[self.listener])
        await eventually(lambda: self.instance.requests and b"\r\n" in self.instance.requests[0], "it hears")
        line, _, _ = self.instance.requests[0].partition(b"\r\n")
        await client.exactly(len(line) + 2)
        return line.split()[2].decode(), await client.exactly(size)


# What is taken


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("way", ["whole", "apart", "split"])
@scenario
async def test_the_source_in_a_header_is_the_client(listener: str, header: bytes, way: str) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        beginning = BEGINNINGS[listener]
        if way == "whole":
            await client.send(header + beginning)
        elif way == "apart":
            await client.send(header, beginning)
        else:
            for octet in header + beginning:
                client.writer.write(bytes((octet,)))
                await asyncio.sleep(0)
        assert await place.heard(client) == ("203.0.113.7", beginning)
        assert edge_.turned_away(listener) == {}


@pytest.mark.parametrize("listener", ["tcp", "tls"])
@scenario
async def test_the_destination_in_a_header_goes_on_too(listener: str) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        await client.send(V2 + BEGINNINGS[listener])
        await client.exactly(len(V1))
        assert place.instance.requests[0].startswith(V1)


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("header", [UNKNOWN, LOCAL_COMMAND], ids=["UNKNOWN", "LOCAL"])
@scenario
async def test_a_sender_that_does_not_tell_is_the_client_itself(listener: str, header: bytes) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        await client.send(header + BEGINNINGS[listener])
        assert await place.heard(client) == (LOCAL, BEGINNINGS[listener])


@scenario
async def test_the_header_holds_for_every_request_of_its_connection() -> None:
    place = Place("http")
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        await client.send(V1)
        for _ in range(3):
            assert (await client.ask(get())).status == 200
        assert (await client.ask(put(b"body"))).status == 200
        heard = place.instance.requests[0]
        assert heard.count(b"203.0.113.7") == 4


@scenario
async def test_ip_hash_goes_by_the_address_in_the_header() -> None:
    port = free_port()
    instances = [Instance(echo) for _ in range(3)]
    meta = (("lb_policy", "ip_hash"), ("lb_port", str(port)))
    async with edge(Service("web", instances, tags=("tcp",), meta=meta), proxy_protocol=TRUSTED) as edge_:

        async def chosen(host: str) -> int:
            before = [len(instance.connections) for instance in instances]
            client = await edge_.client(port)
            await client.send(write_v1((host, 1), TOLD[1]) + b"x")
            assert await client.exactly(1) == b"x"
            await client.close()
            after = [len(instance.connections) for instance in instances]
            return [new - old for new, old in zip(after, before, strict=True)].index(1)

        hosts = [f"203.{number}.113.7" for number in range(12)]
        first = [await chosen(host) for host in hosts]
        assert len(set(first)) > 1
        assert [await chosen(host) for host in hosts] == first


# Who is turned away


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (None, "no_proxy_header"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "bad_proxy_header"),
        (V2[:13] + b"\xff" + V2[14:], "bad_proxy_header"),
        (V2[:14] + b"\xff\xff", "bad_proxy_header"),
    ],
)
@scenario
async def test_a_trusted_sender_without_a_good_header_is_closed_and_counted(
    listener: str, beginning: bytes | None, kind: str
) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        await client.send(BEGINNINGS[listener] if beginning is None else beginning)
        assert await client.left() == b""
        await eventually(lambda: edge_.turned_away(listener) == {kind: 1}, f"{kind}: {edge_.turned_away(listener)}")
        assert not place.instance.connections


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("beginning", [b"", V1[:20], V2[:20]], ids=["nothing", "v1", "v2"])
@scenario
async def test_a_header_that_does_not_come_in_time_is_closed(listener: str, beginning: bytes) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol={**TRUSTED, "timeout": 0.2}) as edge_:
        client = await place.client(edge_)
        await client.send(beginning)
        assert await client.left() == b""
        await eventually(lambda: edge_.turned_away(listener) == {"late_proxy_header": 1}, "it is counted")


@scenario
async def test_a_sender_that_leaves_is_counted_and_a_hello_after_a_header_has_its_own_time() -> None:
    place = Place("tls")
    async with edge(place.service, proxy_protocol=TRUSTED, tls={"hello_timeout": 0.2}) as edge_:
        client = await place.client(edge_)
        await client.send(V1 + HELLO[:50])
        assert await client.left() == b""
        client = await place.client(edge_)
        await client.send(V1[:5])
        client.eof()
        assert await client.left() == b""
        await eventually(lambda: edge_.turned_away("tls") == {"late_hello": 1, "client_left": 1}, "both are counted")
        stats = dict(edge_.stats.listeners())[f"tls {LOCAL}:{edge_.tls_port}"]
        assert (stats.accepted, stats.active) == (2, 0)


@pytest.mark.parametrize("listener", LISTENERS)
@scenario
async def test_from_strangers_nothing_is_read(listener: str) -> None:
    place = Place(listener)
    async with edge(place.service, proxy_protocol=STRANGERS) as edge_:
        client = await place.client(edge_)
        await client.send(BEGINNINGS[listener])
        assert await place.heard(client) == (LOCAL, BEGINNINGS[listener])


@scenario
async def test_a_header_of_a_stranger_is_what_it_says() -> None:
    place = Place("http")
    async with edge(place.service, proxy_protocol=STRANGERS) as edge_:
        assert (await edge_.ask(V1 + get())).status == 400
    place = Place("tcp")
    async with edge(place.service, proxy_protocol=STRANGERS) as edge_:
        client = await place.client(edge_)
        await client.send(V1 + b"hello")
        told = await client.until(b"\r\n")
        assert told.startswith(b"PROXY TCP4 127.0.0.1 ")
        assert await client.exactly(len(V1) + 5) == V1 + b"hello"


@scenario
async def test_draining_http_closes_who_has_not_told_yet() -> None:
    place = Place("http")
    async with edge(place.service, proxy_protocol=TRUSTED) as edge_:
        client = await place.client(edge_)
        await eventually(lambda: edge_.listener_stats.active == 1, "it is accepted")
        await edge_.drain(5)
        assert await client.left() == b""
        assert edge_.turned_away("http") == {"draining": 1}


# What is told


@pytest.mark.parametrize("listener", ["tcp", "tls"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@scenario
async def test_an_instance_is_told_both_ends_first_of_all(listener: str, version: str) -> None:
    port = free_port()
    instance = Instance(echo)
    meta = (("lb_proxy_protocol", version), ("lb_port", str(port)), ("lb_max_fails", "0"))
    service = Service("web", [refused(), instance], tags=(listener,), meta=meta)
    async with edge(service) as edge_:
        for _ in range(3):
            client = await edge_.client(port if listener == "tcp" else edge_.tls_port)
            own = client.writer.get_extra_info("sockname"), client.writer.get_extra_info("peername")
            expected = WRITERS[version](*own) + BEGINNINGS[listener]
            await client.send(BEGINNINGS[listener])
            assert await client.exactly(len(expected)) == expected
            await client.close()
        header = parse_proxy_header(instance.requests[0], limit=64)
        assert header is not None
        assert header.version == int(version[1])
        stats = edge_.tcp_stats("web") if listener == "tcp" else edge_.tls_stats("web")
        assert stats.received == 3 * len(BEGINNINGS[listener])  # the header is no word of the client's


@scenario
async def test_an_instance_that_speaks_first_is_told_too() -> None:
    async def greeting(connection: Connection) -> None:
        await connection.send(b"hi")
        await connection.rest()

    port = free_port()
    instance = Instance(greeting)
    meta = (("lb_proxy_protocol", "v1"), ("lb_port", str(port)))
    async with edge(Service("web", [instance], tags=("tcp",), meta=meta)) as edge_:
        client = await edge_.client(port)
        assert await client.exactly(2) == b"hi"
        client.eof()
        assert await client.rest() == b""
        own = client.writer.get_extra_info("sockname"), client.writer.get_extra_info("peername")
        assert instance.requests == [write_v1(*own)]
