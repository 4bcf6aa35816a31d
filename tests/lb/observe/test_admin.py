"""The admin server, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
import uvloop

from lb.observe import admin as admin_module
from lb.observe.admin import AdminServer, AdminSources
from lb.observe.metrics import Metrics
from lb.observe.stats import Stats
from lb.observe.views import CatalogView, endpoint_views, route_json, services_json
from lb.settings import Address
from lb.sockets import Place, address_of, listen
from tests.lb.observe.samples import FakeEndpoint, FakeRoute, a_snapshot, a_status

ANYWHERE = Place("admin", Address("127.0.0.1", 0))


async def _at_once() -> None:
    """There is nothing to be brought up to now."""


def sources() -> AdminSources:
    metrics = Metrics(Stats(), version="1.2.3", endpoints=lambda: (), catalog=CatalogView, problems=lambda: ())
    return AdminSources(
        refresh=_at_once,
        status=a_status,
        services=lambda: services_json(a_snapshot()),
        routes=lambda: [route_json(FakeRoute(), endpoint_views("web", "http", [FakeEndpoint()], now=0))],
        ready=lambda: (True, ()),
        metrics=metrics.stream,
    )


@dataclass
class Reply:
    status: int
    headers: Any
    text: str

    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        return json.loads(self.text)


class Client:
    """Asks one admin server."""

    def __init__(self, address: Address, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session

    async def __call__(self, path: str, method: str = "GET", **options: Any) -> Reply:
        async with self._session.request(method, f"http://{self.address}{path}", **options) as reply:
            return Reply(reply.status, reply.headers, await reply.text())


@asynccontextmanager
async def serving(given: AdminSources) -> AsyncIterator[Client]:
    server = AdminServer(given)
    (sock,) = listen(ANYWHERE)
    address = address_of(sock)
    await server.start(sock)
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(address, session)
    finally:
        await server.stop()


def run(
    test: Callable[[Client], Coroutine[Any, Any, None]], given: AdminSources | None = None, *, on_uvloop: bool = False
) -> None:
    """Run an asynchronous test with an admin server, within ten seconds."""

    async def guarded() -> None:
        async with asyncio.timeout(10), serving(given or sources()) as client:
            await test(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on_uvloop else None) as runner:
        runner.run(guarded())


@pytest.mark.parametrize("on_uvloop", [False, True])
def test_the_api_answers_in_json(on_uvloop: bool) -> None:
    async def test(get: Client) -> None:
        assert (await get("/api/status")).json()["version"] == "1.2.3"
        (service,) = (await get("/api/services")).json()
        assert service["service"] == "web"
        (route,) = (await get("/api/routes")).json()
        assert route["endpoints"][0]["endpoint"] == "10.0.0.1:80"
        assert (await get("/health/live")).status == 200

    run(test, on_uvloop=on_uvloop)


def test_a_long_list_comes_whole_and_lets_the_loop_go_on() -> None:
    turns = 0

    async def test(get: Client) -> None:
        nonlocal turns
        asked = asyncio.create_task(get("/api/routes"))
        while not asked.done():
            turns += 1
            await asyncio.sleep(0)
        services = [route["service"] for route in (await asked).json()]
        assert services == [f"web-{number}" for number in range(1001)]

    def routes() -> Iterator[dict[str, Any]]:
        started = turns
        for number in range(1001):
            yield route_json(FakeRoute(f"web-{number}"), ())
        assert turns >= started + 20

    run(test, replace(sources(), routes=routes))


def test_no_routes_is_an_empty_list() -> None:
    async def test(get: Client) -> None:
        assert (await get("/api/routes")).json() == []

    run(test, replace(sources(), routes=lambda: []))


def test_readiness_is_red_with_its_reasons() -> None:
    reasons: list[str] = ["no catalog yet"]

    async def test(get: Client) -> None:
        red = await get("/health/ready")
        assert (red.status, red.json()) == (503, {"ready": False, "reasons": ["no catalog yet"]})
        reasons.clear()
        green = await get("/health/ready")
        assert (green.status, green.json()) == (200, {"ready": True, "reasons": []})

    run(test, replace(sources(), ready=lambda: (not reasons, reasons)))


def test_metrics_in_both_formats() -> None:
    async def test(get: Client) -> None:
        plain = await get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=")
        assert 'lb_build_info{version="1.2.3"} 1.0' in plain.text
        opened = await get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert opened.headers["Content-Type"].startswith("application/openmetrics-text")
        assert opened.text.endswith("# EOF\n")

    run(test)


def test_the_page() -> None:
    async def test(get: Client) -> None:
        shown = await get("/")
        assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "web.example.com" in shown.text
        assert "default-src 'none'" in shown.headers["Content-Security-Policy"]

    run(test)


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/ready", "/api/status", "/nothing"])
def test_no_answer_may_be_stored(path: str) -> None:
    async def test(get: Client) -> None:
        reply = await get(path)
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] == "consul-edge"

    run(test)


def test_only_get_and_head() -> None:
    async def test(get: Client) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            refused = await get("/api/status", method)
            assert (refused.status, refused.headers["Allow"]) == (405, "GET,HEAD")
            assert refused.json() == {"error": "Method Not Allowed"}
        head = await get("/api/status", "HEAD")
        assert (head.status, head.text) == (200, "")
        assert int(head.headers["Content-Length"]) > 100
        assert (await get("/nothing")).json() == {"error": "Not Found"}

    run(test)


def test_a_body_is_refused_unread() -> None:
    async def test(get: Client) -> None:
        reader, writer = await asyncio.open_connection(*get.address)
        writer.write(b"GET /api/status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.close()

    run(test)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 10000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 10000 + b"\r\n\r\n",
        b"\x16\x03\r\n\r\n",
    ],
)
def test_a_bad_or_large_head_is_refused(head: bytes) -> None:
    async def test(get: Client) -> None:
        reader, writer = await asyncio.open_connection(*get.address)
        writer.write(head)
        assert (await reader.read()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        writer.close()
        assert (await get("/health/live")).status == 200

    run(test)


def test_a_failing_source_is_an_error_of_its_own_page_alone(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise KeyError("secret detail")

    async def test(get: Client) -> None:
        failed = await get("/api/status")
        assert (failed.status, failed.json()) == (500, {"error": "Internal Server Error"})
        assert (await get("/api/routes")).status == 200

    run(test, replace(sources(), status=broken))
    assert "the admin server cannot answer /api/status" in caplog.text


@pytest.mark.parametrize("on_uvloop", [False, True])
@pytest.mark.parametrize("sent", [b"", b"GET /health/live HTTP/1.1\r\nHost:"])
def test_the_oldest_connection_gives_way_to_one_over_the_limit(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, on_uvloop: bool
) -> None:
    monkeypatch.setattr(admin_module, "MAX_CONNECTIONS", 2)

    async def test(get: Client) -> None:
        (oldest, first), (younger, second) = [await asyncio.open_connection(*get.address) for _ in range(2)]
        first.write(sent)
        assert (await get("/health/live")).status == 200
        assert await oldest.read() == b""
        second.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await younger.read()).startswith(b"HTTP/1.1 200 ")
        for writer in (first, second):
            writer.close()

    run(test, on_uvloop=on_uvloop)


def test_a_client_that_does_not_read_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "MAX_CONNECTIONS", 1)
    started = asyncio.Event()

    def endless(_: str) -> tuple[Iterator[bytes], str]:
        started.set()
        return iter([bytes(32 << 20)]), "text/plain"

    async def test(get: Client) -> None:
        reader, writer = await asyncio.open_connection(*get.address, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        assert (await get("/health/live")).status == 200
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(32 << 20)
        writer.close()

    run(test, replace(sources(), metrics=endless))


def test_a_connection_carries_one_request() -> None:
    async def test(get: Client) -> None:
        reader, writer = await asyncio.open_connection(*get.address)
        writer.write(b"HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert b"Connection: close" in answer
        writer.close()

    run(test)


def test_stop_frees_the_address_and_ends_silent_connections() -> None:
    async def test() -> None:
        server = AdminServer(sources())
        (sock,) = listen(ANYWHERE)
        address = address_of(sock)
        await server.start(sock)
        reader, writer = await asyncio.open_connection(*address)
        async with asyncio.timeout(5):
            await server.stop()
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    asyncio.run(test())
