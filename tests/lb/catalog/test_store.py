from __future__ import annotations

import asyncio
import logging
import stat
from pathlib import Path

import pytest

from lb.catalog.model import Service, Snapshot
from lb.catalog.store import FILE_NAME, Store
from tests.support.process import wait_until

WEB = Service("web")


def publish(store: Store, *names: str) -> Snapshot:
    return store.publish({name: Service(name) for name in names}, {}, "dc1")


def fail(snapshot: Snapshot) -> None:
    raise RuntimeError("a fault of the subscriber")


def test_a_store_starts_with_nothing_learned() -> None:
    snapshot = Store().snapshot
    assert (snapshot.generation, dict(snapshot.services)) == (0, {})


def test_subscribers_get_every_snapshot_in_order_until_they_leave() -> None:
    store = Store()
    seen: list[tuple[str, int]] = []
    leave = store.subscribe(lambda s: seen.append(("a", s.generation)))
    store.subscribe(lambda s: seen.append(("b", s.generation)))
    publish(store, "web")
    leave()
    leave()
    publish(store, "web")
    assert seen == [("a", 1), ("b", 1), ("b", 2)]
    assert store.snapshot.generation == 2


def test_a_subscriber_that_fails_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    seen: list[Snapshot] = []
    store.subscribe(fail)
    store.subscribe(seen.append)
    publish(store, "web")
    assert [s.generation for s in seen] == [1]
    assert "a subscriber failed on generation 1" in caplog.text


def test_a_snapshot_does_not_change_with_what_it_was_made_of() -> None:
    services = {"web": WEB}
    snapshot = Store().publish(services, {}, "dc1")
    services.clear()
    assert dict(snapshot.services) == {"web": WEB}


def test_the_last_catalog_is_on_disk_after_close_for_the_owner_alone(tmp_path: Path) -> None:
    async def test() -> None:
        store = Store(tmp_path / "state")
        publish(store, "old")
        publish(store, "web")
        await store.close()

    asyncio.run(test())
    path = tmp_path / "state" / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [FILE_NAME]
    store = Store(tmp_path / "state")
    seen: list[Snapshot] = []
    store.subscribe(seen.append)
    loaded = store.load()
    assert loaded is not None
    assert seen == [loaded]
    assert (loaded.services, loaded.datacenter, loaded.fresh, loaded.generation) == ({"web": WEB}, "dc1", False, 1)


def test_a_catalog_is_written_while_the_program_runs(tmp_path: Path) -> None:
    async def test() -> None:
        store = Store(tmp_path)
        publish(store, "web")
        await asyncio.to_thread(wait_until, (tmp_path / FILE_NAME).exists, what="the file is there")
        publish(store, "web", "more")
        await store.close()

    asyncio.run(test())
    loaded = Store(tmp_path).load()
    assert loaded is not None
    assert set(loaded.services) == {"web", "more"}


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\xfe", b'{"format":"consul-edge catalog","version":9}\n'])
def test_a_file_that_is_of_no_use_is_named_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    store = Store(tmp_path)
    assert store.load() is None
    assert store.snapshot.generation == 0
    assert f"last good catalog {tmp_path / FILE_NAME} is ignored" in caplog.text


def test_no_file_is_nothing_to_talk_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Store(tmp_path).load() is None
    assert Store().load() is None
    assert not caplog.records


def test_a_disk_that_cannot_be_written_to_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")

    async def test() -> None:
        store = Store(tmp_path / "file" / "below")
        publish(store, "web")
        await store.close()
        assert "web" in store.snapshot.services

    with caplog.at_level(logging.ERROR):
        asyncio.run(test())
    assert "cannot be written" in caplog.text
