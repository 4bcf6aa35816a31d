"""The scenario on one machine: three hosts of a cluster as loopback addresses, each with three services."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from lb.demo.agent import alive
from lb.demo.catalog import Catalog, CatalogServer, NodeRecord, ServiceRecord
from lb.demo.samples import HttpBackend, HttpFront, Sample, TcpFront
from lb.settings import Address

DATACENTER = "dc1"
DOMAIN = "tonybai.com"
HOSTS = (
    NodeRecord("consul-1", "127.0.0.11"),
    NodeRecord("consul-2", "127.0.0.12"),
    NodeRecord("consul-3", "127.0.0.13"),
)
BACKEND, FRONT = "httpbackend", "httpfront"
BACKEND_NAME = f"{BACKEND}.service.{DATACENTER}.consul"
FRONT_NAME = f"{FRONT}.{DOMAIN}"

_CONSUL_PORT = 8300


class Cluster:
    """The catalog with its three nodes, and the sample services that are registered on them."""

    def __init__(self, address: Address) -> None:
        self._catalog = Catalog(DATACENTER)
        self._server = CatalogServer(self._catalog, *address, node=HOSTS[0])
        self._running = AsyncExitStack()
        for node in HOSTS:
            service = ServiceRecord("consul", "consul", port=_CONSUL_PORT)
            self._catalog.register(node, service, [alive(node.name)])

    @property
    def url(self) -> str:
        """The base URL of the catalog, once it is started."""
        return self._server.url

    async def start(self) -> None:
        """Start the catalog; raises `ListenError`."""
        await self._server.start()
        self._running.push_async_callback(self._server.stop)

    async def stop(self) -> None:
        """Stop the samples and the catalog."""
        await self._running.aclose()

    async def add_backends(self, port: int) -> None:
        """Start `httpbackend` on each host, all on one port, as hosts publish it."""
        await self._add(BACKEND, [HttpBackend(Address(node.address, port)) for node in HOSTS])

    async def add_fronts(self, backend_port: int, dns: Address) -> None:
        """Start `httpfront` on each host, on random ports; it asks `dns` for the backend."""
        backend = Address(BACKEND_NAME, backend_port)
        fronts = [HttpFront(Address(node.address, 0), backend, dns) for node in HOSTS]
        await self._add(FRONT, fronts, tags=("http",))

    async def add_echoes(self, edge_port: int) -> None:
        """Start `tcpfront` on each host, on random ports; edges listen on `edge_port` for it."""
        echoes = [TcpFront(Address(node.address, 0)) for node in HOSTS]
        await self._add(f"tcpfront-{edge_port}", echoes, tags=("tcp",))

    async def _add(self, name: str, samples: Sequence[Sample], tags: tuple[str, ...] = ()) -> None:
        """Start a sample on each host, then register it there."""
        for number, (node, sample) in enumerate(zip(HOSTS, samples, strict=True), 1):
            await sample.start()
            self._running.push_async_callback(sample.stop)
            service = ServiceRecord(f"{name}-{number}", name, *sample.address, tags)
            if node == self._server.agent.node:
                self._server.agent.register_service(service)
            else:
                self._catalog.register(node, service)
