from __future__ import annotations

from dataclasses import replace

import pytest

from lb.catalog.model import Problem
from lb.settings import RegistratorSettings
from registrator import roster as module
from registrator.model import Container, Port, Published, Registration
from registrator.roster import Roster
from registrator.services import registrations

SETTINGS = RegistratorSettings(host="h")


def container(name: str, port: int = 8000, **changes: object) -> Container:
    ports = (Port(80, "tcp", (Published("127.0.0.1", port),)),)
    return replace(Container(id=f"id-{name}", name=name, image="web", ports=ports), **changes)  # type: ignore[arg-type]


def roster(*containers: Container, settings: RegistratorSettings = SETTINGS) -> Roster:
    """Return a roster that knows these."""
    made = Roster(settings)
    made.node = "n1"
    made.compare({one.id: one for one in containers}, made.turn())
    return made


def wanted(one: Roster) -> list[tuple[str, int]]:
    return [(registration.id, registration.port) for registration in one.wanted()]


A, B = container("a"), container("b", 8001)


def test_what_runs_is_wanted_once_the_node_is_known() -> None:
    known = Roster(SETTINGS)
    assert not known.complete
    known.compare({A.id: A}, known.turn())
    assert known.complete
    assert known.wanted() == []
    known.node = "n1"
    assert wanted(known) == [("h:a:80", 8000)]
    assert known.wanted()[0].meta == {"registrator": "n1"}
    known.node = "n2"
    assert known.wanted()[0].meta == {"registrator": "n2"}


def test_who_ends_is_named_with_what_it_was_registered_as() -> None:
    known = roster(A, B)
    known.wanted()
    assert [one.id for one in known.end(A.id, 1)] == ["h:a:80"]
    assert wanted(known) == [("h:b:80", 8001)]
    assert known.end(A.id, 1) == []
    assert known.end("unknown", 0) == []


def test_an_inspection_from_before_the_end_tells_nothing() -> None:
    known = roster(A)
    turn = known.turn()
    known.end(A.id, 0)
    assert known.tell(A.id, A, turn) == []
    assert wanted(known) == []
    known.compare({A.id: A, B.id: B}, turn)
    assert wanted(known) == [("h:b:80", 8001)], "nor does a comparison, of that container"
    known.touch(A.id)
    known.tell(A.id, A, known.turn())
    assert wanted(known) == [("h:a:80", 8000), ("h:b:80", 8001)]


def test_an_inspection_from_before_a_removal_tells_nothing_even_after_a_comparison() -> None:
    known = roster(A)
    turn = known.turn()
    known.forget(A.id)
    known.compare({}, known.turn())
    known.tell(A.id, A, turn)
    assert wanted(known) == []


def test_what_started_during_a_comparison_is_not_ended_by_it() -> None:
    known = roster()
    turn = known.turn()
    known.touch(A.id)
    known.tell(A.id, A, known.turn())
    assert known.compare({}, turn) == []
    assert wanted(known) == [("h:a:80", 8000)]
    assert [one.id for one in known.compare({}, known.turn())] == ["h:a:80"]


@pytest.mark.parametrize("found", [None, replace(A, running=False)])
def test_what_does_not_run_any_more_has_ended(found: Container | None) -> None:
    known = roster(A)
    known.wanted()
    assert [one.id for one in known.tell(A.id, found, known.turn())] == ["h:a:80"]


def test_of_one_that_cannot_be_read_what_was_known_stays_and_the_reason_is_told() -> None:
    known = roster(A)
    assert known.tell(A.id, "nonsense", known.turn()) == []
    assert known.tell("id-new-and-longer-than-twelve", "nothing", known.turn()) == []
    assert wanted(known) == [("h:a:80", 8000)]
    assert [(one.subject, one.reason) for one in known.problems()] == [
        ("id-a", "nonsense"),
        ("id-new-and-l", "nothing"),
    ]
    known.tell(A.id, A, known.turn())
    known.compare({A.id: A}, known.turn())
    assert known.problems() == []


def test_a_container_that_changed_is_wanted_as_it_is_now() -> None:
    known = roster(A)
    known.wanted()
    assert known.tell(A.id, replace(A, name="z"), known.turn()) == []
    assert wanted(known) == [("h:z:80", 8000)]


@pytest.mark.parametrize(("deregister", "kept"), [("always", set()), ("on-success", {"h:a:80"})])
def test_one_that_failed_may_stay(deregister: str, kept: set[str]) -> None:
    known = roster(A, settings=replace(SETTINGS, deregister=deregister))  # type: ignore[arg-type]
    known.wanted()
    gone = known.end(A.id, 3)
    assert (known.kept(), bool(gone)) == (kept, not kept)
    assert wanted(known) == []
    known.compare({}, known.turn())
    assert known.kept() == kept
    known.forget(A.id)
    assert known.kept() == set()


def test_one_that_failed_and_runs_again_stays_for_no_other_reason() -> None:
    known = roster(A, settings=replace(SETTINGS, deregister="on-success"))
    known.end(A.id, 3)
    known.tell(A.id, A, known.turn())
    assert known.kept() == set()
    known.end(A.id, 0)
    assert known.kept() == set()


def test_those_that_failed_before_the_start_are_told_of() -> None:
    known = roster(settings=replace(SETTINGS, deregister="on-success"))
    ended = [replace(A, running=False, exit_code=3), replace(B, running=False)]
    known.tell_failed(ended, known.turn())
    assert known.kept() == {"h:a:80"}


def test_a_fault_over_one_container_is_its_problem_alone_and_keeps_what_is_registered_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(one: Container, settings: RegistratorSettings, node: str) -> tuple[list[Registration], list[Problem]]:
        if one.image == "bad":
            raise RuntimeError("not foreseen")
        return registrations(one, settings, node)

    monkeypatch.setattr(module, "registrations", faulty)
    bad = replace(A, image="bad")
    known = roster(bad, B)
    assert wanted(known) == [("h:b:80", 8001)]
    assert [(one.subject, one.reason) for one in known.problems()] == [("id-a", "a fault: RuntimeError: not foreseen")]
    assert known.kept() == {"h:a:80"}
    known.tell(A.id, A, known.turn())
    assert wanted(known) == [("h:a:80", 8000), ("h:b:80", 8001)]
    assert (known.problems(), known.kept()) == ([], set())
    known.tell(A.id, bad, known.turn())
    assert wanted(known) == [("h:b:80", 8001)]
    known.end(A.id, 0)
    assert (known.problems(), known.kept()) == ([], set())
