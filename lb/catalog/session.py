"""Following one agent, from the first question to the error that ends it.

What changes is learned from three long polls on whole tables; what it changed to, from reading single
services::

    /v1/catalog/services             names and tags; wakes whenever any instance comes, goes or changes
    /v1/health/state/any, filtered   every check that is not passing: tells whose health changed
    /v1/catalog/nodes                nodes; asked again every half minute at least, it is the heart beat too

The first does not say which instance it woke for, unless a name or a tag changed with it. So each wake of
it starts a sweep over what is not followed: one read per node and a comparison by ModifyIndex, or of every
service where those are fewer or a node has a name that cannot be asked for. The services that changed last
have long polls of their own (`followers`), and learn of a change at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lb.catalog import changes, decode
from lb.catalog.client import Agent, Answer
from lb.catalog.decode import CheckKey, FailingCheck, InstanceKey
from lb.catalog.fetcher import Fetcher, fits_a_path
from lb.catalog.followers import Followers
from lb.catalog.guard import EmptyGuard
from lb.catalog.ledger import Ledger
from lb.catalog.pace import Pace
from lb.catalog.publisher import Publisher
from lb.catalog.reader import Patience, Reader
from lb.catalog.status import WatchStatus
from lb.errors import AgentRefused, CatalogError, SettingsError
from lb.settings import ConsulSettings

HEART_BEAT = 30.0
"""The longest wait of the nodes' long poll, in seconds: it notices an agent that hangs or has lost its leader."""

