"""The group: who may be picked, what an outcome changes, what survives a change of the catalog."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group, Outcome
from tests.lb.balance.reference import Reference, ReferencePeer
from tests.lb.balance.specs import by_name, group_of, spec

NOW = 1_000_000


def picks(group: Group, count: int, now: int = NOW) -> str:
    """Make successful requests; return the names picked."""
    names = ""
    for _ in range(count):
        endpoint = group.acquire((), now)
        assert endpoint is not None
        group.release(endpoint, Outcome.SUCCESS, now)
        names += endpoint.host
    return names


def fail(group: Group, name: str, now: int = NOW, times: int = 1) -> None:
    """Let attempts on one endpoint fail."""
    others = {e for e in group.endpoints if e.host != name}
    for _ in range(times):
        endpoint = group.acquire(others, now)
        assert endpoint is not None
        assert endpoint.host == name
        group.release(endpoint, Outcome.FAILURE, now)


# Shares


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(1, 3))
def test_in_a_round_each_gets_exactly_its_weight(weights: list[int], rounds: int) -> None:
    names = [f"{n}" for n in range(len(weights))]
    group = group_of(*(spec(name, weight) for name, weight in zip(names, weights, strict=True)))
    counts = Counter(picks(group, sum(weights) * rounds))
    assert counts == {name: weight * rounds for name, weight in zip(names, weights, strict=True)}


def test_a_heavy_endpoint_does_not_get_its_share_in_one_burst() -> None:
    assert picks(group_of(spec("a", 5), spec("b"), spec("c")), 7) == "aabacaa"


# Who may be picked


def test_nobody_is_picked_from_an_empty_group() -> None:
    assert group_of().acquire((), NOW) is None


def test_what_was_tried_is_not_picked_again() -> None:
    group = group_of(spec("a"), spec("b"))
    a = by_name(group, "a")
    picked = group.acquire({a}, NOW)
    assert picked is by_name(group, "b")
    assert group.acquire({a, picked}, NOW) is None


def test_one_endpoint_alone_that_was_tried_is_not_picked_again() -> None:
    group = group_of(spec("a"))
    assert group.acquire({by_name(group, "a")}, NOW) is None


def test_max_conns_counts_attempts_under_way() -> None:
    group = group_of(spec("a", max_conns=1), spec("b", max_conns=2))
    held = [group.acquire((), NOW) for _ in range(3)]
    assert [e.host for e in held if e] == ["a", "b", "b"]
    assert group.acquire((), NOW) is None
    assert held[0] is not None
    group.release(held[0], Outcome.NEUTRAL, NOW)
    assert group.acquire((), NOW) is held[0]


def test_max_conns_holds_for_one_endpoint_alone() -> None:
    group = group_of(spec("a", max_conns=1))
    assert group.acquire((), NOW) is not None
    assert group.acquire((), NOW) is None


def test_weight_0_gets_nothing_and_is_still_listed() -> None:
    group = group_of(spec("a", 0), spec("b"), spec("c"))
    assert picks(group, 4) == "bcbc"
    assert [e.host for e in group.endpoints] == ["a", "b", "c"]
    assert group_of(spec("a", 0)).acquire((), NOW) is None


@pytest.mark.parametrize("policy", ["round_robin", "least_conn", "random", "ip_hash"])
def test_weight_0_gets_nothing_by_any_policy(policy: str) -> None:
    group = group_of(spec("a", 0), spec("b"), spec("c"), policy=policy)
    assert "a" not in picks(group, 50)


# Failures


def test_max_fails_failures_suspend_and_more_than_fail_timeout_must_pass() -> None:
    group = group_of(spec("a"), spec("b", max_fails=2, fail_timeout=10))
    fail(group, "b", times=2)
    assert picks(group, 4, NOW + 10) == "aaaa"
    assert "b" in picks(group, 2, NOW + 11)


def test_after_fail_timeout_one_request_is_the_probe() -> None:
    group = group_of(spec("a"), spec("b", max_fails=1, fail_timeout=10))
    a, b = group.endpoints
    fail(group, "b")
    assert group.acquire({a}, NOW + 11) is b
    assert group.acquire({a}, NOW + 11) is None
    assert group.acquire({a}, NOW + 21) is None
    group.release(b, Outcome.SUCCESS, NOW + 21)
    assert group.acquire({a}, NOW + 21) is b


def test_a_failed_probe_suspends_for_another_fail_timeout() -> None:
    group = group_of(spec("a"), spec("b", max_fails=2, fail_timeout=10))
    fail(group, "b", times=2)
    fail(group, "b", NOW + 11)
    assert picks(group, 4, NOW + 21) == "aaaa"
    assert "b" in picks(group, 2, NOW + 22)


def test_a_success_soon_after_a_failure_clears_nothing() -> None:
    group = group_of(spec("a"), spec("b", max_fails=2, fail_timeout=10))
    fail(group, "b")
    assert "b" in picks(group, 4, NOW + 10)
    assert by_name(group, "b").fails == 1
    assert "b" in picks(group, 4, NOW + 11)
    assert by_name(group, "b").fails == 0


def test_an_attempt_that_taught_nothing_changes_nothing() -> None:
    group = group_of(spec("a"), spec("b", max_fails=1, fail_timeout=10))
    a, b = group.endpoints
    fail(group, "b")
    assert group.acquire({a}, NOW + 11) is b
    group.release(b, Outcome.NEUTRAL, NOW + 11)
    assert (b.fails, b.active) == (1, 0)
    assert picks(group, 3, NOW + 12) == "aaa"


def test_a_connection_that_is_up_is_credited_while_it_lasts() -> None:
    group = group_of(spec("a"), spec("b", max_fails=1, fail_timeout=10))
    a, b = group.endpoints
    fail(group, "b")
    assert group.acquire({a}, NOW + 11) is b
    group.credit(b)
    assert (b.fails, b.active) == (0, 1)
    assert group.acquire({a}, NOW + 11) is b


def test_one_endpoint_alone_is_used_whatever_its_failures() -> None:
    group = group_of(spec("a", max_fails=1))
    for _ in range(5):
        fail(group, "a")
    assert by_name(group, "a").fails == 0


def test_an_endpoint_beside_one_of_weight_0_is_alone() -> None:
    group = group_of(spec("a", max_fails=1), spec("b", 0))
    fail(group, "a", times=3)
    assert picks(group, 2) == "aa"


def test_max_fails_0_never_suspends() -> None:
    group = group_of(spec("a"), spec("b", max_fails=0))
    fail(group, "b", times=50)
    assert picks(group, 4) == "abab"


def test_a_failure_takes_weight_that_comes_back_pick_by_pick() -> None:
    group = group_of(spec("a", 6, max_fails=2), spec("b", 6, max_fails=2))
    fail(group, "a")
    assert by_name(group, "a").effective == 3
    picks(group, 3)
    assert by_name(group, "a").effective == 6


# The whole of it, against the rules written down plainly

events = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.lists(st.booleans(), min_size=1, max_size=4)),
        st.tuples(st.just("hold"), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.integers(1, 4)),
    ),
    max_size=60,
)
options = st.tuples(st.integers(1, 7), st.integers(0, 3), st.integers(0, 4), st.integers(0, 3))


class Twins:
    """A group and its reference, which get the same events and must pick the same."""

    def __init__(self, peers: list[tuple[int, int, int, int]], policy: str) -> None:
        self.now = NOW
        self.held: list[Endpoint] = []
        names = [f"{n}" for n in range(len(peers))]
        self.group = Group("web")
        specs = [
            spec(name, weight, max_fails=fails, fail_timeout=timeout, max_conns=conns)
            for name, (weight, fails, timeout, conns) in zip(names, peers, strict=True)
        ]
        self.group.reconcile(specs, policy)
        self.reference = Reference(
            [ReferencePeer(name, *peer) for name, peer in zip(names, peers, strict=True)], policy
        )

    def acquire(self, tried: set[Endpoint]) -> Endpoint | None:
        endpoint = self.group.acquire(tried, self.now)
        expected = self.reference.acquire({e.host for e in tried}, self.now)
        assert (endpoint and endpoint.host) == expected
        return endpoint

    def release(self, endpoint: Endpoint, outcome: Outcome) -> None:
        self.group.release(endpoint, outcome, self.now)
        self.reference.release(endpoint.host, outcome is Outcome.FAILURE, self.now)

    def request(self, failures: list[bool]) -> None:
        """One request: attempts fail in turn as told, until one does not or nobody is left."""
        tried: set[Endpoint] = set()
        for failed in failures:
            endpoint = self.acquire(tried)
            if endpoint is None:
                return
            tried.add(endpoint)
            self.release(endpoint, Outcome.FAILURE if failed else Outcome.SUCCESS)
            if not failed:
                return


@given(st.lists(options, min_size=2, max_size=5), st.sampled_from(["round_robin", "least_conn"]), events)
def test_a_group_does_what_the_rules_say(
    peers: list[tuple[int, int, int, int]], policy: str, happened: list[tuple[str, int | list[bool]]]
) -> None:
    twins = Twins(peers, policy)
    for event, value in happened:
        if isinstance(value, list):
            twins.request(value)
        elif event == "hold":
            endpoint = twins.acquire(set())
            if endpoint is not None:
                twins.held.append(endpoint)
        elif event == "end" and twins.held:
            twins.release(twins.held.pop(value % len(twins.held)), Outcome.SUCCESS)
        elif event == "pass":
            twins.now += value


# Changes of the catalog


def test_an_endpoint_with_the_same_key_keeps_its_state() -> None:
    group = group_of(spec("a"), spec("b", max_fails=1))
    fail(group, "b")
    b = by_name(group, "b")
    removed = group.reconcile([spec("b", max_fails=1), spec("c"), spec("a")], "round_robin")
    assert removed == []
    assert by_name(group, "b") is b
    assert [e.host for e in group.endpoints] == ["b", "c", "a"]
    assert "b" not in picks(group, 6)


def test_new_options_hold_at_once() -> None:
    group = group_of(spec("a"), spec("b", max_fails=5))
    fail(group, "b", times=2)
    group.reconcile([spec("a"), spec("b", max_fails=2)], "round_robin")
    assert "b" not in picks(group, 4)


def test_who_left_is_returned_and_marked_and_not_picked() -> None:
    group = group_of(spec("a"), spec("b"))
    b = by_name(group, "b")
    assert group.reconcile([spec("a")], "round_robin") == [b]
    assert b.removed
    assert picks(group, 3) == "aaa"


def test_the_release_of_an_endpoint_that_left_hurts_nobody() -> None:
    group = group_of(spec("a"), spec("b"), spec("c"))
    group.acquire((), NOW)
    b = group.acquire((), NOW)
    assert b is not None
    group.reconcile([spec("a"), spec("c")], "round_robin")
    group.release(b, Outcome.FAILURE, NOW)
    assert b.active == 0
    assert [(e.host, e.fails, e.active) for e in group.endpoints] == [("a", 0, 1), ("c", 0, 0)]
    group.reconcile([], "round_robin")
    group.release(by_name(group_of(spec("a")), "a"), Outcome.SUCCESS, NOW)


def test_an_endpoint_that_comes_back_starts_anew() -> None:
    group = group_of(spec("a"), spec("b", max_fails=1))
    fail(group, "b")
    group.reconcile([spec("a")], "round_robin")
    group.reconcile([spec("a"), spec("b", max_fails=1)], "round_robin")
    assert "b" in picks(group, 2)


def test_a_catalog_that_says_the_same_does_not_disturb_the_turns() -> None:
    specs = [spec("a", 5), spec("b"), spec("c")]
    group = group_of(*specs)
    names = ""
    for _ in range(14):
        names += picks(group, 1)
        group.reconcile(specs, "round_robin")
    assert names == "aabacaa" * 2


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=60))
def test_newcomers_neither_starve_nor_are_flooded(changes: list[tuple[int, int]]) -> None:
    """However members came and went, four equal ones then share 40 requests nearly evenly."""
    members = ["0", "1", "2", "3"]
    group = group_of(*map(spec, members))
    for number, (leaving, requests) in enumerate(changes):
        members.pop(leaving % len(members))
        members.append(f"n{number}")
        group.reconcile([spec(name) for name in members], "round_robin")
        for _ in range(requests):
            picks(group, 1)
    counts = Counter[str]()
    for _ in range(40):
        endpoint = group.acquire((), NOW)
        assert endpoint is not None
        counts[endpoint.host] += 1
    assert all(9 <= counts[name] <= 11 for name in members)


def test_new_weights_start_a_new_round() -> None:
    group = group_of(spec("a", 100), spec("b", 1))
    picks(group, 50)
    group.reconcile([spec("a", 1), spec("b", 1)], "round_robin")
    assert picks(group, 6) == "ababab"


def test_the_policy_may_change_and_endpoints_keep_their_state() -> None:
    group = group_of(spec("a"), spec("b"))
    a = group.acquire((), NOW)
    group.reconcile([spec("a"), spec("b")], "least_conn")
    assert group.policy == "least_conn"
    assert picks(group, 3) == "bbb"
    assert by_name(group, "a") is a


def test_an_unknown_policy_changes_nothing() -> None:
    group = group_of(spec("a"), spec("b"))
    with pytest.raises(KeyError):
        group.reconcile([], "fastest")
    assert (group.policy, len(group.endpoints)) == ("round_robin", 2)


def test_an_ipv6_endpoint_is_named_with_brackets() -> None:
    group = group_of(spec("fd00::1"), spec("10.0.0.1"))
    assert [e.name for e in group.endpoints] == ["[fd00::1]:80", "10.0.0.1:80"]
