"""This node as a service of Consul: `consul-edge`, its admin server, which Prometheus finds by Consul discovery."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable
from typing import Any

from lb.catalog.registering import LocalAgent
from lb.errors import AgentRefused, CatalogError
from lb.observe.log import fields
from lb.settings import Address, RegistrationSettings
from lb.version import VERSION

NAME = "consul-edge"
LOOK_INTERVAL = 30.0
"""Seconds between looks at whether the agent still has the registration: one read each, and no write while it has."""

CHECK_INTERVAL = "10s"
CHECK_TIMEOUT = "5s"
FORGOTTEN_AFTER = "10m"
"""After so long without a good answer, Consul removes a node that ended without a word."""

PATIENCE = 2.0
"""Seconds that the end of a node waits for the agent."""

_FIRST_RETRY = 1.0

log = logging.getLogger(__name__)


class Registration:
    """Keeps a node registered with the agent of its host, and registers it anew when the agent has lost it.

    `ready` tells whether the node is ready: the check starts as that. All calls but the constructor need a running
    loop; `make_agent` is called in it. While `problem` is not empty it says why the node is not registered.
    """

    def __init__(
        self,
        settings: RegistrationSettings,
        make_agent: Callable[[], LocalAgent],
        ready: Callable[[], bool],
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._settings = settings
        self._make_agent = make_agent
        self._ready = ready
        self._interval = interval
        self._over = asyncio.Event()
        self._agent: LocalAgent | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._service: dict[str, Any] = {}
        self.problem = ""

    def begin(self, admin: Address) -> None:
        """Register, and see to it from now on; `admin` is where the admin server listens."""
        self._service = service(self._settings, admin)
        self._agent = self._make_agent()
        self._keeping = asyncio.get_running_loop().create_task(self._keep(self._agent), name="registration")

    async def leave(self) -> None:
        """End, and stay registered: another program has this node's place."""
        await self._end()
        if self._agent is not None:
            agent, self._agent = self._agent, None
            await agent.close()

    async def withdraw(self) -> None:
        """Deregister and end; an agent that does not do so in time is left to its check."""
        await self._end()
        if self._agent is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._agent.deregister(self._service["ID"])
            log.info("deregistered", extra=fields(id=self._service["ID"]))
        except AgentRefused as error:
            log.info("not deregistered", extra=fields(id=self._service["ID"], reason=error))  # it is not there
        except (CatalogError, TimeoutError) as error:
            reason = str(error) or f"no answer within {PATIENCE:.0f} s"
            log.warning("not deregistered", extra=fields(id=self._service["ID"], reason=reason))
        await self.leave()

    async def _end(self) -> None:
        """Look no more. What is being written is waited for: cut off, it might reach the agent after what follows."""
        self._over.set()
        if self._keeping is not None:
            _, late = await asyncio.wait({self._keeping}, timeout=PATIENCE)
            for task in late:
                task.cancel()
            self._keeping = None

    async def _keep(self, agent: LocalAgent) -> None:
        retry = _FIRST_RETRY
        while not self._over.is_set():
            try:
                await self._look(agent)
            except Exception as error:
                self._note(*_told(error))
                pause, retry = retry, min(2 * retry, LOOK_INTERVAL)
            else:
                self._note("")
                pause, retry = self._interval, _FIRST_RETRY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()

    def _note(self, problem: str, fault: Exception | None = None) -> None:
        if problem and problem != self.problem:
            log.warning("not registered", exc_info=fault, extra=fields(id=self._service["ID"], reason=problem))
        self.problem = problem

    async def _look(self, agent: LocalAgent) -> None:
        """Register unless the agent has us as we are. Raises CatalogError."""
        shown = (await agent.services()).get(self._service["ID"])
        if isinstance(shown, dict) and _same(shown, self._service):
            return
        address = self._service["Address"] or await agent.address()
        check = _check(Address(address, self._service["Port"]), ready=self._ready())
        await agent.register({**self._service, "Check": check})
        log.info("registered", extra=fields(id=self._service["ID"], address=address, port=self._service["Port"]))


def service(settings: RegistrationSettings, admin: Address) -> dict[str, Any]:
    """Return what is registered, but for the check, of a node whose admin server listens on `admin`.

    An empty address is, as for Consul, that of the agent's node. Several nodes of one host differ in address or port,
    and so in their IDs. There are no tags: to an edge those say what it should expose.
    """
    address = settings.address
    if not address and not ipaddress.ip_address(admin.host).is_unspecified and not settings.port:
        address = admin.host
    port = settings.port or admin.port
    return {
        "Name": NAME,
        "ID": ":".join(filter(None, (NAME, address, str(port)))),
        "Address": address,
        "Port": port,
        "Meta": {"version": VERSION},
    }


def _told(error: Exception) -> tuple[str, Exception | None]:
    """What is told of an error, and the error itself if it is a fault of ours."""
    if isinstance(error, CatalogError):
        return str(error), None
    return f"a fault: {type(error).__name__}: {error}", error


def _check(address: Address, *, ready: bool) -> dict[str, Any]:
    return {
        "Name": "ready",
        "HTTP": f"http://{address}/health/ready",
        "Interval": CHECK_INTERVAL,
        "Timeout": CHECK_TIMEOUT,
        "Status": "passing" if ready else "critical",
        "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
    }


def _same(shown: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the agent's entry (`Service` is the name there) is as wanted."""
    return {**shown, "Name": shown.get("Service")}.items() >= wanted.items()
