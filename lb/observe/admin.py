"""The admin server: metrics, health, the API and a page, on aiohttp; read only.

| path | answer |
| --- | --- |
| `/` | a page for people |
| `/metrics` | Prometheus or OpenMetrics text |
| `/health/live` | 200 while the loop runs |
| `/health/ready` | 200, or 503 with the reasons |
| `/api/status`, `/api/services`, `/api/routes` | JSON |

Large answers are made piece by piece, so that the loop serves others meanwhile. What strangers can cost is
bounded: the size of a request and the number of connections.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiohttp import web

from lb.observe.page import page
from lb.observe.tables import SERVER_NAME

MAX_CONNECTIONS = 128
"""Connections at a time, each for one request; when one more comes, the oldest gives way."""

BACKLOG = 128

_HEADERS = {
    "Server": SERVER_NAME,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_ITEMS = 50
"""Services or routes encoded in one go: about a millisecond of work."""

_log = logging.getLogger(__name__)

Json = Mapping[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class AdminSources:
    """What the admin server shows; each is asked anew for each request, on the loop.

    `refresh` brings up to now what they show. `services` and `routes` may be generators, but the loop goes on between
    their steps: they must not iterate over what changes meanwhile. `ready` gives the reasons against it. `metrics`
    takes the `Accept` field and gives the page in pieces and its content type (`Metrics.stream`).
    """

    refresh: Callable[[], Awaitable[None]]
    status: Callable[[], Json]
    services: Callable[[], Iterable[Json]]
    routes: Callable[[], Iterable[Json]]
    ready: Callable[[], tuple[bool, Sequence[str]]]
    metrics: Callable[[str], tuple[Iterator[bytes], str]]


class AdminServer:
    """Serves `sources` on a listening socket, from `start` to `stop`."""

    def __init__(self, sources: AdminSources) -> None:
        self._sources = sources
        self._server: asyncio.Server | None = None
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            lingering_time=0,
            shutdown_timeout=1.0,
        )

    async def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket, which is the server's from here."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Close the socket and the connections; an answer under way has a second to finish."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        """Make the protocol of a new connection. A silent or slow client keeps its own until room is needed."""
        server = self._runner.server
        assert server is not None  # it is there from set-up to clean-up
        if len(server.connections) >= MAX_CONNECTIONS:
            oldest = server.connections[0].transport
            if oldest is not None:
                oldest.abort()
        return server()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/services", self._services)
        app.router.add_get("/api/routes", self._routes)
        return app

    async def _page(self, _: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        return web.Response(text=page(self._sources.status(), self._sources.routes()), content_type="text/html")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        pieces, content_type = self._sources.metrics(request.headers.get("Accept", ""))
        body = bytearray()
        for piece in pieces:
            body += piece
            await asyncio.sleep(0)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _live(self, _: web.Request) -> web.StreamResponse:
        return _json({"live": True})

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        ready, reasons = self._sources.ready()
        return _json({"ready": ready, "reasons": list(reasons)}, status=200 if ready else 503)

    async def _status(self, _: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        return _json(self._sources.status())

    async def _services(self, _: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        return await _json_list(self._sources.services())

    async def _routes(self, _: web.Request) -> web.StreamResponse:
        await self._sources.refresh()
        return await _json_list(self._sources.routes())


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests with a body, give errors as JSON, and set the fields that every answer has."""
    response: web.StreamResponse
    try:
        if request.can_read_body:
            response = _json({"error": "a request here has no body"}, status=413)
        else:
            response = await handler(request)
    except web.HTTPException as error:
        response = _json({"error": error.reason}, status=error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    except Exception:
        _log.exception("the admin server cannot answer %s", request.path)
        response = _json({"error": "Internal Server Error"}, status=500)
    response.headers.update(_HEADERS)
    response.force_close()
    return response


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value, default=str) + "\n", status=status, content_type="application/json")


async def _json_list(items: Iterable[Json]) -> web.Response:
    """Encode a list, a few items at a time."""
    rest = iter(items)
    pieces: list[str] = []
    while batch := list(islice(rest, _ITEMS)):
        pieces.append(json.dumps(batch, default=str)[1:-1])
        await asyncio.sleep(0)
    return web.Response(text=f"[{', '.join(pieces)}]\n", content_type="application/json")
