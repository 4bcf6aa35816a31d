"""What of the embedded catalog the contract does not tell: its life, its use in-process, its limits."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from lb.demo.catalog import Catalog, CatalogServer, NodeRecord, ServiceRecord
from lb.errors import ListenError
from tests.support.process import port_open

GUARD = 20.0


def test_what_is_registered_in_process_wakes_who_waits_over_http() -> None:
    async def scenario() -> None:
        catalog = Catalog("dc7")
        server = CatalogServer(catalog, node=NodeRecord("n1", "127.0.0.1"))
        await server.start()
        try:
            async with asyncio.timeout(GUARD), aiohttp.ClientSession(server.url) as client:
                async with client.get("/v1/health/service/web") as reply:
                    index = reply.headers["X-Consul-Index"]
                waiting = asyncio.create_task(client.get("/v1/health/service/web", params={"index": index}))
                catalog.register(NodeRecord("n2", "10.0.0.2"), ServiceRecord("w", "web", port=80))
                [entry] = await (await waiting).json()
        finally:
            await server.stop()
        assert (entry["Node"]["Node"], entry["Node"]["Datacenter"], entry["Service"]["Port"]) == ("n2", "dc7", 80)

    asyncio.run(scenario())


class ObservedCatalog(Catalog):
    """A catalog that tells when a question about one of its tables has come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    def table_index(self, *tables: str) -> int:
        self.asked.set()
        return super().table_index(*tables)


def test_stop_answers_who_waits_and_stops_listening() -> None:
    async def scenario() -> None:
        catalog = ObservedCatalog()
        server = CatalogServer(catalog)
        await server.start()
        port = server.address.port
        async with asyncio.timeout(GUARD), aiohttp.ClientSession(server.url) as client:
            waiting = asyncio.create_task(client.get("/v1/catalog/nodes", params={"index": 1, "wait": "10m"}))
            await catalog.asked.wait()
            await server.stop()
            async with await waiting as reply:
                assert [node["Node"] for node in await reply.json()] == ["consul-1"]
        assert not port_open(port)

    asyncio.run(scenario())


def test_port_that_is_taken_is_an_error_that_names_it() -> None:
    async def scenario() -> None:
        first = CatalogServer(Catalog())
        await first.start()
        second = CatalogServer(Catalog(), port=first.address.port)
        try:
            with pytest.raises(ListenError, match=f"catalog 127.0.0.1:{first.address.port}: "):
                await second.start()
        finally:
            await second.stop()
            await first.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "/v1/health/state/any?filter=Node+==+x",
            'filter: only Status != "passing" is understood here, not Node == x',
        ),
        ("/v1/catalog/services?filter=x", "?filter is offered by the embedded catalog for /v1/health/state/ only"),
        ("/v1/catalog/nodes?node-meta=a:b", "?node-meta is not offered by the embedded catalog"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(path: str, text: str) -> None:
    async def scenario() -> None:
        server = CatalogServer(Catalog())
        await server.start()
        try:
            async with (
                asyncio.timeout(GUARD),
                aiohttp.ClientSession(server.url) as client,
                client.get(path) as reply,
            ):
                assert (reply.status, await reply.text()) == (400, text)
        finally:
            await server.stop()

    asyncio.run(scenario())
