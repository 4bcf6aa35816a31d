"""The two catalogs that must behave alike: the embedded one, and a real Consul."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from lb.demo.catalog import Catalog, CatalogServer
from tests.support.consul import ConsulApi


@contextlib.contextmanager
def running_catalog() -> Iterator[CatalogServer]:
    """Run an embedded catalog, on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded catalog")
    thread.start()
    try:
        server = CatalogServer(Catalog())
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(params=["embedded", "consul"])
def api(request: pytest.FixtureRequest) -> Iterator[ConsulApi]:
    """Give the API of an empty catalog with one node, `consul-1`."""
    if request.param == "consul":
        yield request.getfixturevalue("consul")
        return
    with running_catalog() as server:
        yield ConsulApi(server.url)
