"""HAProxy on the other side of the PROXY protocol: as the one that tells, and as the one that is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.support.consul import require
from tests.support.edge import LOCAL, Client, Service, edge, eventually, get, scenario
from tests.support.process import free_port, port_open, running
from tests.support.scripted import Instance, field

CLIENT = "127.0.0.9"
"""An address of the client's own: HAProxy itself connects from 127.0.0.1."""

_FRAME = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 5s
    timeout server 5s
listen one
    bind 127.0.0.1:{port}{receives}
    {rule}
"""


@contextlib.asynccontextmanager
async def haproxy(directory: Path, port: int, mode: str, rule: str, receives: str = "") -> AsyncIterator[None]:
    """Run HAProxy on a port until the block ends."""
    program = require("haproxy", "this test speaks the PROXY protocol with it")
    configuration = directory / "haproxy.cfg"
    configuration.write_text(_FRAME.format(mode=mode, port=port, rule=rule, receives=receives))
    with running([program, "-db", "-f", configuration], log=directory / "haproxy.log"):
        await eventually(lambda: port_open(port), "HAProxy listens")
        yield


async def ask(port: int) -> Client:
    """Send a request from the client's own address."""
    client = Client(*await asyncio.open_connection(LOCAL, port, local_addr=(CLIENT, 0)))
    await client.send(get())
    return client


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
@scenario
async def test_haproxy_tells_whom_it_speaks_for(tmp_path: Path, how: str) -> None:
    instance, port = Instance(), free_port()
    service = Service("web", [instance])
    async with (
        edge(service, proxy_protocol={"networks": (ip_network(LOCAL),)}) as edge_,
        haproxy(tmp_path, port, "tcp", f"server edge {LOCAL}:{edge_.port} {how}"),
    ):
        client = await ask(port)
        assert (await client.reply()).body == b"ok"
        await client.close()
        assert field(instance.requests[0], b"x-forwarded-for") == CLIENT.encode()


@pytest.mark.parametrize("version", ["v1", "v2"])
@scenario
async def test_haproxy_is_told_whom_we_speak_for(tmp_path: Path, version: str) -> None:
    port, instance = free_port(), Instance()
    instance.port = free_port()
    meta = (("lb_proxy_protocol", version), ("lb_port", str(port)))
    rule = 'http-request return status 200 content-type text/plain lf-string "%[src] to %[dst_port]"'
    async with (
        haproxy(tmp_path, instance.port, "http", rule, " accept-proxy"),
        edge(Service("web", [instance], tags=("tcp",), meta=meta)),
    ):
        client = await ask(port)
        assert (await client.reply()).body == f"{CLIENT} to {port}".encode()
        await client.close()
