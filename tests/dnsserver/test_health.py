"""Which recursors are asked first, by what they did before."""

from __future__ import annotations

from dnsserver.health import LONGEST_PAUSE, RecursorHealth
from lb.settings import Address

A, B, C = (Address(f"10.0.0.{number}", 53) for number in (1, 2, 3))


def test_those_that_failed_are_last_in_the_given_order() -> None:
    health = RecursorHealth([A, B, C])
    assert health.order([A, B, C]) == [A, B, C]
    assert health.failed(A, 100.0)
    assert health.order([A, B, C]) == [B, C, A]
    health.failed(B, 100.0)
    assert health.order([A, B, C]) == [C, A, B]
    health.failed(C, 100.0)
    assert health.order([C, A, B]) == [C, A, B]


def test_a_slow_answer_does_not_make_a_recursor_dead_a_failed_trial_does() -> None:
    health = RecursorHealth([A, B])
    for recursor in (A, B):
        health.trial_failed(recursor)
        health.failed(recursor, 100.0)
    assert not health.all_dead([A, B]), "a trial that failed before the recursor was down does not count"
    health.trial_failed(A)
    assert health.all_dead([A])
    assert not health.all_dead([A, B])
    health.trial_failed(B)
    assert health.all_dead([A, B])
    health.replied(A)
    health.failed(A, 101.0)
    assert not health.all_dead([A, B])


def test_a_return_is_one_from_the_dead() -> None:
    health = RecursorHealth([A, B])
    health.failed(A, 0.0)
    health.replied(A)
    assert health.returns([A, B]) == 0, "it was slow once, no trial failed"
    for times in (1, 2):
        health.failed(A, 10.0)
        health.trial_failed(A)
        health.replied(A)
        health.replied(A)
        assert (health.returns([A, B]), health.returns([B])) == (times, 0)


def test_a_reply_makes_up_for_all_failures() -> None:
    health = RecursorHealth([A, B])
    assert not health.replied(A), "it was not down"
    assert health.failed(A, 100.0)
    assert not health.failed(A, 100.1), "it is down already"
    assert health.states() == {"10.0.0.1:53": 0, "10.0.0.2:53": 1}
    assert health.replied(A)
    assert health.states() == {"10.0.0.1:53": 1, "10.0.0.2:53": 1}
    assert health.due(1000.0) == []


def test_one_that_is_down_is_tried_ever_more_seldom() -> None:
    health = RecursorHealth([A])
    health.failed(A, 0.0)
    tried = []
    for tenths in range(400):
        now = tenths / 10
        if health.due(now):
            tried.append(now)
            health.failed(A, now)
    assert tried == [1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0]
    assert tried[-1] - tried[-2] == LONGEST_PAUSE


def test_the_first_trial_after_a_new_failure_comes_soon() -> None:
    health = RecursorHealth([A])
    health.failed(A, 0.0)
    health.due(20.0)
    health.replied(A)
    health.failed(A, 30.0)
    assert (health.due(30.9), health.due(31.0)) == ([], [A])
