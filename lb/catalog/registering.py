"""Writing to the agent of this host: its services and their checks.

What an agent holds is its own: all calls here concern the one agent, not the catalog of a datacenter, and no other
agent can stand in for it.

IDs stand in paths as they are: the client library quotes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from lb.catalog.client import Agent, Token
from lb.errors import AgentRefused, BadAnswer
from lb.settings import ConsulSettings

Status = Literal["passing", "warning", "critical"]

CONNECTIONS = 8
"""TCP connections to the agent; what more is asked or written at once waits for one."""

_NOT_FOUND = 404


class LocalAgent:
    """The first agent of the settings, for what only it can do. To be made and closed inside one event loop.

    Every call raises `AgentUnreachable`, `AgentRefused` or `BadAnswer`. Each token read from a file is told to `hide`.
    """

    def __init__(self, settings: ConsulSettings, hide: Callable[[str], None] = lambda _: None) -> None:
        # An agent's own paths know no datacenter.
        settings = replace(settings, max_connections=CONNECTIONS, datacenter="")
        self._wait = settings.wait
        self._agent = Agent(settings.agents[0], settings, Token(settings, hide))

    @property
    def url(self) -> str:
        """The agent's base URL."""
        return self._agent.url

    async def node(self) -> str:
        """Return the name of the agent's node."""
        body = await self._get("/v1/agent/self")
        config = body.get("Config")
        name = config.get("NodeName") if isinstance(config, dict) else None
        if not isinstance(name, str) or not name:
            raise BadAnswer("/v1/agent/self names no node")
        return name

    async def address(self) -> str:
        """Return the address of the agent's node, which is that of services without one of their own."""
        body = await self._get("/v1/agent/self")
        member = body.get("Member")
        address = member.get("Addr") if isinstance(member, dict) else None
        if not isinstance(address, str) or not address:
            raise BadAnswer("/v1/agent/self names no address")
        return address

    async def services(self) -> dict[str, Any]:
        """Return the services that are registered with the agent, by ID, as its API shows them."""
        return await self._get("/v1/agent/services")

    async def checks(self) -> dict[str, Any]:
        """Return the checks of the agent's node and services, by ID, as its API shows them."""
        return await self._get("/v1/agent/checks")

    async def service(self, service_id: str, other_than: str = "") -> dict[str, Any] | None:
        """Return one service as the agent's API shows it, with its `ContentHash`; None if there is none.

        With `other_than`, wait for up to `ConsulSettings.wait` seconds until its hash is not that any more.
        """
        path = f"/v1/agent/service/{service_id}"
        try:
            return await self._get(path, other_than)
        except AgentRefused as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def register(self, service: Mapping[str, Any]) -> None:
        """Register a service (the body of `/v1/agent/service/register`), in place of one with the same ID.

        Checks that an earlier registration had and this one has not are removed (Consul 1.4 and newer).
        """
        await self._agent.put("/v1/agent/service/register", service, {"replace-existing-checks": "true"})

    async def deregister(self, service_id: str) -> None:
        """Remove a service and its checks; `AgentRefused` if there is none."""
        await self._agent.put(f"/v1/agent/service/deregister/{service_id}")

    async def tell(self, check_id: str, status: Status, output: str = "") -> None:
        """Tell the status of a TTL check, which begins its time anew."""
        await self._agent.put(f"/v1/agent/check/update/{check_id}", {"Status": status, "Output": output})

    async def close(self) -> None:
        """Close all connections."""
        await self._agent.close()

    async def _get(self, path: str, other_than: str = "") -> dict[str, Any]:
        wait = self._wait if other_than else 0.0
        body = (await self._agent.get(path, consistency="default", content_hash=other_than, wait=wait)).body
        if not isinstance(body, dict):
            raise BadAnswer(f"{path} is no object")
        return body
