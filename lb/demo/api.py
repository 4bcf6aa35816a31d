"""The embedded catalog's HTTP API: the endpoints of Consul 1.8.7 that consul-edge and its tests use.

A question may be blocking (`index`, `wait`): it is answered when its index rises above the given one, or
unchanged when the wait is over. A request for something that is not offered here is refused with a text that
says so, never answered as if it had not been asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from lb.demo import bodies, queries
from lb.demo.agent import Agent
from lb.demo.fields import parse_duration
from lb.demo.queries import Query
from lb.demo.records import CRITICAL, PASSING, WARNING, ApiError, Json
from lb.demo.state import Catalog

DEFAULT_WAIT, LONGEST_WAIT = 300.0, 600.0
"""Seconds that a blocking query waits: without `wait`, and at most (Consul's `MaxQueryTime`)."""

_JITTER = 1 / 16
"""A wait is prolonged by at most this part of itself, so that many waits do not end at once."""

_NOT_OFFERED = ("node-meta", "ns", "segment")

_dumps = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The parameters that every question takes."""

    index: int
    wait: float
    consistency: str

    @classmethod
    def parse(cls, params: Mapping[str, str]) -> ReadOptions:
        """Read them from a query string; raises `ApiError`."""
        if "stale" in params and "consistent" in params:
            raise ApiError(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
        index = params.get("index") or "0"
        if not (index.isascii() and index.isdigit() and len(index) <= 20):
            raise ApiError(400, "Invalid index")
        try:
            wait = parse_duration(params["wait"]) if params.get("wait") else 0.0
        except ValueError as error:
            raise ApiError(400, "Invalid wait time") from error
        if wait <= 0:
            wait = DEFAULT_WAIT
        modes = [mode for mode in ("stale", "consistent") if mode in params]
        return cls(int(index), min(wait, LONGEST_WAIT), modes[0] if modes else "leader")


class Api:
    """The handlers, over one catalog and the agent of one of its nodes."""

    def __init__(self, catalog: Catalog, agent: Agent) -> None:
        self._catalog = catalog
        self._agent = agent
        self._changed = asyncio.Event()
        self._closing = False
        self._unsubscribe = catalog.subscribe(self._wake)

    def close(self) -> None:
        """Answer everyone who waits, and let nobody wait any more."""
        self._closing = True
        self._unsubscribe()
        self._wake()

    def application(self) -> web.Application:
        """Return the aiohttp application that serves all endpoints."""
        app = web.Application(middlewares=[_refusals])
        get: Mapping[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/v1/agent/self": self._self,
            "/v1/agent/services": self._agent_services,
            "/v1/status/leader": self._leader,
            "/v1/catalog/datacenters": self._datacenters,
            "/v1/catalog/services": self._services,
            "/v1/catalog/nodes": self._nodes,
            "/v1/catalog/service/{name:.*}": self._service,
            "/v1/catalog/node/{name:.*}": self._node,
            "/v1/health/service/{name:.*}": self._service_health,
            "/v1/health/state/{name:.*}": self._checks_in_state,
            "/v1/health/node/{name:.*}": self._node_checks,
            "/v1/health/checks/{name:.*}": self._service_checks,
        }
        put: Mapping[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/v1/agent/service/register": self._register_service,
            "/v1/agent/service/deregister/{id:.*}": self._deregister_service,
            "/v1/agent/service/maintenance/{id:.*}": self._maintenance,
            "/v1/agent/check/register": self._register_check,
            "/v1/agent/check/deregister/{id:.*}": self._deregister_check,
            "/v1/agent/check/pass/{id:.*}": self._check_setter(PASSING),
            "/v1/agent/check/warn/{id:.*}": self._check_setter(WARNING),
            "/v1/agent/check/fail/{id:.*}": self._check_setter(CRITICAL),
            "/v1/agent/check/update/{id:.*}": self._update_check,
            "/v1/catalog/register": self._catalog_register,
            "/v1/catalog/deregister": self._catalog_deregister,
        }
        app.add_routes([web.get(path, handler, allow_head=False) for path, handler in get.items()])
        app.add_routes([web.put(path, handler) for path, handler in put.items()])
        return app

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _read(self, request: web.Request, query: Query) -> web.Response:
        """Answer a question, waiting for a change first if the request asks for that."""
        options = ReadOptions.parse(request.query)
        self._check_datacenter(request.query.get("dc", ""))
        if options.index:
            wait = options.wait * (1 + random.random() * _JITTER)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    while query.index() <= options.index and not self._closing:
                        await self._changed.wait()
        headers = {
            "X-Consul-Index": str(max(query.index(), 1)),
            "X-Consul-KnownLeader": "true",
            "X-Consul-LastContact": "0",
            "X-Consul-Effective-Consistency": options.consistency,
        }
        if "cached" in request.query:
            headers["X-Cache"] = "MISS"
        return _json(query.answer(), headers)

    def _check_datacenter(self, name: str) -> None:
        if name not in ("", self._catalog.datacenter):
            raise ApiError(500, "No path to datacenter")

    # Questions about the agent.

    async def _self(self, request: web.Request) -> web.Response:
        node = self._agent.node
        config: Json = {
            "Datacenter": self._catalog.datacenter,
            "NodeName": node.name,
            "NodeID": node.id,
            "Server": True,
            "Version": "1.8.7",
        }
        return _json({"Config": config, "Member": {"Name": node.name, "Addr": node.address, "Status": 1}})

    async def _agent_services(self, request: web.Request) -> web.Response:
        return _json({service.id: service.agent_json() for service in self._agent.services.values()})

    async def _leader(self, request: web.Request) -> web.Response:
        return _json(f"{self._agent.node.address}:8300")

    # Questions about the catalog.

    async def _datacenters(self, request: web.Request) -> web.Response:
        return _json([self._catalog.datacenter])

    async def _services(self, request: web.Request) -> web.Response:
        return await self._read(request, queries.services(self._catalog))

    async def _nodes(self, request: web.Request) -> web.Response:
        return await self._read(request, queries.nodes(self._catalog))

    async def _service(self, request: web.Request) -> web.Response:
        name = _named(request, "Missing service name")
        return await self._read(request, queries.service(self._catalog, name, _tags(request)))

    async def _node(self, request: web.Request) -> web.Response:
        name = _named(request, "Missing node name")
        return await self._read(request, queries.node(self._catalog, name))

    async def _service_health(self, request: web.Request) -> web.Response:
        name = _named(request, "Missing service name")
        only_passing = "passing" in request.query and _flag(request.query["passing"] or "true", "?passing")
        query = queries.service_health(self._catalog, name, _tags(request), only_passing)
        return await self._read(request, query)

    async def _checks_in_state(self, request: web.Request) -> web.Response:
        state = _named(request, "Missing check state")
        query = queries.checks_in_state(self._catalog, state, request.query.get("filter", ""))
        return await self._read(request, query)

    async def _node_checks(self, request: web.Request) -> web.Response:
        name = _named(request, "Missing node name")
        return await self._read(request, queries.node_checks(self._catalog, name))

    async def _service_checks(self, request: web.Request) -> web.Response:
        name = _named(request, "Missing service name")
        return await self._read(request, queries.service_checks(self._catalog, name))

    # Calls to the agent.

    async def _register_service(self, request: web.Request) -> web.Response:
        wanted = bodies.agent_service(await request.read(), self._agent.node.name)
        replace = request.query.get("replace-existing-checks")
        self._agent.register_service(
            wanted.service,
            wanted.checks,
            replace_existing_checks=replace is not None and _flag(replace or "true", "?replace-existing-checks"),
        )
        return web.Response()

    async def _deregister_service(self, request: web.Request) -> web.Response:
        if not request.match_info["id"]:
            raise ApiError(500, "ServiceID missing")
        self._agent.deregister_service(request.match_info["id"])
        return web.Response()

    async def _maintenance(self, request: web.Request) -> web.Response:
        if not request.match_info["id"]:
            raise ApiError(400, "Missing service ID")
        if not request.query.get("enable"):
            raise ApiError(400, "Missing value for enable")
        enable = _flag(request.query["enable"], "enable")
        self._agent.set_maintenance(request.match_info["id"], enable, request.query.get("reason", ""))
        return web.Response()

    async def _register_check(self, request: web.Request) -> web.Response:
        self._agent.register_check(bodies.agent_check(await request.read(), self._agent.node.name))
        return web.Response()

    async def _deregister_check(self, request: web.Request) -> web.Response:
        if not request.match_info["id"]:
            raise ApiError(500, "CheckID missing")
        self._agent.deregister_check(request.match_info["id"])
        return web.Response()

    def _check_setter(self, status: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def set_check(request: web.Request) -> web.Response:
            self._agent.update_check(request.match_info["id"], status, request.query.get("note", ""))
            return web.Response()

        return set_check

    async def _update_check(self, request: web.Request) -> web.Response:
        status, output = bodies.check_update(await request.read())
        self._agent.update_check(request.match_info["id"], status, output)
        return web.Response()

    # Calls to the catalog.

    async def _catalog_register(self, request: web.Request) -> web.Response:
        wanted = bodies.catalog_registration(await request.read())
        self._check_datacenter(wanted.datacenter)
        self._catalog.register(wanted.node, wanted.service, wanted.checks, skip_node_update=wanted.skip_node_update)
        return _json(True)

    async def _catalog_deregister(self, request: web.Request) -> web.Response:
        wanted = bodies.catalog_deregistration(await request.read())
        self._check_datacenter(wanted.datacenter)
        self._catalog.deregister(wanted.node, service_id=wanted.service_id, check_id=wanted.check_id)
        return _json(True)


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn an `ApiError` into its reply, and refuse parameters whose meaning is not offered here."""
    try:
        for name in _NOT_OFFERED:
            if name in request.query:
                raise ApiError(400, f"?{name} is not offered by the embedded catalog")
        if "filter" in request.query and not request.path.startswith("/v1/health/state/"):
            raise ApiError(400, "?filter is offered by the embedded catalog for /v1/health/state/ only")
        return await handler(request)
    except ApiError as error:
        return web.Response(status=error.status, text=str(error))


def _named(request: web.Request, missing: str) -> str:
    name = request.match_info["name"]
    if not name:
        raise ApiError(400, missing)
    return name


def _tags(request: web.Request) -> list[str]:
    return request.query.getall("tag", [])


def _flag(text: str, name: str) -> bool:
    """Return a boolean in one of the spellings that Go's `strconv.ParseBool` takes."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ApiError(400, f'Invalid value for {name}: "{text}"')


def _json(value: Json, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=_dumps(value).encode(), content_type="application/json", headers=headers)
