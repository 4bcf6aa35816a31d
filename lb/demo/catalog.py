"""The embedded catalog as a server: `Catalog` is its state, `CatalogServer` speaks Consul's HTTP API."""

from __future__ import annotations

from aiohttp import web

from lb.demo.agent import Agent
from lb.demo.api import Api
from lb.demo.records import ApiError, CheckRecord, NodeRecord, ServiceRecord
from lb.demo.state import Catalog
from lb.errors import ListenError
from lb.settings import Address

__all__ = [
    "Agent",
    "ApiError",
    "Catalog",
    "CatalogServer",
    "CheckRecord",
    "NodeRecord",
    "ServiceRecord",
]


class CatalogServer:
    """Serves a catalog on `host:port` (0: any free port), as the agent of node `node` would.

    The server joins `node` to the catalog; `agent` registers services there, in the same way as a call of the
    API does.
    """

    def __init__(
        self, catalog: Catalog, host: str = "127.0.0.1", port: int = 0, *, node: NodeRecord | None = None
    ) -> None:
        self.catalog = catalog
        self.agent = Agent(catalog, node or NodeRecord("consul-1", "127.0.0.1"))
        self._wanted = Address(host, port)
        self._address: Address | None = None
        self._api: Api | None = None
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> Address:
        """Where the server listens, once it is started."""
        if self._address is None:
            raise RuntimeError("the catalog server is not started")
        return self._address

    @property
    def url(self) -> str:
        """The base URL, for `--consul`."""
        return f"http://{self.address}"

    async def start(self) -> None:
        """Listen; raises `ListenError`."""
        self._api = Api(self.catalog, self.agent)
        # A client that went away must not leave its blocking query behind: cancel the handler.
        self._runner = web.AppRunner(
            self._api.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._wanted).start()
        except OSError as error:
            await self.stop()
            raise ListenError(f"catalog {self._wanted}: {error.strerror or error}") from error
        host, port = self._runner.addresses[0][:2]
        self._address = Address(host, port)

    async def stop(self) -> None:
        """Answer the blocking queries that wait, close all connections and stop listening."""
        if self._api is None or self._runner is None:
            return
        self._api.close()
        await self._runner.cleanup()
        self._api = self._runner = self._address = None
