from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from lb.catalog import departures as module
from lb.catalog import store as store_module
from lb.catalog.departures import BOUND, Departed, Departures
from lb.catalog.model import Instance, Service, Snapshot
from lb.catalog.store import FILE_NAME, Store
from tests.support.process import wait_until

ONE = Departed("web", "n1", "web-1")


def service(*instances: Instance) -> dict[str, Service]:
    """Return a catalog of the service `web` and one that nothing happens to."""
    other = Service("db", (Instance("db", "db-1", "n1", "192.0.2.1", 5432, modify_index=1),))
    return {"web": Service("web", instances), "db": other} if instances else {"db": other}


def instance(id: str = "web-1", index: int = 5, port: int = 80, node: str = "n1") -> Instance:
    return Instance("web", id, node, "192.0.2.1", port, service_address="192.0.2.1", modify_index=index)


def ids(services: Mapping[str, Service]) -> list[str]:
    return [one.id for one in services["web"].instances] if "web" in services else []


@pytest.fixture
def gone() -> Departures:
    """One instance, registered at index 5, has departed at time 0."""
    departures = Departures()
    departures.depart(ONE, service(instance()), 0.0)
    return departures


def test_who_departed_is_left_out_and_nobody_else(gone: Departures) -> None:
    services = service(instance(), instance("web-2"), instance(node="n2"))
    left = gone.without(services)
    assert left["web"].instances == (instance("web-2"), instance(node="n2"))
    assert left["db"] is services["db"]
    assert services["web"].instances[0] == instance(), "what is given is not changed"


def test_a_service_of_which_everybody_departed_is_left_out_whole(gone: Departures) -> None:
    assert set(gone.without(service(instance()))) == {"db"}


def test_when_the_catalog_tells_that_it_is_gone_that_is_the_end_of_it(gone: Departures) -> None:
    services = service()
    assert gone.without(services) is services
    assert len(gone) == 0
    assert ids(gone.without(service(instance()))) == ["web-1"]


def test_a_later_registration_is_believed(gone: Departures) -> None:
    assert ids(gone.without(service(instance(index=6)))) == ["web-1"]
    assert len(gone) == 0


@pytest.mark.parametrize(("port", "there"), [(80, True), (81, False)])
def test_one_that_is_back_where_it_was_is_there_at_once_one_elsewhere_once_the_catalog_tells(
    gone: Departures, port: int, there: bool
) -> None:
    gone.come_back(ONE, "192.0.2.1", port)
    assert ids(gone.without(service(instance()))) == (["web-1"] if there else [])
    assert ids(gone.without(service(instance(port=port, index=7)))) == ["web-1"]


def test_one_that_was_not_known_yet_is_left_out_when_it_comes() -> None:
    departures = Departures()
    departures.depart(ONE, service(), 0.0)
    assert ids(departures.without(service())) == []
    assert ids(departures.without(service(instance(index=9)))) == []
    assert ids(departures.without(service())) == []
    assert len(departures) == 0


def test_one_that_came_back_and_departed_again_stays_away_until_it_is_back_again(gone: Departures) -> None:
    gone.come_back(ONE, "192.0.2.1", 81)
    gone.depart(ONE, service(instance()), 1.0)
    for late in (instance(), instance(port=81, index=7)):
        assert ids(gone.without(service(late))) == []
    gone.come_back(ONE, "192.0.2.1", 82)
    assert ids(gone.without(service(instance(port=82, index=9)))) == ["web-1"]


def test_who_came_back_without_having_departed_is_of_no_concern() -> None:
    departures = Departures()
    departures.come_back(ONE, "192.0.2.1", 80)
    assert len(departures) == 0


def test_after_a_while_the_catalog_is_believed_again(gone: Departures) -> None:
    gone.expire(BOUND - 1)
    assert ids(gone.without(service(instance()))) == []
    gone.depart(ONE, service(instance()), 10.0)
    gone.expire(BOUND + 9)
    assert ids(gone.without(service(instance()))) == []
    gone.expire(BOUND + 11)
    assert ids(gone.without(service(instance()))) == ["web-1"]


# In the store


def with_store(test: Callable[[Store, list[Snapshot]], Awaitable[None]]) -> None:
    """Run a test with a store, and what it has published."""

    async def run() -> None:
        store, published = Store(), []
        store.subscribe(published.append)
        async with asyncio.timeout(10):
            await test(store, published)

    asyncio.run(run())


def test_a_store_publishes_at_once_without_who_departed_and_goes_on_without() -> None:
    async def test(store: Store, published: list[Snapshot]) -> None:
        store.publish(service(instance(), instance("web-2")), {}, "dc1")
        store.depart([ONE])
        store.depart([Departed("web", "n1", "web-2")])
        await asyncio.sleep(0)
        assert [ids(snapshot.services) for snapshot in published] == [["web-1", "web-2"], []], "in one go"
        store.publish(service(instance(), instance("web-2")), {}, "dc1")
        assert [snapshot.generation for snapshot in published] == [1, 2, 3]
        assert ids(store.snapshot.services) == []
        store.come_back(ONE, "192.0.2.1", 80)
        await asyncio.sleep(0)
        assert ids(store.snapshot.services) == ["web-1"]

    with_store(test)


def test_a_store_publishes_nothing_when_nothing_is_another() -> None:
    async def test(store: Store, published: list[Snapshot]) -> None:
        store.publish(service(instance("web-2")), {}, "dc1")
        store.depart([ONE])
        store.come_back(ONE, "192.0.2.1", 80)
        await asyncio.sleep(0)
        assert len(published) == 1

    with_store(test)


def test_a_store_believes_the_catalog_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (module, store_module):
        monkeypatch.setattr(where, "BOUND", 0.01)

    async def test(store: Store, published: list[Snapshot]) -> None:
        store.publish(service(instance()), {}, "dc1")
        back = asyncio.Event()
        store.subscribe(lambda snapshot: back.set() if ids(snapshot.services) else None)
        store.depart([ONE])
        await back.wait()
        assert [ids(snapshot.services) for snapshot in published] == [["web-1"], [], ["web-1"]]

    with_store(test)


def test_who_departed_is_not_on_disk_either_and_the_file_grows_no_younger(tmp_path: Path) -> None:
    kept = tmp_path / FILE_NAME

    async def main() -> None:
        store = Store(tmp_path)
        store.publish(service(instance(), instance("web-2")), {}, "dc1")
        await asyncio.to_thread(wait_until, kept.exists, what="the catalog is on disk")
        published = kept.stat().st_mtime
        store.depart([ONE])
        await asyncio.to_thread(wait_until, lambda: "web-1" not in kept.read_text(), what="the instance is gone there")
        assert "web-2" in kept.read_text()
        assert kept.stat().st_mtime == published
        await store.close()

    asyncio.run(main())


def test_a_departure_leaves_a_catalog_on_disk_that_is_not_fresh_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        first = Store(tmp_path)
        first.publish(service(instance()), {}, "dc1")
        await first.close()
        before = (tmp_path / FILE_NAME).read_bytes()
        store = Store(tmp_path)
        store.load()
        store.depart([ONE])
        await asyncio.sleep(0)
        assert ids(store.snapshot.services) == []
        await store.close()
        assert (tmp_path / FILE_NAME).read_bytes() == before

    asyncio.run(main())
