"""One node, put together: the catalog watch, the planes, the admin server; started, and drained at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from dnsserver.metrics import DnsCollector
from dnsserver.server import DnsServer
from dnsserver.stats import DnsStats
from lb.catalog.model import Problem, Snapshot
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.observe.accesslog import open_log
from lb.observe.admin import AdminServer, AdminSources
from lb.observe.log import fields
from lb.observe.metrics import Metrics
from lb.observe.stats import Stats
from lb.observe.views import (
    CatalogView,
    EndpointView,
    catalog_view,
    dns_json,
    endpoint_views,
    route_json,
    services_json,
    status_json,
)
from lb.proxy.plane import BalancerPlane
from lb.settings import Address, Settings
from lb.version import VERSION

_CANCEL_AGAIN = 0.2  # seconds

log = logging.getLogger(__name__)


class Node:
    """Everything that one `consul-edge` process runs.

    `start` and `stop` are called once each, in a running loop; `run` does both around a wait for SIGTERM or SIGINT.
    Each token read from a file is told to `hide`. Raises SettingsError for files that cannot be used.
    """

    def __init__(self, settings: Settings, hide: Callable[[str], None] = lambda _: None) -> None:
        self._settings = settings
        self._stats = Stats()
        self._started = time.monotonic()
        self._draining = False
        self._watching: asyncio.Task[None] | None = None
        self._store = Store(settings.consul.state_dir)
        self._store.load()
        self._watcher = Watcher(settings.consul, self._store, hide)
        self._access_log = open_log(settings.access_log)
        self._plane = BalancerPlane(settings, self._stats, self._access_log)
        self._dns: DnsServer | None = None
        self._dns_stats = DnsStats()
        if settings.dns is not None:
            self._dns = DnsServer(settings.dns, self._dns_stats)
        metrics = Metrics(
            self._stats,
            version=VERSION,
            endpoints=lambda: iter(list(self._endpoints())),
            catalog=self._catalog,
            problems=self._problems,
            access_log=self._access_log,
            extra=[DnsCollector(self._dns_stats).collect] if self._dns is not None else [],
        )
        sources = AdminSources(
            status=self._status,
            services=lambda: services_json(self._store.snapshot, self._plane.problems),
            routes=self._routes,
            ready=self.ready,
            metrics=metrics.stream,
        )
        self._admin = AdminServer(settings.admin, sources)

    @property
    def snapshot(self) -> Snapshot:
        """The catalog in use."""
        return self._store.snapshot

    @property
    def http_addresses(self) -> tuple[Address, ...]:
        """The addresses that HTTP listens on."""
        return self._plane.http_addresses

    @property
    def dns_addresses(self) -> tuple[Address, ...]:
        """The addresses that DNS listens on."""
        return self._dns.addresses if self._dns is not None else ()

    @property
    def admin_address(self) -> Address | None:
        """The address of the admin server."""
        return self._admin.address

    async def start(self) -> None:
        """Listen everywhere, then follow the catalog. Raises ListenError; nothing is left open then."""
        try:
            await self._plane.start()
            if self._dns is not None:
                await self._dns.start()
            await self._admin.start()
        except BaseException:
            await self._close(0.0)
            raise
        self._store.subscribe(self._apply)
        if self._store.snapshot.generation:
            self._apply(self._store.snapshot)
        self._watching = asyncio.get_running_loop().create_task(self._watcher.run(), name="catalog watch")
        log.info(
            "started",
            extra=fields(
                version=VERSION,
                http=",".join(map(str, self.http_addresses)) or "off",
                tls=",".join(map(str, self._plane.tls_addresses)) or "off",
                dns=",".join(map(str, self.dns_addresses)) or "off",
                admin=str(self.admin_address or "off"),
            ),
        )

    async def stop(self) -> None:
        """Drain and close: readiness goes red first, then listeners close, then what is in flight may end."""
        drain = self._settings.drain
        self._draining = True
        log.info("draining", extra=fields(delay=drain.delay, timeout=drain.timeout))
        await asyncio.sleep(drain.delay)
        await self._close(drain.timeout)
        log.info("stopped")

    async def _close(self, grace: float) -> None:
        end = time.monotonic() + grace
        await self._plane.drain(grace)
        if self._watching is not None:
            while not self._watching.done():
                # Again and again: a TaskGroup of Python 3.11 loses a cancellation that comes as a child of it fails.
                self._watching.cancel()
                await asyncio.wait({self._watching}, timeout=_CANCEL_AGAIN)
        if self._dns is not None:
            await self._dns.stop(max(0.0, end - time.monotonic()))
        await self._store.close()
        await self._admin.stop()
        if self._access_log is not None:
            self._access_log.close()

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop; a second signal ends the draining. Raises ListenError."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        # Without a handler SIGUSR1 would end the process: who rotates logs may send it, whatever is logged here.
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_log)
        await self.start()
        # What is here now stays: the garbage collector need not walk over it while requests wait.
        gc.freeze()
        assert self._watching is not None
        waiting = loop.create_task(stopped.wait(), name="wait for a signal")
        await asyncio.wait({waiting, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        if self._watching.done():
            # It ends for no foreseen reason: tell it, rather than serve a catalog that nobody follows.
            waiting.cancel()
            await self._close(0.0)
            self._watching.result()
            return
        hurry = loop.create_task(self._second_signal(stopped), name="wait for a second signal")
        stopping = loop.create_task(self.stop(), name="drain")
        await asyncio.wait({hurry, stopping}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await self._close(0.0)

    def _reopen_log(self) -> None:
        if self._access_log is not None:
            self._access_log.reopen()

    @staticmethod
    async def _second_signal(stopped: asyncio.Event) -> None:
        stopped.clear()
        await stopped.wait()

    def _apply(self, snapshot: Snapshot) -> None:
        before = {(p.subject, p.reason) for p in self._plane.problems}
        self._plane.apply(snapshot)
        if self._dns is not None:
            self._dns.apply(snapshot)
        for problem in self._plane.problems:
            if problem.kind != "listener" and (problem.subject, problem.reason) not in before:
                log.warning("not used", extra=fields(subject=problem.subject, reason=problem.reason))

    # What the admin server shows

    def ready(self) -> tuple[bool, list[str]]:
        """Whether traffic should be sent here, and what there is against it or worth knowing."""
        if self._draining:
            return False, ["draining"]
        if not self._store.snapshot.generation:
            return False, ["no catalog yet"]
        notes = []
        if not self._store.snapshot.fresh:
            notes.append("the catalog was read from disk and is not confirmed by an agent yet")
        elif not self._watcher.status.connected:
            notes.append("no agent answers: serving the last good catalog")
        return True, notes

    def _problems(self) -> tuple[Problem, ...]:
        return self._store.snapshot.problems + self._plane.problems

    def _catalog(self) -> CatalogView:
        return catalog_view(self._store.snapshot, self._watcher.status, time.monotonic())

    def _endpoints(self) -> Iterator[EndpointView]:
        now = int(asyncio.get_running_loop().time())
        for target in self._plane.targets():
            yield from endpoint_views(target.route.service, target.route.kind, target.group.endpoints, now)

    def _routes(self) -> Iterator[dict[str, Any]]:
        now = int(asyncio.get_running_loop().time())
        for target in list(self._plane.targets()):
            route = target.route
            yield route_json(route, endpoint_views(route.service, route.kind, target.group.endpoints, now))

    def _status(self) -> dict[str, Any]:
        ready, reasons = self.ready()
        kinds = [target.route.kind for target in self._plane.targets()]
        return status_json(
            version=VERSION,
            uptime=time.monotonic() - self._started,
            ready=ready,
            reasons=reasons,
            catalog=self._catalog(),
            stats=self._stats,
            routes={"http": kinds.count("http"), "tcp": kinds.count("tcp"), "tls": kinds.count("tls")},
            dns=dns_json(self.dns_addresses, self._dns_stats.replies) if self._dns is not None else None,
            problems=self._problems(),
        )
