from __future__ import annotations

from lb.catalog.guard import EmptyGuard


def test_a_vanished_service_is_believed_on_the_second_word_of_a_leader() -> None:
    guard = EmptyGuard(1.0)
    assert not guard.believes("web", 100.0, leader=True)
    assert "web" in guard
    assert guard.due("web") == 101.0
    assert not guard.believes("web", 100.9, leader=True)
    assert not guard.believes("web", 105.0, leader=False)
    assert guard.believes("web", 105.0, leader=True)
    assert "web" not in guard


def test_a_service_that_came_back_starts_anew() -> None:
    guard = EmptyGuard(1.0)
    guard.believes("web", 100.0, leader=True)
    guard.release("web")
    assert not guard.believes("web", 105.0, leader=True)


def test_services_are_judged_one_by_one() -> None:
    guard = EmptyGuard(1.0)
    guard.believes("a", 100.0, leader=True)
    assert not guard.believes("b", 101.0, leader=True)
    assert guard.believes("a", 101.0, leader=True)
    assert len(guard) == 1


def test_without_a_guard_every_answer_is_believed() -> None:
    guard = EmptyGuard(0.0)
    assert guard.believes("web", 100.0, leader=False)
    assert len(guard) == 0
