from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lb.catalog.agenda import Agenda


def test_first_come_first_served_and_each_once() -> None:
    agenda = Agenda()
    for name in ("b", "a", "b"):
        agenda.add(name)
    assert [agenda.take(0.0) for _ in range(3)] == ["b", "a", None]


def test_a_name_waits_until_it_is_due_and_the_earlier_moment_counts() -> None:
    agenda = Agenda()
    agenda.add("a", 10.0)
    agenda.add("a", 20.0)
    assert (agenda.take(9.9), agenda.next_due()) == (None, 10.0)
    agenda.add("a", 5.0)
    assert (agenda.next_due(), agenda.take(5.0), agenda.next_due()) == (5.0, "a", None)


def test_a_name_added_while_it_is_read_is_read_again() -> None:
    agenda = Agenda()
    agenda.add("a")
    assert agenda.take(0.0) == "a"
    agenda.add("a")
    assert agenda.take(0.0) is None
    assert len(agenda) == 1
    agenda.done("a")
    assert agenda.take(0.0) == "a"
    agenda.done("a")
    assert len(agenda) == 0


class AgendaMachine(RuleBasedStateMachine):
    """Against a plain model: a dict of moments and a set of names being read."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = Agenda()
        self.due: dict[str, float] = {}
        self.reading: set[str] = set()
        self.now = 0.0

    @rule(name=st.sampled_from("abcde"), delay=st.sampled_from([0.0, 1.0, 5.0]))
    def add(self, name: str, delay: float) -> None:
        self.agenda.add(name, self.now + delay)
        self.due[name] = min(self.now + delay, self.due.get(name, self.now + delay))

    @rule()
    def take(self) -> None:
        ready = {n for n, due in self.due.items() if due <= self.now and n not in self.reading}
        name = self.agenda.take(self.now)
        assert (name in ready) if ready else (name is None)
        if name is not None:
            assert self.due.pop(name) <= min((self.due[n] for n in ready - {name}), default=self.now)
            self.reading.add(name)

    @rule(name=st.sampled_from("abcde"))
    def done(self, name: str) -> None:
        if name in self.reading:
            self.reading.discard(name)
            self.agenda.done(name)

    @rule(passed=st.sampled_from([0.5, 2.0]))
    def wait(self, passed: float) -> None:
        self.now += passed

    @invariant()
    def knows_what_is_next(self) -> None:
        waiting = [due for name, due in self.due.items() if name not in self.reading]
        assert self.agenda.next_due() == min(waiting, default=None)
        assert len(self.agenda) == len(self.due.keys() | self.reading)


TestAgenda = AgendaMachine.TestCase
