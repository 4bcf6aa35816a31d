"""This node as a service of its Consul agent: registered, found again, given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from lb.catalog.registering import LocalAgent
from lb.demo.catalog import Catalog, CatalogServer
from lb.errors import AgentUnreachable
from lb.registration import Registration, service
from lb.settings import Address, ConsulSettings, RegistrationSettings
from lb.version import VERSION

T = TypeVar("T")

ADMIN = Address("0.0.0.0", 9900)
SOON = 0.02


class CountingAgent(LocalAgent):
    """An agent whose writes and reads are counted; it hangs up on everybody while it is `down`."""

    def __init__(self, settings: ConsulSettings) -> None:
        super().__init__(settings)
        self.writes: list[Mapping[str, Any]] = []
        self.looks = 0
        self.down = False
        self.fault: Exception | None = None
        self.closed = False

    async def services(self) -> dict[str, Any]:
        self.looks += 1
        if self.down:
            raise AgentUnreachable("it is down")
        if self.fault is not None:
            raise self.fault
        return await super().services()

    async def register(self, service: Mapping[str, Any]) -> None:
        self.writes.append(service)
        await super().register(service)

    async def close(self) -> None:
        self.closed = True
        await super().close()

    async def looked(self, times: int = 3) -> None:
        """Wait for some more looks."""
        wanted = self.looks + times

        async def enough() -> bool:
            return self.looks >= wanted

        await until(enough)


async def until(probe: Callable[[], Awaitable[T]]) -> T:
    """Ask again and again until the answer is true; returns it."""
    async with asyncio.timeout(10):
        while True:
            if answer := await probe():
                return answer
            await asyncio.sleep(0.001)


@asynccontextmanager
async def registration(
    settings: RegistrationSettings, *, ready: bool = True, down: bool = False
) -> AsyncIterator[tuple[Registration, CountingAgent]]:
    """A node's registration with an embedded catalog, begun, and looked at often."""
    server = CatalogServer(Catalog())
    await server.start()
    agent = CountingAgent(ConsulSettings(agents=(server.url,)))
    agent.down = down
    one = Registration(settings, lambda: agent, lambda: ready, SOON)
    one.begin(ADMIN)
    try:
        yield one, agent
    finally:
        await one.leave()
        await agent.close()
        await server.stop()


async def registered(agent: LocalAgent) -> dict[str, Any]:
    """What the agent has of us, once it has it."""

    async def ours() -> list[dict[str, Any]]:
        return [shown for shown in (await LocalAgent.services(agent)).values() if shown["Service"] == "consul-edge"]

    found = await until(ours)
    assert len(found) == 1
    one: dict[str, Any] = found[0]
    return one


@pytest.mark.parametrize(
    ("settings", "admin", "id_", "address", "port"),
    [
        (RegistrationSettings(), "0.0.0.0:9900", "consul-edge:9900", "", 9900),
        (RegistrationSettings(), "192.0.2.1:9900", "consul-edge:192.0.2.1:9900", "192.0.2.1", 9900),
        (RegistrationSettings("192.0.2.7"), "0.0.0.0:9901", "consul-edge:192.0.2.7:9901", "192.0.2.7", 9901),
        (RegistrationSettings("192.0.2.7", 80), "127.0.0.1:9900", "consul-edge:192.0.2.7:80", "192.0.2.7", 80),
        (RegistrationSettings(port=19900), "127.0.0.1:9900", "consul-edge:19900", "", 19900),
        (RegistrationSettings("2001:db8::1"), "::1:9900", "consul-edge:2001:db8::1:9900", "2001:db8::1", 9900),
    ],
)
def test_what_is_registered(settings: RegistrationSettings, admin: str, id_: str, address: str, port: int) -> None:
    host, _, number = admin.rpartition(":")
    assert service(settings, Address(host, int(number))) == {
        "Name": "consul-edge",
        "ID": id_,
        "Address": address,
        "Port": port,
        "Meta": {"version": VERSION},
    }


