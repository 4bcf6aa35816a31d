"""What is remembered is bounded, in number and in octets."""

from __future__ import annotations

import random

from lb.http1.memo import Memo


def key(number: int, size: int = 8) -> bytes:
    return number.to_bytes(size, "big")


def test_what_was_put_is_found() -> None:
    memo = Memo[int](entries=4, octets=100, longest=10)
    memo.put(b"a", 1)
    assert memo.get(b"a") == 1
    assert memo.get(b"b") is None


def test_false_values_are_remembered_too() -> None:
    memo = Memo[int](entries=4, octets=100, longest=10)
    memo.put(b"a", 0)
    assert memo.get(b"a") == 0


def test_the_number_of_entries_is_bounded() -> None:
    memo = Memo[int](entries=10, octets=1 << 20, longest=100)
    for number in range(1000):
        memo.put(key(number), number)
        assert len(memo) <= 20
    assert memo.get(key(999)) == 999
    assert memo.get(key(0)) is None


def test_the_octets_of_keys_are_bounded() -> None:
    memo = Memo[int](entries=1000, octets=100, longest=40)
    for number in range(200):
        memo.put(key(number, 40), number)
        assert len(memo) * 40 <= 200
    assert memo.get(key(199, 40)) == 199


def test_a_long_key_is_never_kept() -> None:
    memo = Memo[int](entries=10, octets=100, longest=10)
    memo.put(b"a" * 10, 1)
    memo.put(b"b" * 11, 2)
    assert memo.get(b"a" * 10) == 1
    assert memo.get(b"b" * 11) is None
    assert len(memo) == 1


def test_what_is_asked_for_survives_a_flood_of_others() -> None:
    memo = Memo[int](entries=10, octets=1000, longest=10)
    memo.put(b"favourite", 1)
    for number in range(500):
        memo.put(key(number), number)
        if number % 5 == 0:
            assert memo.get(b"favourite") == 1


def test_what_nobody_asks_for_is_forgotten() -> None:
    memo = Memo[int](entries=10, octets=1000, longest=10)
    memo.put(b"unloved", 1)
    for number in range(20):
        memo.put(key(number), number)
    assert memo.get(b"unloved") is None


def test_it_never_tells_anything_but_what_was_put() -> None:
    memo = Memo[int](entries=16, octets=200, longest=20)
    chance = random.Random(7)
    for _ in range(5000):
        number = chance.randrange(100)
        size = 1 + number % 25
        found = memo.get(key(number, size))
        assert found in (None, number)
        if found is None:
            memo.put(key(number, size), number)
        assert len(memo) <= 32
