"""`consul-edge demo`: the scenario on loopback, with a whole edge node before an embedded catalog and samples.

Nothing else is needed, neither root nor a Consul. A default address that is taken is replaced by a free port;
one that the user gave is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from socket import SocketKind

import aiohttp

from lb.demo.ports import TCP, UDP, choose_port, parse_address, parse_host
from lb.demo.resolve import resolve
from lb.demo.scenario import BACKEND_NAME, DATACENTER, DOMAIN, FRONT, FRONT_NAME, HOSTS, Cluster
from lb.errors import EdgeError
from lb.node import Node
from lb.observe import log
from lb.settings import (
    Address,
    AdminSettings,
    ConsulSettings,
    DnsSettings,
    DrainSettings,
    HttpSettings,
    LogSettings,
    RoutingSettings,
    Settings,
    TcpSettings,
)

HTTP = Address("127.0.0.1", 8080)
TCP_HOST, TCP_PORT = "127.0.0.1", 9999
DNS = Address("127.0.0.1", 8653)
ADMIN = Address("127.0.0.1", 9900)
CATALOG = Address("127.0.0.1", 18500)
BACKEND_PORT = 8081
LOG = LogSettings(level="warning")

READY_TIMEOUT = 20.0
"""Seconds in which each part must answer after the start."""

_PROBE_STEP = 0.02


class NotReady(EdgeError):
    """Some part of the demo does not answer; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything listens."""

    http: Address
    tcp: Address
    dns: Address
    admin: Address
    catalog: Address
    backend_port: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo` to a parser."""
    for flag, default, what in (
        ("--http", HTTP, "the HTTP listener"),
        ("--dns", DNS, "the DNS server"),
        ("--admin", ADMIN, "the admin server"),
        ("--catalog", CATALOG, "the embedded catalog"),
    ):
        text = f"where {what} listens (default: {default}, or a free port if that is taken)"
        parser.add_argument(flag, type=parse_address, metavar="ADDR:PORT", help=text)
    tcp_help = f"where TCP services listen (default: {TCP_HOST})"
    parser.add_argument("--tcp", type=parse_host, default=TCP_HOST, metavar="ADDR", help=tcp_help)


async def demo(args: argparse.Namespace) -> int:
    """Run the demo until SIGINT or SIGTERM; return the exit status."""
    log.setup(LOG)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as running:
        starting = asyncio.create_task(_start(running, args), name="demo start")
        stopping = asyncio.create_task(stop.wait(), name="demo stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        try:
            print(_instructions(starting.result()), flush=True)
        except (EdgeError, OSError) as error:
            stopping.cancel()
            print(f"consul-edge demo: {error}", file=sys.stderr)
            return 1
        await stopping
        print("Stopping.", flush=True)
    return 0


async def _start(running: AsyncExitStack, args: argparse.Namespace) -> Places:
    """Start everything, put what ends it on `running`, and return when everything answers."""
    places = _choose(args)
    cluster = Cluster(places.catalog)
    running.push_async_callback(cluster.stop)
    await cluster.start()
    await cluster.add_backends(places.backend_port)
    node = Node(_settings(places, cluster.url))
    await node.start()
    running.push_async_callback(node.stop)
    await node.show()
    await cluster.add_fronts(places.backend_port, places.dns)
    await cluster.add_echoes(places.tcp.port)
    await _until_answered("DNS", lambda: resolve(BACKEND_NAME, places.dns))
    await _until_answered("HTTP", lambda: _ask_http(places.http))
    await _until_answered("TCP", lambda: _ask_tcp(places.tcp))
    return places


def _choose(args: argparse.Namespace) -> Places:
    """Settle all addresses: what the user gave as it is, defaults and port 0 by what is free."""

    def place(given: Address | None, default: Address, *kinds: SocketKind) -> Address:
        if given is not None and given.port:
            return given
        host, port = given or default
        return Address(host, choose_port([host], port, kinds))

    return Places(
        http=place(args.http, HTTP, TCP),
        tcp=Address(args.tcp, choose_port([args.tcp], TCP_PORT)),
        dns=place(args.dns, DNS, TCP, UDP),
        admin=place(args.admin, ADMIN, TCP),
        catalog=place(args.catalog, CATALOG, TCP),
        backend_port=choose_port([node.address for node in HOSTS], BACKEND_PORT),
    )


def _settings(places: Places, catalog_url: str) -> Settings:
    return Settings(
        consul=ConsulSettings(agents=(catalog_url,), datacenter=DATACENTER),
        routing=RoutingSettings(domains=(DOMAIN,)),
        http=HttpSettings(listen=(places.http,)),
        tcp=TcpSettings(host=places.tcp.host),
        dns=DnsSettings(listen=(places.dns,), datacenter=DATACENTER),
        admin=AdminSettings(listen=places.admin),
        drain=DrainSettings(timeout=1.0),
        log=LOG,
    )


async def _until_answered(what: str, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until there is an answer; raises `NotReady` when there is none in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + READY_TIMEOUT
    while True:
        try:
            async with asyncio.timeout_at(end):
                await ask()
                return
        except (EdgeError, OSError, aiohttp.ClientError) as error:
            if loop.time() >= end:
                raise NotReady(f"{what} does not answer: {str(error) or 'timed out'}") from error
        await asyncio.sleep(_PROBE_STEP)


async def _ask_http(address: Address) -> None:
    async with (
        aiohttp.ClientSession(raise_for_status=True) as client,
        client.get(f"http://{address}/", headers={"Host": FRONT_NAME}) as response,
    ):
        await response.read()


async def _ask_tcp(address: Address) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"hello\n")
        await reader.readuntil(b"\n]")
    except asyncio.IncompleteReadError as error:
        raise NotReady("the connection was closed") from error
    finally:
        writer.close()


def _instructions(places: Places) -> str:
    """Return what a user can try."""
    dig = f"dig @{places.dns.host} -p {places.dns.port}"
    catalog = f"http://{places.catalog}/v1/agent/service"
    tcp_name = f"tcpfront-{places.tcp.port}"
    new = json.dumps({"Name": "web", "Address": HOSTS[0].address, "Port": places.backend_port, "Tags": ["http"]})
    return f"""
consul-edge balances three instances of each service, on three nodes. To try in another terminal:

  HTTP     curl -H 'Host: {FRONT_NAME}' http://{places.http}/
  TCP      echo hello | nc -N {places.tcp.host} {places.tcp.port}
  DNS      {dig} +short {BACKEND_NAME}
           {dig} +short {BACKEND_NAME} SRV
           {dig} +short consul.service.{DATACENTER}.consul
  Admin    http://{places.admin}/  (also /metrics, /health/ready, /api/status, /api/services, /api/routes)

Change the catalog, and ask again:

  curl -X PUT '{catalog}/maintenance/{FRONT}-1?enable=true'      (and enable=false)
  curl -X PUT {catalog}/deregister/{tcp_name}-1
  curl -X PUT -d '{new}' {catalog}/register
  curl -H 'Host: web.{DOMAIN}' http://{places.http}/

Ctrl-C ends it.
"""
