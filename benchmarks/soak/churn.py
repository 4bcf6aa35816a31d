"""Changes at the Consul agent, some each second, and how long they take until clients notice."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from benchmarks.macro import catalog
from benchmarks.macro.changes import Changer, catalog_changes
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import DOMAIN, SERVICE
from benchmarks.soak.clients import Stream, WrongReply
from benchmarks.soak.ledger import Failure, Ledger

CHANGES_PER_SECOND = 8
"""Instances that come, change, fail, recover and go, and changing weights of the service that takes the traffic."""

FLIP_SECONDS = 2.0
"""An instance of the service that takes the traffic fails for so long, then is healthy for so long."""

PROBE_SECONDS = 2.0
"""A service is made, waited for, taken away and waited for this often."""

LAG_PATIENCE = 10.0
"""Seconds until a change that has not taken effect is an error."""

POLL = 0.003

LISTEN_PORTS = 5
"""TCP ports that come and go in turn."""

Answers = Callable[[str], Awaitable[bool]]
"""Tells whether a service of that name is served."""


async def change_services(agent: int, origin_port: int, ledger: Ledger) -> None:
    """Make changes for ever, and count them; raise `BenchmarkError` when the agent refuses one."""
    with closing(Changer(agent, catalog_changes(origin_port))) as changer:
        while True:
            await asyncio.to_thread(changer.advance, changer.made + 1)
            ledger.succeed("changes")
            await asyncio.sleep(1 / CHANGES_PER_SECOND)


async def flip_health(agent: int, instances: Sequence[str]) -> None:
    """Let one of the instances after the other fail and recover. Each gets a check for it first."""
    for instance in instances:
        body = {"Name": "flip", "ID": f"flip-{instance}", "ServiceID": instance, "TTL": "24h", "Status": "passing"}
        await asyncio.to_thread(catalog.request, agent, "PUT", "/v1/agent/check/register", body)
    while True:
        for instance in instances:
            for verb in ("fail", "pass"):
                path = f"/v1/agent/check/{verb}/flip-{instance}"
                await asyncio.to_thread(catalog.request, agent, "PUT", path)
                await asyncio.sleep(FLIP_SECONDS)


def flipping_instances(tcp_port: int) -> list[str]:
    """Return the IDs of the instances that fail and recover: of each service one stays as it is."""
    return [f"{name}-{index}" for name in (SERVICE, f"tcpfront-{tcp_port}") for index in (1, 2)]


class LagProbe:
    """Makes a service, waits until it answers, takes it away, waits until it is gone; notes how long both took."""

    def __init__(
        self, client: str, agent: int, origin_port: int, ledger: Ledger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._agent = agent
        self._origin_port = origin_port
        self._ledger = ledger
        self._clock = clock

    async def run(self, name: Callable[[int], str], tag: str, answers: Answers) -> None:
        """Make services with this tag for ever; `name` gives the name of each one."""
        for number in count():
            service = name(number)
            instance = catalog.origin_instance(service, 0, self._origin_port, tag)
            await self._change(catalog.REGISTER, instance)
            await self._wait("came", service, answers, True)
            await asyncio.sleep(random.uniform(0, PROBE_SECONDS))
            await self._change(f"/v1/agent/service/deregister/{instance['ID']}")
            await self._wait("went", service, answers, False)
            await asyncio.sleep(random.uniform(0, PROBE_SECONDS))

    async def _change(self, path: str, body: object = None) -> None:
        await asyncio.to_thread(catalog.request, self._agent, "PUT", path, body)

    async def _wait(self, what: str, service: str, answers: Answers, expected: bool) -> None:
        begin = self._clock()
        while (now := self._clock()) < begin + LAG_PATIENCE:
            if await answers(service) is expected:
                self._ledger.lag(f"{self._client} {what}", now - begin)
                self._ledger.succeed(self._client)
                return
            await asyncio.sleep(POLL)
        self._ledger.fail(Failure(self._client, f"never {what}", begin, now))


def listen_ports() -> list[int]:
    """Return free ports that no client's connection gets meanwhile: below those that the kernel gives to them."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    for port in random.sample(range(1024, lowest), lowest - 1024):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == LISTEN_PORTS:
            return ports
    raise BenchmarkError(f"fewer than {LISTEN_PORTS} ports are free below {lowest}")


def served_over_http(port: int) -> Answers:
    """Return what tells whether a service has a virtual host on the HTTP listener at `port`."""

    async def answers(service: str) -> bool:
        try:
            with await Stream().open(port) as stream:
                status, _, _ = await stream.ask_http("/lag", "Connection: close\r\n", host=f"{service}.{DOMAIN}")
        except (OSError, EOFError):
            return False
        return status == "200"

    return answers


async def served_over_tcp(service: str) -> bool:
    """Tell whether a TCP service, which names its port, echoes."""
    try:
        with await Stream().open(int(service.rpartition("-")[2])) as stream:
            return await stream.ask(b"lag\n", 4) == b"lag\n"
    except (OSError, EOFError, WrongReply):
        return False