def test_a_node_is_registered_with_a_check_of_its_readiness_and_no_tag_that_would_expose_it() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("2001:db8::1")) as (_, agent):
            shown = await registered(agent)
            assert (shown["Address"], shown["Port"], shown["Tags"]) == ("2001:db8::1", 9900, [])
            check = agent.writes[0]["Check"]
            assert check["HTTP"] == "http://[2001:db8::1]:9900/health/ready"
            assert (check["Interval"], check["Status"]) == ("10s", "passing")

    asyncio.run(main())


def test_without_an_address_it_is_the_nodes_that_the_agent_has() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings(), ready=False) as (_, agent):
            assert (await registered(agent))["Address"] == ""
            check = agent.writes[0]["Check"]
            assert check["HTTP"] == f"http://{await agent.address()}:9900/health/ready"
            assert check["Status"] == "critical", "it was not ready"

    asyncio.run(main())


def test_nothing_is_written_while_the_agent_has_it() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (_, agent):
            await registered(agent)
            await agent.looked(5)
            assert len(agent.writes) == 1

    asyncio.run(main())


@pytest.mark.parametrize("other", [{"Port": 1}, {"Address": "192.0.2.8"}, {"Meta": {"version": "older"}}])
def test_what_differs_is_written_anew(other: dict[str, Any]) -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (_, agent):
            wanted = await registered(agent)
            await LocalAgent.register(agent, {**service(RegistrationSettings("192.0.2.7"), ADMIN), **other})

            async def right() -> bool:
                return await registered(agent) == wanted

            await until(right)
            assert len(agent.writes) == 2

    asyncio.run(main())


def test_an_agent_that_lost_it_gets_it_again() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (_, agent):
            await agent.deregister((await registered(agent))["ID"])
            await registered(agent)
            assert len(agent.writes) == 2

    asyncio.run(main())


def test_an_agent_that_is_down_is_told_later_and_the_problem_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7"), down=True) as (one, agent):
            await agent.looked(2)
            assert one.problem == "it is down"
            agent.down = False
            await registered(agent)
            await agent.looked(1)
            assert one.problem == ""

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert [record.message for record in caplog.records if record.name == "lb.registration"] == [
        "not registered",
        "registered",
    ]


def test_a_fault_is_told_and_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (one, agent):
            ours = (await registered(agent))["ID"]
            agent.fault = RuntimeError("not foreseen")

            async def told() -> bool:
                return one.problem == "a fault: RuntimeError: not foreseen"

            await until(told)
            agent.fault = None
            await agent.deregister(ours)
            await registered(agent)
            await agent.looked(1)
            assert one.problem == ""

    asyncio.run(main())
    assert "not foreseen" in caplog.text


def test_a_node_that_goes_is_deregistered() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (one, agent):
            await registered(agent)
            await one.withdraw()
            assert agent.closed
            looks = agent.looks
            other = LocalAgent(ConsulSettings(agents=(agent.url,)))
            assert await other.services() == {}
            await other.close()
            await asyncio.sleep(3 * SOON)
            assert agent.looks == looks, "nobody looks any more"

    asyncio.run(main())


def test_one_that_is_followed_by_another_program_stays_registered() -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (one, agent):
            await registered(agent)
            await one.leave()
            assert agent.closed
            heir = CountingAgent(ConsulSettings(agents=(agent.url,)))
            successor = Registration(RegistrationSettings("192.0.2.7"), lambda: heir, lambda: True, SOON)
            successor.begin(ADMIN)
            await heir.looked(3)
            assert heir.writes == [], "it is there as it should be"
            await successor.leave()

    asyncio.run(main())


def test_a_node_goes_soon_though_the_agent_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with registration(RegistrationSettings("192.0.2.7")) as (one, agent):
            await registered(agent)

            async def hang(_: str) -> None:
                await asyncio.Event().wait()

            agent.deregister = hang  # type: ignore[method-assign]
            async with asyncio.timeout(5):
                await one.withdraw()

    asyncio.run(main())
    assert "not deregistered" in caplog.text
