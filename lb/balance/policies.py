"""Which of the eligible endpoints is next: the four policies, as nginx has them.

A policy is a function of all endpoints of the group, in order; of those among them that are eligible, in
the same order, at least one; and of the client's address and the number of attempts already made for this
request, which only `ip_hash` looks at. It returns one of the eligible ones.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import accumulate

from lb.balance.endpoint import CURRENT, LACK, Endpoint

Policy = Callable[[Sequence[Endpoint], Sequence[Endpoint], str, int], Endpoint]
Rng = Callable[[], float]
"""Returns a number of [0, 1), as `random.random` does."""

POLICY_NAMES = ("round_robin", "least_conn", "random", "ip_hash")

HASH_MISSES = 20
"""How many ineligible endpoints `ip_hash` meets before it gives up and takes turns (nginx)."""


def policy_named(name: str, rng: Rng = random.random) -> Policy:
    """Return one of `POLICY_NAMES`, or raise KeyError; `rng` is for `random`."""
    policies: dict[str, Policy] = {
        "round_robin": round_robin,
        "least_conn": least_conn,
        "random": random_two(rng),
        "ip_hash": ip_hash,
    }
    return policies[name]


def take_turns(eligible: Sequence[Endpoint]) -> Endpoint:
    """Smooth weighted round robin: return the next one and move all along. The first wins a tie.

    In as many picks as the weights sum to, each endpoint gets its weight, spread as evenly as can be. A
    weight that failures lowered comes back by one with each pick.
    """
    total = 0
    best = eligible[0]
    highest: int | None = None
    for endpoint in eligible:
        row = endpoint.row
        lack = endpoint.common[row + LACK]
        effective = endpoint.weight - lack
        if lack:
            endpoint.common[row + LACK] = lack - 1
        total += effective
        row += CURRENT
        endpoint.standing[row] += effective
        current = 0
        for cells in endpoint.standings:
            current += cells[row]
        if highest is None or current > highest:
            highest = current
            best = endpoint
    best.move(-total)
    return best


def round_robin(_endpoints: Sequence[Endpoint], eligible: Sequence[Endpoint], _client: str, _attempts: int) -> Endpoint:
    """Each in turn, by weight."""
    return take_turns(eligible)


def least_conn(_endpoints: Sequence[Endpoint], eligible: Sequence[Endpoint], _client: str, _attempts: int) -> Endpoint:
    """The one with the fewest connections for its weight; those that tie take turns among themselves."""
    best = eligible[0]
    fewest = best.active
    tied = [best]
    for endpoint in eligible[1:]:
        active = endpoint.active
        # active / weight of both, compared without a division.
        load, least = active * best.weight, fewest * endpoint.weight
        if load < least:
            best, fewest = endpoint, active
            tied = [endpoint]
        elif load == least:
            tied.append(endpoint)
    return best if len(tied) == 1 else take_turns(tied)


def random_two(rng: Rng) -> Policy:
    """Two different ones drawn by weight, then the one with fewer connections for its weight.

    Drawing from the eligible alone gives what nginx's repeated draws from all give.
    """

    def draw(eligible: Sequence[Endpoint]) -> Endpoint:
        ends = list(accumulate(endpoint.weight for endpoint in eligible))
        return eligible[bisect(ends, int(rng() * ends[-1]))]

    def pick(_endpoints: Sequence[Endpoint], eligible: Sequence[Endpoint], _client: str, _attempts: int) -> Endpoint:
        first = draw(eligible)
        if len(eligible) == 1:
            return first
        second = draw([endpoint for endpoint in eligible if endpoint is not first])
        return first if first.active * second.weight < second.active * first.weight else second

    return pick


def ip_hash(endpoints: Sequence[Endpoint], eligible: Sequence[Endpoint], client: str, attempts: int) -> Endpoint:
    """The same one for the same client network while it is eligible; else the next one of the hash's walk.

    The walk is over all endpoints, so that one that fails moves only its own clients. After `HASH_MISSES`
    ineligible ones, the eligible take turns.
    """
    octets = client_octets(client)
    total = sum(endpoint.weight for endpoint in endpoints)
    state = 89
    # The walk starts anew at each attempt; the endpoints it gave to earlier ones are no misses.
    for _ in range(HASH_MISSES + 1 + attempts):
        for octet in octets:
            state = (state * 113 + octet) % 6271
        place = state % total
        for endpoint in endpoints:
            if place < endpoint.weight:
                break
            place -= endpoint.weight
        if endpoint in eligible:
            return endpoint
    return take_turns(eligible)


@lru_cache(maxsize=4096)
def client_octets(client: str) -> bytes:
    """Return what `ip_hash` hashes: three octets of an IPv4 address, all of IPv6, else three zeros."""
    try:
        return IPv6Address(client).packed if ":" in client else IPv4Address(client).packed[:3]
    except AddressValueError:
        return bytes(3)
