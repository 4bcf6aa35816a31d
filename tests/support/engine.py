"""A stand-in for a Docker engine: the few calls of its API that the registrator makes, and whatever else a test wants.

`tests/registrator/test_engine.py` runs one suite on it and on a real daemon, so that it cannot drift.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

Json = dict[str, Any]
T = TypeVar("T")

KILLED = 137
"""Exit status of a container that was killed."""

_END = b""


class FakeEngine:
    """An engine on a Unix socket, served by a loop in a thread of its own; its methods may be called from any thread.

    `inspections` may replace what is answered about a container: by other octets, or by an exception to be raised.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "engine.sock"
        self.host = f"unix://{self._path}"
        self.inspections: dict[str, bytes | web.HTTPException] = {}
        self.asked: list[str] = []  # containers whose inspection was asked for
        self._containers: dict[str, Json] = {}
        self._history: list[Json] = []
        self._listeners: set[asyncio.Queue[bytes]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # What happens to containers

    def start(self, *names: str, port: int = 8000, environment: tuple[str, ...] = ()) -> list[str]:
        """Start containers that publish port 80 on this port and the following ones; return their ids."""

        def begin() -> list[str]:
            ids = [f"{len(self._containers) + number:064x}" for number in range(len(names))]
            for number, (identifier, name) in enumerate(zip(ids, names, strict=True)):
                self._containers[identifier] = _inspection(identifier, name, port + number, environment)
            for identifier in ids:
                self._is_connected(identifier)
                self._happens("start", identifier)
            return ids

        return self._do(begin)

    def kill(self, *ids: str) -> None:
        """Kill containers."""

        def end() -> None:
            for identifier in ids:
                document = self._containers[identifier]
                document["State"] |= {"Running": False, "Status": "exited", "ExitCode": KILLED}
                document["NetworkSettings"]["Ports"] = {}
                self._happens("die", identifier, exitCode=str(KILLED))

        self._do(end)

    def send(self, line: bytes) -> None:
        """Send octets to all that listen for events."""
        self._do(lambda: [queue.put_nowait(line) for queue in self._listeners])

    def end_streams(self) -> None:
        """End the streams of events, as an engine that ends does."""
        self.send(_END)

    def listeners(self) -> int:
        """Return how many listen for events."""
        return len(self._listeners)

    def _is_connected(self, identifier: str) -> None:
        actor = {"ID": "n1", "Attributes": {"container": identifier, "name": "bridge", "type": "bridge"}}
        self._tell({"Type": "network", "Action": "connect", "Actor": actor})

    def _happens(self, action: str, identifier: str, **attributes: str) -> None:
        name = self._containers[identifier]["Name"].lstrip("/")
        actor = {"ID": identifier, "Attributes": {"image": "image", "name": name, **attributes}}
        self._tell({"Type": "container", "Action": action, "Actor": actor})

    def _tell(self, event: Json) -> None:
        now = time.time_ns()
        event |= {"time": now // 1_000_000_000, "timeNano": now}
        self._history.append(event)
        for queue in self._listeners:
            queue.put_nowait(_line(event))

    # The server

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeEngine]:
        """Serve for the length of a `with` block."""
        self._thread.start()
        runner = self._wait(self._serve())
        try:
            yield self
        finally:
            self.end_streams()
            self._wait(runner.cleanup())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    async def _serve(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/version", self._version)
        app.router.add_get("/v1.41/info", self._info)
        app.router.add_get("/v1.41/containers/json", self._list)
        app.router.add_get("/v1.41/containers/{id}/json", self._inspect)
        app.router.add_get("/v1.41/events", self._events)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.UnixSite(runner, str(self._path)).start()
        return runner

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41"})

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response({"SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z")})

    async def _list(self, request: web.Request) -> web.Response:
        wanted = json.loads(request.query["filters"])["status"]
        found = [one for one in self._containers.values() if one["State"]["Status"] in wanted]
        return web.json_response([{"Id": one["Id"], "State": one["State"]["Status"]} for one in found])

    async def _inspect(self, request: web.Request) -> web.Response:
        identifier = request.match_info["id"]
        self.asked.append(identifier)
        instead = self.inspections.get(identifier)
        if isinstance(instead, web.HTTPException):
            raise instead
        if instead is not None:
            return web.Response(body=instead, content_type="application/json")
        if identifier not in self._containers:
            return web.json_response({"message": f"No such container: {identifier}"}, status=404)
        return web.json_response(self._containers[identifier])

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            seconds, _, fraction = request.query["since"].partition(".")
            since = int(seconds) * 1_000_000_000 + int(fraction)
            actions = json.loads(request.query["filters"])["event"]
            for event in self._history:
                if event["timeNano"] >= since and event["Action"] in actions:
                    await response.write(_line(event))
            while line := await queue.get():
                await response.write(line)
        finally:
            self._listeners.discard(queue)
        return response

    def _do(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return self._wait(run())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _inspection(identifier: str, name: str, port: int, environment: tuple[str, ...]) -> Json:
    """Return what Docker says of a container that publishes port 80 on a port of loopback."""
    return {
        "Id": identifier,
        "Name": f"/{name}",
        "State": {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "ExitCode": 0},
        "Config": {"Image": "image", "Env": list(environment), "Labels": {}, "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {
            "NetworkMode": "default",
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        },
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]},
            "Networks": {"bridge": {"NetworkID": "n1", "IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}},
        },
    }
