from __future__ import annotations

from lb.catalog import decode
from lb.catalog.ledger import Ledger
from lb.catalog.model import Problem, Snapshot
from tests.lb.catalog.samples import entry


def test_equal_answers_change_nothing_and_keep_their_objects() -> None:
    ledger = Ledger(Snapshot())
    assert ledger.record(decode.service("web", [entry(), entry(id="web-2")])) == (True, ())
    before = ledger.services["web"]
    assert ledger.record(decode.service("web", [entry(id="web-2"), entry()])) == (False, ())
    assert ledger.services["web"] is before


def test_a_change_of_one_instance_keeps_the_others() -> None:
    ledger = Ledger(Snapshot())
    ledger.record(decode.service("web", [entry(), entry(id="web-2")]))
    first, second = ledger.services["web"].instances
    changed, _ = ledger.record(decode.service("web", [entry(), entry(id="web-2", port=9)]))
    assert changed
    assert ledger.services["web"].instances[0] is first
    assert ledger.services["web"].instances[1] is not second


def test_a_problem_is_news_once_and_again_after_it_was_gone() -> None:
    ledger = Ledger(Snapshot())
    bad = decode.service("web", [entry(port=-1)])
    assert ledger.record(bad) == (True, bad.problems)
    assert ledger.record(bad) == (False, ())
    assert ledger.problems == bad.problems
    assert ledger.record(decode.service("web", [entry()]))[0]
    assert ledger.problems == ()
    assert ledger.record(bad)[1] == bad.problems


def test_a_service_that_cannot_be_read_keeps_what_it_had() -> None:
    ledger = Ledger(Snapshot())
    ledger.record(decode.service("web", [entry()]))
    problem = Problem("instance", "web", "HTTP 400: no")
    assert ledger.refuse(problem, "web")
    assert not ledger.refuse(problem, "web")
    assert len(ledger.services["web"].instances) == 1
    assert ledger.problems == (problem,)


def test_a_removed_service_leaves_nothing_behind() -> None:
    ledger = Ledger(Snapshot())
    ledger.record(decode.service("web", [entry(), entry(id="bad", port=-1)]))
    ledger.note_index("web", 9)
    ledger.remove("web")
    assert (dict(ledger.services), ledger.problems, ledger.index("web")) == ({}, (), 0)
    assert ledger.registered(apart_from=frozenset()) == {}


def test_the_catalog_from_disk_is_what_answers_are_compared_with() -> None:
    service = decode.service("web", [entry()]).service
    ledger = Ledger(Snapshot({"web": service}, fresh=False))
    assert ledger.record(decode.service("web", [entry()])) == (False, ())
    assert ledger.services["web"] is service