_NOT_PASSING = 'Status != "passing"'
_SWEEP_INTERVAL = 1.0
_FOLLOWERS = 8
_FETCHERS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """How the connections to an agent are shared out; three more are for the tables, one for the sweep."""

    fetchers: int
    followers: int

    @classmethod
    def of(cls, connections: int) -> Budget:
        """Share out so many connections; raise `SettingsError` for fewer than 5."""
        free = connections - 4
        if free < 1:
            raise SettingsError("max_connections", f"{connections} is too few: at least 5")
        fetchers = min(_FETCHERS, max(1, free // 3))
        return cls(fetchers, min(_FOLLOWERS, free - fetchers))


class Session:
    """One agent, followed until it fails: `run` ends with a `CatalogError`, never in peace.

    Ledger, guard and publisher outlive it, so that the next agent goes on where this one ended. `settled`
    is set when every service has been read once.
    """

    def __init__(
        self,
        agent: Agent,
        settings: ConsulSettings,
        ledger: Ledger,
        guard: EmptyGuard,
        publisher: Publisher,
        status: WatchStatus,
    ) -> None:
        self._settings = settings
        self._budget = Budget.of(settings.max_connections)
        self._ledger = ledger
        self._publisher = publisher
        self._status = status
        self._reader = Reader(agent, status)
        self._fetcher = Fetcher(self._reader, ledger, guard, status, self._service_changed)
        self._tags: dict[str, frozenset[str]] | None = None
        self._failing: dict[CheckKey, FailingCheck] | None = None
        self._failing_keys: frozenset[InstanceKey] = frozenset()
        self._nodes_known = False
        self._tables_known = asyncio.Event()
        self._sweep_wanted = asyncio.Event()
        self.settled = asyncio.Event()

    async def run(self) -> None:
        """Follow the agent until it is unreachable or fails for good, then raise that `CatalogError`."""
        self._ledger.forget_indexes()
        await self._identify()
        try:
            async with asyncio.TaskGroup() as group:
                self._followers = Followers(
                    group,
                    self._reader,
                    self._fetcher,
                    self._ledger,
                    limit=self._budget.followers,
                    wait=self._settings.wait,
                )
                self._follow_tables(group)
                await self._tables_known.wait()
                self._start_reading(group)
        except ExceptionGroup as errors:
            raise first_error(errors) from None

    async def _identify(self) -> None:
        """Learn the agent's datacenter and node; a token may be refused that, nodes tell the datacenter too."""
        with contextlib.suppress(AgentRefused):
            answer = await self._reader.get("/v1/agent/self")
            datacenter, self._status.node = decode.agent_identity(answer.body)
            self._know_datacenter(datacenter)

    def _know_datacenter(self, datacenter: str) -> None:
        self._status.datacenter = datacenter
        self._ledger.datacenter = self._settings.datacenter or datacenter

    def _follow_tables(self, group: asyncio.TaskGroup) -> None:
        wait = self._settings.wait
        poll, reset = self._reader.poll, self._resync
        group.create_task(poll("/v1/catalog/services", self._on_services, reset, wait=wait))
        group.create_task(poll("/v1/health/state/any", self._on_checks, reset, wait=wait, matching=_NOT_PASSING))
        group.create_task(poll("/v1/catalog/nodes", self._on_nodes, reset, wait=min(wait, HEART_BEAT)))

    def _start_reading(self, group: asyncio.TaskGroup) -> None:
        """Read every service once: what is known by name, and what was known before."""
        self._fetcher.start({*(self._tags or ()), *self._ledger.services})
        for _ in range(self._budget.fetchers):
            group.create_task(self._fetcher.work())
        group.create_task(self._settle())

    async def _settle(self) -> None:
        """Publish after the first pass, then follow and sweep."""
        await self._fetcher.first_pass_done.wait()
        if not self._ledger.complete:
            self._ledger.complete = True
            self._publisher.changed()
        self.settled.set()
        self._fill_followers()
        await self._sweep_forever()

    # --- what the tables say ---

    def _on_services(self, answer: Answer) -> bool:
        """Names and tags. What they do not show is left to a sweep, after a wait that ran out too."""
        old, self._tags = self._tags, decode.service_tags(answer.body)
        if old is None:
            self._note_table()
            return True
        self._sweep_wanted.set()
        changed = changes.differing(old, self._tags)
        self._want(changed)
        return bool(changed)

    def _on_checks(self, answer: Answer) -> bool:
        """The checks that do not pass."""
        old, self._failing = self._failing, decode.failing_checks(answer.body)
        self._failing_keys = changes.failing_keys(self._failing)
        if old is None:
            self._note_table()
            return True
        services, nodes = changes.services_by_checks(old, self._failing)
        self._want(services | changes.services_on(nodes, self._ledger.services))
        return bool(services or nodes)

    def _on_nodes(self, answer: Answer) -> bool:
        """Nodes, their addresses and meta."""
        ledger = self._ledger
        nodes = decode.nodes(answer.body) or ledger.nodes  # there is a server at least: none is no answer
        changed = changes.differing(ledger.nodes, nodes)
        if changed:
            ledger.nodes = nodes
            self._publisher.changed()
        if not ledger.datacenter and nodes:
            self._know_datacenter(next(iter(nodes.values())).datacenter)
        if not self._nodes_known:
            self._nodes_known = True
            self._note_table()
            return True
        if changed:
            self._want(changes.services_on(changed, ledger.services))
            self._sweep_wanted.set()
        return bool(changed)

    def _resync(self) -> None:
        """Consul counts anew, after a restore say: what is known by its indexes may be wrong, read everything."""
        self._ledger.forget_indexes()
        if self._tables_known.is_set():
            self._fetcher.want(tuple(self._ledger.services))

    def _note_table(self) -> None:
        if self._tags is not None and self._failing is not None and self._nodes_known:
            self._tables_known.set()

    def _want(self, names: Iterable[str]) -> None:
        """Have services read that are not followed: those learn it by themselves."""
        if self._tables_known.is_set():
            self._fetcher.want(name for name in names if name not in self._followers)

    # --- what services say ---

    def _service_changed(self, name: str) -> None:
        """A service changed, came or went."""
        self._publisher.changed()
        if not self.settled.is_set():
            return
        service = self._ledger.services.get(name)
        if service is not None:
            self._followers.changed(name)
            if changes.disagreeing((service,), self._failing_keys):
                self._fetcher.doubt(name)
        else:
            self._followers.drop(name)
            self._fill_followers()
        self._status.followed = len(self._followers)

    def _fill_followers(self) -> None:
        self._followers.fill(self._ledger.services)
        self._status.followed = len(self._followers)

    # --- what nobody said ---

    async def _sweep_forever(self) -> None:
        """Look for changes that no table told of, whenever there may be some; never more often than its pace."""
        pace = Pace(_SWEEP_INTERVAL)
        patience = Patience("sweep")
        while True:
            await self._sweep_wanted.wait()
            await asyncio.sleep(pace.delay(time.monotonic()))
            self._sweep_wanted.clear()
            pace.take(time.monotonic())
            try:
                await self._sweep()
            except CatalogError as error:
                self._sweep_wanted.set()
                await patience.suffer(error)
            else:
                patience.relax()

    async def _sweep(self) -> None:
        """Find the services that are not followed and changed, and have them read."""
        followed = self._followers.names
        others = self._ledger.services.keys() - followed
        if not others:
            return
        self._status.sweeps += 1
        nodes = tuple(self._ledger.nodes)
        if len(nodes) >= len(others) or not all(map(fits_a_path, nodes)):
            self._want(others)
            return
        seen: dict[str, dict[InstanceKey, int]] = {}
        for node in nodes:
            answer, _ = await self._reader.get_from_leader(f"/v1/catalog/node/{node}")
            for name, registered in decode.services_of_node(node, answer.body).items():
                seen.setdefault(name, {}).update(registered)
        for name in followed:
            seen.pop(name, None)
        changed = changes.differing(self._ledger.registered(apart_from=followed), seen)
        self._want(changed | changes.disagreeing(self._ledger.services.values(), self._failing_keys))


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """Return what ended a group of tasks: an unforeseen error before a `CatalogError`, of several the first."""
    expected, unforeseen = errors.split(CatalogError)
    error: Exception = unforeseen or expected or errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
