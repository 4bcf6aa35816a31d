"""What a pick costs, and what a change of the catalog costs: `pytest benchmarks/micro/test_balance.py`."""

from __future__ import annotations

import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.balance.group import Group, Outcome
from lb.balance.places import BoardPlaces, LedgerPlaces, LocalPlaces, Places
from lb.balance.policies import POLICY_NAMES
from lb.board.area import Board
from lb.board.ledger import Ledger
from lb.catalog.model import Instance, Service, Snapshot
from lb.routing.options import EndpointOptions
from lb.routing.table import build
from lb.settings import RoutingSettings

NOW = 1_000_000
SETTINGS = RoutingSettings(domains=("example.com",))
SERVICES = 2000


def group_of(count: int, policy: str, workers: int) -> Group:
    """A group of this process alone, or, with `workers`, that of the first of so many who share it."""
    specs = [EndpointOptions(("node", f"{n}", "10.0.0.1", n), "10.0.0.1", n) for n in range(count)]
    places: Places = LocalPlaces()
    if workers:
        board = Board.create(workers, 1000)
        ledger = LedgerPlaces(board, Ledger(board))
        Group("web", places=ledger).reconcile(specs, policy)
        places = BoardPlaces(board, 0, workers, ledger.rows)
    group = Group("web", places=places)
    group.reconcile(specs, policy)
    return group


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [1, 3, 10, 50])
@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_acquire_and_release(benchmark: BenchmarkFixture, policy: str, count: int, workers: int) -> None:
    group = group_of(count, policy, workers)

    def request() -> None:
        endpoint = group.acquire((), NOW, "192.0.2.1")
        assert endpoint is not None
        group.release(endpoint, Outcome.SUCCESS, NOW)

    benchmark(request)


def service(number: int, index: int = 1) -> Service:
    name = f"service-{number:04}"
    return Service(
        name,
        tuple(
            Instance(name, f"{name}-{n}", f"node-{n}", f"10.0.{n}.1", 8080, tags=("http",), modify_index=index)
            for n in range(5)
        ),
    )


def test_build_of_the_first_table(benchmark: BenchmarkFixture) -> None:
    snapshot = Snapshot({s.name: s for s in map(service, range(SERVICES))})
    benchmark(build, snapshot, SETTINGS)


def test_build_after_one_service_changed(benchmark: BenchmarkFixture) -> None:
    services = {s.name: s for s in map(service, range(SERVICES))}
    table = build(Snapshot(services), SETTINGS)
    index = itertools.count(2)

    def change() -> tuple[tuple[Snapshot, RoutingSettings, object], dict[str, object]]:
        one = service(77, next(index))
        return (Snapshot({**services, one.name: one}), SETTINGS, table), {}

    benchmark.pedantic(build, setup=change, rounds=100)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("host", ["service-0099.example.com", "unknown.example.com"])
def test_lookup(benchmark: BenchmarkFixture, host: str) -> None:
    table = build(Snapshot({s.name: s for s in map(service, range(SERVICES))}), SETTINGS)
    route = benchmark(table.lookup, host.encode(), b"/index.html")
    assert (route is None) == host.startswith("unknown")
