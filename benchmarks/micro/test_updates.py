"""What one update of the catalog costs, a worker and the supervisor: `pytest benchmarks/micro/test_updates.py`.

2,000 services of ten instances, of which one service changes. A worker is to take less than 5 ms.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from dnsserver.stats import DnsStats
from lb.balance.places import BoardPlaces, LedgerPlaces
from lb.board.area import Board
from lb.board.ledger import Ledger
from lb.catalog.delta import changed, changes
from lb.catalog.model import Health, Instance, Node, Service, Snapshot
from lb.dataplane import DataPlane
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.settings import AccessLogSettings, RoutingSettings, Settings

SERVICES, INSTANCES, NODES = 2000, 10, 100
ROWS = 1 << 18
ROUTING = RoutingSettings(domains=("example.com",))
TAGS = ("http", "http", "tcp", "tls")

WEB, DATABASE, HIDDEN = 400, 402, 499
"""Services with the tags `http`, `tcp` and none that matters here."""


def service(number: int, health: Health = "passing") -> Service:
    tag = "hidden" if number % 100 == 99 else TAGS[number % 4]
    name = f"service-{number:04}-{20_000 + number}"
    nodes = [(number + place) % NODES for place in range(INSTANCES)]
    instances = [Instance(name, f"{name}-{n}", f"node-{n}", f"10.0.{n}.1", 8000 + number, tags=(tag,)) for n in nodes]
    return Service(name, (replace(instances[0], health=health), *instances[1:]))


def snapshot(*others: Service) -> Snapshot:
    services = {one.name: one for one in (*map(service, range(SERVICES)), *others)}
    nodes = {f"node-{n}": Node(f"node-{n}", f"10.0.{n}.1") for n in range(NODES)}
    return Snapshot(MappingProxyType(services), MappingProxyType(nodes), "dc1", 1)


CHANGES: dict[str, Service] = {
    "health of an http instance": service(WEB, "critical"),
    "health of a tcp instance": service(DATABASE, "critical"),
    "a new service": service(SERVICES),
    "a service without routes": service(HIDDEN, "critical"),
}


def with_service(catalog: Snapshot, one: Service) -> Snapshot:
    return replace(catalog, services=MappingProxyType({**catalog.services, one.name: one}))


class Supervisor:
    """As `Crew` does: its own balancer first, then what each worker is told."""

    def __init__(self, board: Board, catalog: Snapshot) -> None:
        ledger = Ledger(board)
        self.column = ledger.take_column()
        self.places = LedgerPlaces(board, ledger)
        self.balancer = Balancer(ROUTING, Stats(reporting=True), lambda _: None, lambda _: None, self.places)
        self.catalog = Snapshot()
        self.version = 0
        self.first = self.tell(catalog)

    def tell(self, catalog: Snapshot) -> str:
        self.version += 1
        self.balancer.apply(catalog)
        self.places.settle(self.version)
        told, self.catalog = self.catalog, catalog
        return json.dumps({"rows": self.places.take_changes(), "catalog": changes(told, catalog)})


class Worker:
    """As `lb.workers.worker` does, but for the channel."""

    def __init__(self, board: Board, column: int) -> None:
        self.rows: dict[str, int] = {}
        settings = Settings(routing=ROUTING, access_log=AccessLogSettings(path="off"))
        places = BoardPlaces(board, column, column + 1, self.rows)
        self.plane = DataPlane(settings, Stats(reporting=True), DnsStats(), places)
        self.catalog = Snapshot()

    def take(self, told: str) -> None:
        body = json.loads(told)
        self.rows.update((name, row) for name, row in body["rows"].items() if row is not None)
        self.catalog = changed(self.catalog, body["catalog"])
        self.plane.apply(self.catalog)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def board() -> Board:
    return Board.create(2, ROWS)


@pytest.mark.parametrize("change", CHANGES)
def test_an_update_of_a_worker(
    change: str, board: Board, loop: asyncio.AbstractEventLoop, benchmark: BenchmarkFixture
) -> None:
    catalog = snapshot()
    supervisor = Supervisor(board, catalog)

    async def worker() -> Worker:
        return Worker(board, supervisor.column)

    one = loop.run_until_complete(worker())
    one.take(supervisor.first)
    there, back = supervisor.tell(with_service(catalog, CHANGES[change])), supervisor.tell(catalog)
    updates = itertools.cycle([there, back])
    gc.freeze()  # as a worker does
    benchmark.pedantic(one.take, setup=lambda: ((next(updates),), {}), rounds=200)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("change", CHANGES)
def test_an_update_of_the_supervisor(change: str, board: Board, benchmark: BenchmarkFixture) -> None:
    catalog = snapshot()
    supervisor = Supervisor(board, catalog)
    catalogs = itertools.cycle([with_service(catalog, CHANGES[change]), catalog])
    benchmark.pedantic(supervisor.tell, setup=lambda: ((next(catalogs),), {}), rounds=200)  # type: ignore[no-untyped-call]
