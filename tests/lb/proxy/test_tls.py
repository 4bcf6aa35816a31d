"""TLS passed through by server name: the certificate is the service's, every octet the client's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest

from tests.lb.wire.hellos import real_hello
from tests.support.certificates import Certificate, TlsInstance, make_certificate
from tests.support.edge import LOCAL, Client, Edge, Service, edge, eventually, get, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, refused

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HELLO = real_hello("web.test")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Certificate]:
    """Those of `web` and of `api`."""
    directory = tmp_path_factory.mktemp("certificates")
    return (
        make_certificate(directory, "web.test", "shop.example.org", "*.example.net"),
        make_certificate(directory, "api.test"),
    )


async def echo(connection: Connection) -> None:
    """Say back what comes."""
    while part := await connection.some():
        await connection.send(part)


async def answering(connection: Connection) -> None:
    """Say how much came once the other side has said all."""
    heard = await connection.rest()
    await connection.send(b"%d" % len(heard))


def tls(*instances: Instance, name: str = "web", **options: str) -> Service:
    """A service behind the TLS listener."""
    return Service(name, instances, tags=("tls",), meta=tuple(options.items()))


@contextlib.asynccontextmanager
async def encrypted(edge_: Edge, context: ssl.SSLContext, name: str) -> AsyncIterator[Client]:
    """A real client, after its handshake."""
    reader, writer = await asyncio.open_connection(LOCAL, edge_.tls_port, ssl=context, server_hostname=name)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        await client.close()


async def _turned_away(edge_: Edge, client: Client, kind: str) -> None:
    assert await client.left() == b""
    await eventually(lambda: edge_.turned_away("tls") == {kind: 1}, f"{kind}, not {edge_.turned_away('tls')}")


# Real clients and servers


@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("name", ["web.test", "WEB.test", "shop.example.org", "any.example.net"])
@scenario
async def test_a_client_meets_the_certificate_of_the_service_that_it_names(
    certificates: tuple[Certificate, Certificate], version: ssl.TLSVersion, name: str
) -> None:
    web, api = certificates
    services = (
        tls(TlsInstance(web, echo), lb_host="shop.example.org,*.example.net"),
        tls(TlsInstance(api, echo), name="api"),
    )
    async with edge(*services) as edge_:
        async with encrypted(edge_, web.client(version), name) as client:
            await client.send(b"to web")
            assert await client.exactly(6) == b"to web"
        async with encrypted(edge_, api.client(version), "api.test") as client:
            await client.send(b"to api")
            assert await client.exactly(6) == b"to api"
        assert (edge_.tls_stats("web").opened, edge_.tls_stats("api").opened) == (1, 1)


@pytest.mark.parametrize("version", [V1_2, V1_3])
@scenario
async def test_much_passes_both_ways(certificates: tuple[Certificate, Certificate], version: ssl.TLSVersion) -> None:
    web, _ = certificates
    count = 4_000_000
    async with edge(tls(TlsInstance(web, echo))) as edge_:
        async with encrypted(edge_, web.client(version), "web.test") as client:
            sending = asyncio.create_task(client.send(b"abcdefgh" * (count // 8)))
            assert await client.exactly(count) == b"abcdefgh" * (count // 8)
            await sending
        stats = edge_.tls_stats("web")
        assert stats.received > count
        assert stats.sent > count


@scenario
async def test_one_service_is_behind_all_three_listeners() -> None:
    port = free_port()
    instance = Instance()
    async with edge(Service(f"web-{port}", [instance], tags=("http", "tcp", "tls"))) as edge_:
        assert (await edge_.ask(get(host=f"web-{port}.test"))).body == b"ok"
        client = await edge_.client(port)
        assert (await client.ask(get())).body == b"ok"
        await client.close()
        client = await edge_.client(edge_.tls_port)
        await client.send(real_hello(f"web-{port}.test"))
        await eventually(lambda: edge_.tls_stats(f"web-{port}").received, "the hello passes")


# The octets


@scenario
async def test_a_hello_in_single_octets_goes_on_unchanged() -> None:
    instance = Instance(answering)
    async with edge(tls(instance)) as edge_:
        client = await edge_.client(edge_.tls_port)
        for octet in HELLO:
            client.writer.write(bytes((octet,)))
            await asyncio.sleep(0)
        client.eof()
        assert await client.rest() == b"%d" % len(HELLO)
        assert instance.requests == [HELLO]


@scenario
async def test_what_comes_behind_the_hello_goes_on_and_half_close_is_carried_through() -> None:
    instance = Instance(answering)
    async with edge(tls(instance)) as edge_:
        client = await edge_.client(edge_.tls_port)
        client.writer.write(HELLO + b"x" * 300_000)
        client.eof()
        assert await client.rest() == b"%d" % (len(HELLO) + 300_000)
        assert instance.requests == [HELLO + b"x" * 300_000]
        await eventually(lambda: edge_.tls_stats("web").results == {"ok": 1}, "it ends in order")


@scenario
async def test_the_next_instance_gets_the_hello_when_one_refuses() -> None:
    instance = Instance(answering)
    async with edge(tls(refused(), instance, lb_max_fails="0")) as edge_:
        for _ in range(4):
            client = await edge_.client(edge_.tls_port)
            await client.send(HELLO)
            client.eof()
            assert await client.rest() == b"%d" % len(HELLO)
        assert instance.requests == [HELLO] * 4


@scenario
async def test_a_service_without_instances_closes() -> None:
    async with edge(tls()) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(HELLO)
        assert await client.left() == b""
        await eventually(lambda: edge_.tls_stats("web").results == {"no_instance": 1}, "it is counted")
        assert edge_.turned_away("tls") == {}


@scenario
async def test_a_service_that_leaves_keeps_its_sessions_and_loses_its_name() -> None:
    async with edge(tls(Instance(echo))) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(HELLO)
        assert await client.exactly(len(HELLO)) == HELLO
        edge_.apply()
        await client.send(b"still here")
        assert await client.exactly(10) == b"still here"
        other = await edge_.client(edge_.tls_port)
        await other.send(HELLO)
        await _turned_away(edge_, other, "unknown_server_name")


# Who is turned away


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (real_hello("other.test"), "unknown_server_name"),
        (real_hello("test"), "unknown_server_name"),
        (real_hello(None), "no_server_name"),
        (get(), "not_tls"),
        (b"SSH-2.0-x\r\n", "not_tls"),
        (b"\x16\x03\x01\x00\x05\x02\0\0\1\0", "bad_hello"),
        (b"\x16\x03\x01\x40\x00\x01\0\x40\x00" + bytes(100), "hello_too_large"),
    ],
)
@scenario
async def test_who_is_no_client_of_a_service_is_closed_and_counted(beginning: bytes, kind: str) -> None:
    instance = Instance(echo)
    async with edge(tls(instance)) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(beginning)
        await _turned_away(edge_, client, kind)
        assert not instance.connections
        stats = dict(edge_.stats.listeners())[f"tls {LOCAL}:{edge_.tls_port}"]
        assert (stats.accepted, stats.active) == (1, 0)


@scenario
async def test_a_hello_that_does_not_come_in_time_is_closed() -> None:
    async with edge(tls(Instance(echo)), tls={"hello_timeout": 0.3}) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(HELLO[:100], HELLO[100:200])
        await _turned_away(edge_, client, "late_hello")


@scenario
async def test_a_hello_in_time_is_followed_by_a_session_as_long_as_it_likes() -> None:
    async with edge(tls(Instance(echo)), tls={"hello_timeout": 0.3}) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(HELLO)
        assert await client.exactly(len(HELLO)) == HELLO
        await asyncio.sleep(0.6)
        await client.send(b"later")
        assert await client.exactly(5) == b"later"


@scenario
async def test_a_client_that_leaves_before_its_hello_is_whole_is_counted() -> None:
    async with edge(tls(Instance(echo))) as edge_:
        client = await edge_.client(edge_.tls_port)
        await client.send(HELLO[:50])
        client.eof()
        await _turned_away(edge_, client, "client_left")


@scenario
async def test_draining_lets_sessions_go_on_and_then_ends_hellos_too() -> None:
    async with edge(tls(Instance(echo))) as edge_:
        client, slow = await edge_.client(edge_.tls_port), await edge_.client(edge_.tls_port)
        await client.send(HELLO)
        assert await client.exactly(len(HELLO)) == HELLO
        await slow.send(HELLO[:50])
        draining = asyncio.create_task(edge_.drain(0.3))
        await asyncio.sleep(0)
        await client.send(b"more")
        assert await client.exactly(4) == b"more"
        await draining
        assert (await client.left(), await slow.left()) == (b"", b"")
        assert edge_.turned_away("tls") == {"aborted": 1}
        assert edge_.tls_stats("web").results == {"aborted": 1}
