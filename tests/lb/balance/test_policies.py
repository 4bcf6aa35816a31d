"""The policies that the vectors cannot fix to the letter: chance, and hashing."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group, Outcome
from lb.balance.policies import POLICY_NAMES, client_octets, policy_named
from lb.routing.values import POLICIES
from tests.lb.balance.specs import by_name, group_of, spec

NOW = 1_000_000


def test_every_policy_that_a_service_may_name_exists() -> None:
    assert set(POLICIES) == set(POLICY_NAMES)
    for name in POLICIES:
        policy_named(name)


def seeded(*weights: int, policy: str = "random") -> Group:
    group = Group("web", random.Random(7).random)
    group.reconcile([spec(f"{n}", weight) for n, weight in enumerate(weights)], policy)
    return group


def count(group: Group, requests: int, client: str = "") -> Counter[str]:
    counts = Counter[str]()
    for _ in range(requests):
        endpoint = group.acquire((), NOW, client)
        assert endpoint is not None
        group.release(endpoint, Outcome.SUCCESS, NOW)
        counts[endpoint.host] += 1
    return counts


def test_random_spreads_idle_endpoints_evenly() -> None:
    assert all(900 < n < 1100 for n in count(seeded(1, 1, 1, 1), 4000).values())


def test_random_gives_a_tie_to_the_second_draw() -> None:
    """As nginx does: among idle endpoints a heavy one is mostly drawn first, and loses. 3/14 of 4000 is 857."""
    assert 750 < count(seeded(6, 1, 1), 4000)["0"] < 960


def test_random_gives_a_heavier_endpoint_more() -> None:
    # All stay open, so the share of connections comes to match the share of weight: 6 of 8.
    group = seeded(6, 1, 1)
    held = Counter[str]()
    for _ in range(800):
        endpoint = group.acquire((), NOW)
        assert endpoint is not None
        held[endpoint.host] += 1
    assert 550 < held["0"] < 650


def test_random_takes_the_less_busy_of_two() -> None:
    group = seeded(1, 1)
    busy = group.acquire((), NOW)
    assert busy is not None
    assert busy.host not in count(group, 50)


def test_random_is_repeatable_with_a_seed() -> None:
    def names(group: Group) -> list[str]:
        return [e.host for _ in range(20) if (e := group.acquire((), NOW))]

    assert names(seeded(1, 2, 3)) == names(seeded(1, 2, 3))


def test_random_takes_the_one_that_is_left() -> None:
    group = seeded(1, 1, 1)
    left = by_name(group, "1")
    assert group.acquire({e for e in group.endpoints if e is not left}, NOW) is left


# ip_hash


def test_a_client_network_stays_with_its_endpoint() -> None:
    group = group_of(*(spec(f"{n}") for n in range(5)), policy="ip_hash")
    assert len(count(group, 20, "192.0.2.1") + count(group, 20, "192.0.2.250")) == 1


def test_a_failing_endpoint_moves_only_its_own_clients() -> None:
    group = group_of(*(spec(f"{n}", max_fails=1) for n in range(5)), policy="ip_hash")
    clients = [f"10.{n}.{n * 3 % 256}.1" for n in range(200)]

    def homes() -> dict[str, str]:
        return {client: next(iter(count(group, 1, client))) for client in clients}

    before = homes()
    assert set(before.values()) == {"0", "1", "2", "3", "4"}
    lost = by_name(group, "2")
    assert group.acquire({e for e in group.endpoints if e is not lost}, NOW) is lost
    group.release(lost, Outcome.FAILURE, NOW)
    after = homes()
    assert "2" not in after.values()
    assert {c: home for c, home in after.items() if before[c] != "2"} == {
        c: home for c, home in before.items() if home != "2"
    }
    assert len({home for c, home in after.items() if before[c] == "2"}) > 1


def test_every_endpoint_can_be_reached_by_retries() -> None:
    group = group_of(*(spec(f"{n}") for n in range(30)), policy="ip_hash")
    tried: set[Endpoint] = set()
    while (endpoint := group.acquire(tried, NOW, "198.51.100.7")) is not None:
        tried.add(endpoint)
    assert len(tried) == 30


@pytest.mark.parametrize(
    ("client", "octets"),
    [
        ("192.0.2.7", bytes([192, 0, 2])),
        ("2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        ("fe80::1%eth0", bytes.fromhex("fe800000000000000000000000000001")),
        ("", bytes(3)),
        ("not an address", bytes(3)),
    ],
)
def test_what_is_hashed_of_a_client(client: str, octets: bytes) -> None:
    assert client_octets(client) == octets
