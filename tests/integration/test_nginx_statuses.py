"""Statuses, retries and failure accounting: the same scripted peers behind a real nginx and behind consul-edge."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lb.observe.accesslog import AccessLog
from lb.settings import AccessLogSettings
from tests.integration.nginx_cases import CASES, Case, Leave, Outcome, Slowly
from tests.support.edge import Client, Service, edge, eventually, scenario
from tests.support.nginx import http_block, running_nginx
from tests.support.process import free_ports
from tests.support.scripted import Instance, refused, stalled

SOON = 0.3  # seconds, for every timeout
LOCAL = "127.0.0.1"

HTTP = {"header_timeout": SOON, "body_timeout": SOON}
UPSTREAM = {"connect_timeout": SOON, "read_timeout": SOON, "send_timeout": SOON}

_SETTINGS = f"""
    log_format status '" $status ';
    client_header_timeout {SOON * 1000:.0f}ms;
    client_body_timeout {SOON * 1000:.0f}ms;
    proxy_connect_timeout {SOON * 1000:.0f}ms;
    proxy_read_timeout {SOON * 1000:.0f}ms;
    proxy_send_timeout {SOON * 1000:.0f}ms;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
"""

_SERVER = """
    upstream peers{number} {{ {servers} keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        access_log {log} status;
        location / {{ proxy_pass http://peers{number}; {directives} }}
    }}
"""


@dataclass(frozen=True)
class Place:
    """Where nginx serves a case: its own port, its peers' ports, its own access log."""

    port: int
    peers: tuple[int, ...]
    log: Path


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """A port whose connection attempts nobody accepts."""
    with stalled() as instance:
        yield instance.port


@pytest.fixture(scope="module")
def places(silent: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """One nginx with a server and a group of peers for each case, so that none meets the failures of another."""
    directory = tmp_path_factory.mktemp("nginx")
    ports = iter(free_ports(sum(1 + len(case.peers) for case in CASES.values())))
    places, body = {}, _SETTINGS
    for number, (name, case) in enumerate(CASES.items()):
        peers = tuple(silent if peer == "stalled" else next(ports) for peer in case.peers)
        place = places[name] = Place(next(ports), peers, directory / f"{number}.log")
        options = f"max_fails={case.max_fails} fail_timeout=60s"
        servers = " ".join(f"server {LOCAL}:{port} {options};" for port in peers)
        body += _SERVER.format(
            number=number, servers=servers, port=place.port, log=place.log, directives=case.directives
        )
    with running_nginx(directory, http_block(directory, body)):
        yield places


@pytest.mark.parametrize("name", CASES)
@scenario
async def test_nginx_does_so(name: str, places: dict[str, Place]) -> None:
    case, place = CASES[name], places[name]
    async with contextlib.AsyncExitStack() as stack:
        instances = instances_of(case, place.peers)
        for instance in instances:
            if instance is not None:
                await instance.start()
                stack.push_async_callback(instance.stop)
        told = await play(case, place.port, instances)
        wanted = completed(case.nginx)
        await eventually(lambda: len(statuses(place.log)) >= len(wanted.logged.split()), "nginx writes its log")
        assert Outcome(told, asked(instances), " ".join(statuses(place.log))) == wanted


@pytest.mark.parametrize("name", CASES)
@scenario
async def test_consul_edge_does_so(name: str, silent: int, tmp_path: Path) -> None:
    case = CASES[name]
    instances = instances_of(case, tuple(0 for _ in case.peers))
    standing = [instance or Instance() for instance in instances]
    for peer, instance in zip(case.peers, standing, strict=True):
        if peer == "stalled":
            instance.port = silent
        elif peer == "refused":
            instance.port = refused().port
    log = AccessLog(AccessLogSettings(str(tmp_path / "access.log"), "combined"))
    service = Service("web", standing, meta=(("lb_max_fails", f"{case.max_fails}"), ("lb_fail_timeout", "60s")))
    async with edge(service, http=HTTP, upstream=UPSTREAM) as edge_:
        assert edge_.plane._http is not None
        edge_.plane._http._contexts[0].access_log = log
        told = await play(case, edge_.port, instances)
        await eventually(lambda: not edge_.http_stats().active, "the last request ends")
    log.close()
    assert Outcome(told, asked(instances), " ".join(statuses(tmp_path / "access.log"))) == completed(
        case.edge or case.nginx
    )


def completed(outcome: Outcome) -> Outcome:
    """The outcome with what is logged if that is what was told."""
    if outcome.logged or outcome.told == "closed":
        return outcome
    return outcome._replace(logged=outcome.told.replace("-cut", ""))


def instances_of(case: Case, ports: tuple[int, ...]) -> list[Instance | None]:
    """The peers that have a script, at these ports; None for the others."""
    instances: list[Instance | None] = []
    for peer, port in zip(case.peers, ports, strict=True):
        if isinstance(peer, str):
            instances.append(None)
            continue
        instance = Instance(peer)
        instance.port = port
        instances.append(instance)
    return instances


def asked(instances: list[Instance | None]) -> tuple[int, ...]:
    """How many requests came to each peer."""
    return tuple(
        0 if instance is None else sum(octets.count(b" HTTP/1.1\r\n") for octets in instance.requests)
        for instance in instances
    )


def statuses(log: Path) -> list[str]:
    """The statuses in an access log."""
    return re.findall(r'" (\d{3}) ', log.read_text()) if log.exists() else []


async def play(case: Case, port: int, instances: list[Instance | None]) -> str:
    """Play the steps of a case, over one connection as long as that lasts; return what the client was told."""
    told: list[str] = []
    client: Client | None = None
    for step in case.steps:
        if client is None:
            client = Client(*await asyncio.open_connection(LOCAL, port))
        if isinstance(step, Leave):
            assert instances[0] is not None
            word, stays = await leave(client, step, instances[0])
        else:
            word, stays = await ask(client, step)
        told.append(word)
        if not stays:
            await client.close()
            client = None
    if client is not None:
        await client.close()
    return " ".join(told)


async def leave(client: Client, step: Leave, first: Instance) -> tuple[str, bool]:
    """Ask the first peer, and leave before it answers; it is hung up on."""
    await client.send(step.octets)
    await eventually(lambda: asked([first]) > (0,), "the first peer is asked")
    if step.how == "reset":
        client.reset()
    else:
        client.eof()
        assert await client.left() == b""
    await eventually(lambda: first.open == 0, "the first peer is hung up on")
    return "left", False


async def ask(client: Client, step: bytes | Slowly) -> tuple[str, bool]:
    """Send a request; return what it was answered with, and whether the connection goes on."""
    if isinstance(step, Slowly):
        client.writer.write(step.first)
        await asyncio.sleep(SOON / 3)
        step = step.rest
    client.writer.write(step)  # and read at once: the answer may come before all of it is taken
    try:
        if await client.exactly(5) != b"HTTP/":
            return "raw", False
        head = await client.until(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed", False
    status = head.split(b" ", 2)[1].decode()
    try:
        await client.body(head)
    except (asyncio.IncompleteReadError, ConnectionError):
        return f"{status}-cut", False
    return status, b"connection: close" not in head.lower()
