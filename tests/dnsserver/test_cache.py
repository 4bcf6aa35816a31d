from __future__ import annotations

from itertools import repeat

from dnsserver.cache import Entry, WireCache
from dnsserver.stats import Kind

KIND = Kind("udp", "A", "NOERROR", False)


def entry(size: int = 100) -> Entry:
    return Entry(repeat(b"reply"), KIND, size)


def look_up(cache: WireCache, key: bytes) -> Entry | None:
    return cache.find(key) or cache.revive(key)


def test_finds_what_was_put_until_it_is_cleared() -> None:
    dropped: list[Entry] = []
    cache = WireCache(10, 10_000, dropped.append)
    kept = entry()
    cache.put(b"q", kept)
    assert look_up(cache, b"q") is kept
    cache.clear()
    assert look_up(cache, b"q") is None
    assert list(cache.entries()) == [kept], "its hits still count"
    assert len(cache) == 0
    cache.collect(10)
    assert dropped == [kept]
    assert not list(cache.entries())


def test_a_find_method_taken_once_stays_good() -> None:
    cache = WireCache(4, 10_000, lambda _: None)
    find = cache.find
    for number in range(10):
        cache.put(bytes([number]), entry())
    assert find(bytes([9])) is not None
    cache.clear()
    cache.put(b"q", entry())
    assert find(b"q") is not None


def test_entries_are_bounded_by_number() -> None:
    cache = WireCache(100, 1 << 30, lambda _: None)
    for number in range(1000):
        cache.put(number.to_bytes(2, "big"), entry())
    assert len(cache) <= 100


def test_entries_are_bounded_by_octets() -> None:
    cache = WireCache(1 << 20, 10_000, lambda _: None)
    for number in range(1000):
        cache.put(number.to_bytes(2, "big"), entry(size=500))
    assert sum(each.size for each in cache.entries()) <= 10_000


def test_what_is_asked_often_survives_a_flood_of_others() -> None:
    cache = WireCache(100, 1 << 30, lambda _: None)
    hot = entry()
    cache.put(b"hot", hot)
    for number in range(5000):
        cache.put(number.to_bytes(2, "big"), entry())
        if number % 20 == 0:
            assert look_up(cache, b"hot") is hot


def test_every_entry_is_dropped_once() -> None:
    dropped: list[Entry] = []
    cache = WireCache(10, 1 << 30, dropped.append)
    entries = [entry() for _ in range(50)]
    for number, each in enumerate(entries):
        cache.put(bytes([number % 25]), each)
        look_up(cache, bytes([number % 7]))
    cache.clear()
    cache.collect(50)
    assert len(dropped) == len(set(map(id, dropped))) == 50


def test_what_was_cleared_is_given_back_a_little_with_each_new_entry_and_never_piles_up() -> None:
    dropped: list[Entry] = []
    cache = WireCache(1000, 1 << 30, dropped.append)
    for number in range(100):
        cache.put(bytes([number]), entry())
    cache.clear()
    assert not dropped
    cache.put(b"new", entry())
    assert 0 < len(dropped) < 100
    for _ in range(20):
        for number in range(1000):
            cache.put(number.to_bytes(2, "big"), entry())
        cache.clear()
        assert len(list(cache.entries())) <= 2000


def test_of_a_change_only_what_hangs_on_it_is_forgotten() -> None:
    cache = WireCache(6, 10_000, lambda _: None)
    kept, gone, many = (Entry(repeat(b"reply"), KIND, 100, service) for service in (b"web", b"db", b""))
    for key, each in ((b"elder", kept), (b"db", gone), (b"many", many), (b"young", entry())):
        cache.put(key, each)
    cache.forget({b"db"})
    assert [look_up(cache, key) for key in (b"elder", b"db", b"many", b"young")] == [kept, None, None, None]
    assert gone in list(cache.entries()), "its hits still count"
