"""One node, put together: the catalog watch, the sockets, the data plane, the registrator, the admin server.

A node that serves nobody (no plane is on) follows no catalog: it is there for its registrator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from lb.catalog.confirmation import Confirmation
from lb.catalog.model import Snapshot
from lb.catalog.registering import LocalAgent
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.keeper import SocketKeeper
from lb.observe.admin import AdminServer
from lb.observe.log import fields
from lb.panel import Panel
from lb.planes import OwnPlanes, Planes
from lb.registration import Registration
from lb.settings import Address, Settings
from lb.sockets import Inherited
from lb.version import VERSION
from registrator.loop import Registrator

_CANCEL_AGAIN = 0.2  # seconds

log = logging.getLogger(__name__)

MakePlanes = Callable[[Settings], Planes]


class Node:
    """Everything of one node but the data plane itself, which `planes` does: workers, or this process.

    `start` and `stop` are called once each, in a running loop. `inherited` are sockets that were opened before, `last`
    is the catalog that was in use before, if there is one. Each token read from a file is told to `hide`. Raises
    SettingsError for files that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        planes: MakePlanes = OwnPlanes,
        hide: Callable[[str], None] = lambda _: None,
        inherited: Inherited | None = None,
        last: Snapshot | None = None,
    ) -> None:
        self._settings = settings
        self._draining = False
        self._closing = False
        self._hurried = asyncio.Event()
        self.failed_upgrades: list[str] = []
        self.store = Store(settings.consul.state_dir)
        if last is None or not last.generation:
            self.store.load()
        else:
            self.store.adopt(last)
        self._watcher = Watcher(settings.consul, self.store, hide)
        self._watching: asyncio.Task[None] | None = None
        self._confirming: asyncio.Task[None] | None = None
        age = 0.0 if self.store.snapshot.fresh else self.store.kept_age()
        self._confirmation = Confirmation(self._watcher.status, self.store, age)
        self.planes = planes(settings)
        self.keeper = SocketKeeper(
            settings,
            self.planes.size,
            inherited or Inherited(),
            self.planes.stats,
            self.planes.opened,
            self.planes.closed,
        )
        self._admin: AdminServer | None = None
        self.registrator: Registrator | None = None
        if settings.registrator is not None:
            self.registrator = Registrator(settings.registrator, settings.consul, self.store, hide)
        self._registration: Registration | None = None
        if settings.registration is not None:
            self._registration = Registration(
                settings.registration, lambda: LocalAgent(settings.consul, hide), lambda: self.ready()[0]
            )

    @property
    def snapshot(self) -> Snapshot:
        """The catalog in use."""
        return self.store.snapshot

    @property
    def admin_address(self) -> Address | None:
        """The address of the admin server."""
        return next(iter(self.keeper.addresses("admin")), None)

    async def start(self) -> None:
        """Listen everywhere, serve, then follow the catalog. Raises ListenError; nothing is left open then."""
        self.keeper.open_fixed()
        try:
            if self.store.snapshot.generation:
                self._apply(self.store.snapshot)
            places = [shared for place, shared in self.keeper.places.items() if place.kind not in ("admin", "tcp")]
            await self.planes.start(places)
            await self.planes.applied()
        except BaseException:
            await self._close(0.0)
            raise
        self.store.subscribe(self._apply)
        if self._settings.serves:
            loop = asyncio.get_running_loop()
            telling = self._confirmation.tell(self.planes.confirm)
            self._confirming = loop.create_task(telling, name="catalog confirmation")
            self._watching = loop.create_task(self._watcher.run(), name="catalog watch")

    async def show(self) -> None:
        """Begin to register, and to answer on the admin address: what only one program at a time may do."""
        if self.registrator is not None:
            self.registrator.start()
        panel = Panel(
            self.store, self._watcher, self.keeper, self.planes, self.ready, self.failed_upgrades, self.registrator
        )
        for place, shared in self.keeper.places.items():
            if place.kind == "admin":
                self._admin = AdminServer(panel.sources())
                await self._admin.start(shared.socks[0].dup())
        if self._registration is not None and self.admin_address is not None:
            self._registration.begin(self.admin_address)
        log.info(
            "started",
            extra=fields(
                version=VERSION,
                workers=self.planes.size,
                **{kind: self._where(kind) for kind in ("http", "tls", "dns-udp", "admin")},
                docker="off" if self._settings.registrator is None else self._settings.registrator.docker,
            ),
        )

    def _where(self, kind: str) -> str:
        return ",".join(map(str, self.keeper.addresses(kind))) or "off"

    async def stop(self) -> None:
        """Drain and close: readiness goes red first, then listeners close, then what is in flight may end."""
        drain = self._settings.drain
        self._draining = True
        log.info("draining", extra=fields(delay=drain.delay, timeout=drain.timeout))
        if self._registration is not None:
            await self._registration.withdraw()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain.delay):
                await self._hurried.wait()
        await self._close(drain.timeout, leaving=True)
        log.info("stopped")

    async def abort(self) -> None:
        """Close everything at once."""
        await self._close(0.0)

    async def hurry(self) -> None:
        """End the draining, its delay too: `stop` and `drain` return soon."""
        self._hurried.set()
        if self._closing:
            await self.planes.drain(0.0)

    async def draw_back(self) -> None:
        """Leave the catalog and the admin server to another program, which has all sockets."""
        self._draining = True
        await self._stop_registering()
        await self._stop_watching()
        self.store.abandon()
        await self._hide()

    async def drain(self) -> None:
        """After `draw_back`: end what is in flight, and all the rest."""
        await self._close(self._settings.drain.timeout)

    def note_failed_upgrade(self, reason: str) -> None:
        """Tell that this program goes on, as no other can take over from it."""
        self.failed_upgrades.append(reason)
        log.error("upgrade failed", extra=fields(reason=reason))

    async def watching(self) -> None:
        """Wait until the watch on the catalog ends, which it never should; raises what it ended with.

        A node that serves nobody waits for its registrator; one that does goes on without it.
        """
        if self._watching is None:
            assert self.registrator is not None
            await self.registrator.wait()
            return
        await asyncio.wait({self._watching})
        if not self._watching.cancelled():
            self._watching.result()

    async def _close(self, grace: float, *, leaving: bool = False) -> None:
        self._closing = True
        self.keeper.withdraw()
        await self.planes.drain(0.0 if self._hurried.is_set() else grace)
        await self._stop_registering(leaving=leaving)
        await self._stop_watching()
        await self.store.close()
        await self._hide()

    async def _hide(self) -> None:
        if self._registration is not None:
            await self._registration.leave()
        self.keeper.close()
        if self._admin is not None:
            await self._admin.stop()
            self._admin = None

    async def _stop_registering(self, *, leaving: bool = False) -> None:
        if self.registrator is not None:
            await self.registrator.stop(leaving=leaving)

    async def _stop_watching(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
        # Again and again: a TaskGroup of Python 3.11 loses a cancellation that comes as a child of it fails.
        while self._watching is not None and not self._watching.done():
            self._watching.cancel()
            await asyncio.wait({self._watching}, timeout=_CANCEL_AGAIN)

    def _apply(self, snapshot: Snapshot) -> None:
        before = {(p.subject, p.reason) for p in self.planes.balancer.problems}
        self.planes.apply(snapshot)
        self.keeper.want(self.planes.balancer.tcp_services, certain=snapshot.fresh)
        self.planes.stats.keep_listeners(self.keeper.names)
        for problem in self.planes.balancer.problems:
            if (problem.subject, problem.reason) not in before:
                log.warning("not used", extra=fields(subject=problem.subject, reason=problem.reason))

    def ready(self) -> tuple[bool, list[str]]:
        """Whether traffic should be sent here, and what there is against it or worth knowing."""
        if self._draining:
            return False, ["draining"]
        notes = self._registrator_notes()
        if not self._settings.serves:
            settled = self.registrator is not None and self.registrator.settled
            return settled, notes if settled else [*notes, "not all containers are registered yet"]
        if not self.store.snapshot.generation:
            return False, ["no catalog yet"]
        if not self.planes.serving:
            return False, ["no worker serves the catalog yet"]
        if not self.store.snapshot.fresh:
            notes.append("the catalog was read from disk and is not confirmed by an agent yet")
        elif not self._watcher.status.connected:
            notes.append("no agent answers: serving the last good catalog")
        if self._registration is not None and self._registration.problem:
            notes.append(f"not registered: {self._registration.problem}")
        return True, notes

    def _registrator_notes(self) -> list[str]:
        if self.registrator is None:
            return []
        if self.registrator.failure:
            return [f"the registrator has given up: {self.registrator.failure}"]
        stats = self.registrator.stats
        sides = (("Docker", stats.docker), ("the agent of this host", stats.consul))
        return [f"{name} does not answer the registrator: {side.error}" for name, side in sides if side.error]
