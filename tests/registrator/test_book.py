from __future__ import annotations

from types import MappingProxyType

from registrator.book import Book
from registrator.model import OWNER, Registered, Registration
from registrator.plan import Action, Deregister, Register

OURS = MappingProxyType({OWNER: "n1"})


def wanted(service_id: str, port: int = 80) -> Registration:
    return Registration("c1", service_id, "web", "127.0.0.1", port, meta=OURS)


def had(service_id: str, port: int = 80) -> Registered:
    return Registered(service_id, "web", "127.0.0.1", port, meta=OURS)


def book(*services: Registered) -> Book:
    """Return a book of an agent that has these."""
    made = Book()
    made.begin_reading()
    made.take(services)
    return made


def actions(one: Book, *registrations: Registration, cleanup: bool = True) -> list[Action]:
    return list(one.plan(registrations, (), cleanup=cleanup, adopt=False).actions)


def write(one: Book, action: Action) -> None:
    one.begin(action)
    one.end(action)


def test_what_was_written_is_not_to_be_written_again() -> None:
    known = book()
    register = Register(wanted("a"))
    assert actions(known, wanted("a")) == [register]
    write(known, register)
    assert actions(known, wanted("a")) == []
    assert known.owned() == ["a"]
    write(known, Deregister("a"))
    assert known.owned() == []


def test_while_something_is_written_nothing_else_of_that_id_is() -> None:
    known = book()
    known.begin(Register(wanted("a")))
    assert not known.allows(Deregister("a"))
    assert known.allows(Deregister("b"))
    known.end(Register(wanted("a")))
    assert known.allows(Deregister("a"))


def test_what_is_written_during_a_reading_is_not_forgotten_by_it() -> None:
    known = book(had("gone"), had("stays"))
    known.begin(Register(wanted("before")))
    known.begin_reading()
    known.end(Register(wanted("before")))
    write(known, Register(wanted("during")))
    write(known, Deregister("gone"))
    known.take([had("gone"), had("stays")])
    assert known.owned() == ["before", "during", "stays"]
    known.begin_reading()
    known.take([had("stays")])
    assert known.owned() == ["stays"], "the next reading is believed"


def test_what_was_refused_is_told_and_not_tried_again_until_the_next_reading() -> None:
    known = book()
    refused = Register(wanted("a"))
    known.begin(refused)
    known.end(refused, "HTTP 400: no")
    assert not known.allows(refused)
    assert known.allows(Register(wanted("a", port=81)))
    assert [(one.subject, one.reason) for one in known.problems()] == [
        ("a", "Consul refuses to register it: HTTP 400: no")
    ]
    known.take([])
    assert known.allows(refused)
    assert known.problems() == []


def test_a_refusal_is_of_no_concern_once_nobody_wants_the_service() -> None:
    known = book()
    refused = Register(wanted("a"))
    known.begin(refused)
    known.end(refused, "HTTP 400: no")
    actions(known, wanted("a"))
    assert known.problems()
    actions(known)
    assert known.problems() == []


def test_after_a_failure_nothing_is_known() -> None:
    known = book(had("a"))
    known.begin(Deregister("a"))
    known.fail(Deregister("a"))
    assert not known.known
    assert known.allows(Deregister("a"))
    known.take([had("a")])
    assert known.known


def test_without_cleanup_only_what_was_wanted_before_is_removed() -> None:
    known = book(had("ghost"), had("a"))
    assert actions(known, wanted("a"), cleanup=False) == []
    assert actions(known, cleanup=False) == [Deregister("a")]
    assert actions(known, cleanup=False) == [Deregister("a")], "until it is done"
    write(known, Deregister("a"))
    assert actions(known, cleanup=False) == []
    assert actions(known) == [Deregister("ghost")]


def test_without_cleanup_what_was_wanted_and_never_registered_is_left_to_others() -> None:
    known = book()
    actions(known, wanted("a"), cleanup=False)
    assert actions(known, cleanup=False) == []
    known.learn([had("a")])
    assert actions(known, cleanup=False) == []


def test_without_cleanup_what_is_wanted_no_more_while_it_is_written_is_removed() -> None:
    known = book()
    register = Register(wanted("a"))
    actions(known, wanted("a"), cleanup=False)
    known.begin(register)
    assert actions(known, cleanup=False) == []
    known.end(register)
    assert actions(known, cleanup=False) == [Deregister("a")]


def test_without_cleanup_what_may_have_been_written_is_removed_once_it_is_seen() -> None:
    known = book()
    register = Register(wanted("a"))
    actions(known, wanted("a"), cleanup=False)
    known.begin(register)
    known.begin_reading()
    known.fail(register)
    known.take([])
    assert actions(known, cleanup=False) == []
    known.begin_reading()
    assert actions(known, cleanup=False) == []
    known.take([had("a")])
    assert actions(known, cleanup=False) == [Deregister("a")]


def test_what_is_learnt_counts_at_once() -> None:
    known = book()
    known.learn([had("a")])
    assert actions(known, wanted("a")) == []
