"""The state of an endpoint over several workers: what one process alone would have, by nginx's rules.

Whole operations of any workers in any order are compared with the reference of the balancer. Operations that are
interrupted anywhere by others must end as if they had come one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lb.board.area import Board
from lb.board.endpoint_state import EndpointState
from lb.board.ledger import Ledger
from tests.lb.balance.reference import Reference, ReferencePeer
from tests.lb.board.boards import board_of

WORKERS = 4
FAIL_TIMEOUT = 10
NAMES = ("a", "b")


@pytest.fixture
def states() -> Iterator[list[EndpointState]]:
    """One endpoint, as each worker has it."""
    with board_of(WORKERS, 5) as board:
        yield [EndpointState(board.cells, cells, 1) for cells in board.cells]


def test_a_new_endpoint_has_nothing(states: list[EndpointState]) -> None:
    for state in states:
        assert (state.active, state.fails, state.accessed, state.checked) == (0, 0, 0, 0)


def test_failures_of_all_workers_add_up_for_each(states: list[EndpointState]) -> None:
    for now, state in enumerate(states, 100):
        state.fail(now)
    assert {state.fails for state in states} == {WORKERS}
    assert {(state.accessed, state.checked) for state in states} == {(103, 103)}


def test_any_worker_clears_the_failures_of_all(states: list[EndpointState]) -> None:
    for state in states:
        state.fail(100)
    states[2].clear()
    assert {state.fails for state in states} == {0}
    states[0].fail(101)
    states[3].fail(101)
    assert {state.fails for state in states} == {2}


def test_counts_void_since_several_clearings_stay_void(states: list[EndpointState]) -> None:
    states[0].fail(100)
    for state in states[1:]:
        state.clear()
    states[1].fail(101)
    assert {state.fails for state in states} == {1}


def test_a_new_trial_moves_checked_alone(states: list[EndpointState]) -> None:
    states[0].fail(100)
    states[1].check(120)
    assert {(state.accessed, state.checked) for state in states} == {(100, 120)}


def test_more_failures_than_32_bits_count_as_cleared(states: list[EndpointState]) -> None:
    states[0].cells[2] = 2**32 - 1
    states[1].fail(100)
    assert {state.fails for state in states} == {2**32}
    states[0].fail(100)
    assert {state.fails for state in states} == {0}
    states[1].fail(100)
    assert {state.fails for state in states} == {1}


class Zone(RuleBasedStateMachine):
    """Several workers and one process that does the same."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board.create(WORKERS, 1 + len(NAMES) * len(EndpointState.SHAPE))
        self.ledger = Ledger(self.board)
        self.workers = [self.join() for _ in range(WORKERS)]
        self.peers = {name: ReferencePeer(name, 1, 2, FAIL_TIMEOUT, 3) for name in NAMES}
        self.reference = Reference([*self.peers.values()], "least_conn")
        self.held: list[tuple[int, str]] = []
        self.now = 1000

    def teardown(self) -> None:
        self.board.close()

    def join(self) -> dict[str, EndpointState]:
        own = self.board.cells[self.ledger.take_column()]
        rows = {name: self.ledger.allot(name, EndpointState.SHAPE) for name in NAMES}
        return {name: EndpointState(self.board.cells, own, row) for name, row in rows.items()}

    def eligible(self, state: EndpointState, peer: ReferencePeer) -> bool:
        suspended = state.fails >= peer.max_fails and self.now - state.checked <= peer.fail_timeout
        return not suspended and state.active < peer.max_conns

    @rule(seconds=st.sampled_from([1, FAIL_TIMEOUT, FAIL_TIMEOUT + 1]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(worker=st.integers(0, WORKERS - 1), name=st.sampled_from(NAMES))
    def acquire(self, worker: int, name: str) -> None:
        state, peer = self.workers[worker][name], self.peers[name]
        may = self.eligible(state, peer)
        others = [other for other in NAMES if other != name]
        assert may == (self.reference.acquire(others, self.now) == name)
        if may:
            if self.now - state.checked > peer.fail_timeout:
                state.check(self.now)
            state.begin()
            self.held.append((worker, name))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failed=st.booleans())
    def release(self, data: st.DataObject, failed: bool) -> None:
        worker, name = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        state = self.workers[worker][name]
        if failed:
            state.fail(self.now)
        elif state.accessed < state.checked:
            state.clear()
        state.end()
        self.reference.release(name, failed, self.now)

    @rule(worker=st.integers(0, WORKERS - 1))
    def replace(self, worker: int) -> None:
        self.ledger.vacate(worker)
        self.workers[worker] = self.join()
        for owner, name in self.held:
            self.peers[name].conns -= owner == worker
        self.held = [(owner, name) for owner, name in self.held if owner != worker]

    @invariant()
    def every_worker_has_what_one_process_has(self) -> None:
        for worker in self.workers:
            for name, peer in self.peers.items():
                state = worker[name]
                of_all = (state.fails, state.accessed, state.checked, state.active)
                assert of_all == (peer.fails, peer.accessed, peer.checked, peer.conns)


TestZone = Zone.TestCase
TestZone.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# Operations that overlap

NOW = 100


def fail(state: EndpointState) -> None:
    state.fail(NOW)


def fail_long_ago(state: EndpointState) -> None:
    """Fail, and be tried again later: a success may clear the failure."""
    state.fail(NOW - 10)
    state.check(NOW - 1)


def succeed(state: EndpointState) -> None:
    """Clear as the balancer does: only if the endpoint was tried again since it failed."""
    if state.fails and state.accessed < state.checked:
        state.clear()


class Step(NamedTuple):
    worker: int
    operation: Callable[[EndpointState], None]


class Memory:
    """The cells of four workers, where other steps can be made before a given access of one operation."""

    def __init__(self, before: Sequence[Step]) -> None:
        self.columns = [[0] * 4 for _ in range(WORKERS)]
        for step in before:
            self.make(step)

    def make(self, step: Step) -> None:
        step.operation(EndpointState(self.columns, self.columns[step.worker], 0))

    def make_interrupted(self, step: Step, interruptions: dict[int, list[Step]]) -> list[Step]:
        """Make a step, and others before its first, second ... access; return those that came to pass, in order."""
        made: list[Step] = []
        accesses = count()

        def access() -> None:
            for other in interruptions.get(next(accesses), ()):
                self.make(other)
                made.append(other)

        columns = [Interrupted(column, access) for column in self.columns]
        step.operation(EndpointState(columns, columns[step.worker], 0))
        return made

    @property
    def fails(self) -> int:
        return EndpointState(self.columns, self.columns[0], 0).fails


class Interrupted:
    """A column on whose every access something may come first."""

    def __init__(self, column: list[int], access: Callable[[], None]) -> None:
        self.column = column
        self.access = access

    def __getitem__(self, row: int, /) -> int:
        self.access()
        return self.column[row]

    def __setitem__(self, row: int, value: int, /) -> None:
        self.access()
        self.column[row] = value


def steps(workers: Sequence[int]) -> st.SearchStrategy[list[Step]]:
    step = st.builds(Step, st.sampled_from(workers), st.sampled_from([fail, EndpointState.clear]))
    return st.lists(step, max_size=6)


@settings(deadline=None)
@given(
    steps(range(WORKERS)),
    st.sampled_from([fail, EndpointState.clear]),
    st.dictionaries(st.integers(0, 8), steps(range(1, WORKERS)), max_size=4),
)
def test_an_operation_that_others_interrupt_takes_place_before_between_or_after_them(
    before: list[Step], operation: Callable[[EndpointState], None], interruptions: dict[int, list[Step]]
) -> None:
    memory = Memory(before)
    others = memory.make_interrupted(Step(0, operation), interruptions)
    orders = [[*others[:place], Step(0, operation), *others[place:]] for place in range(len(others) + 1)]
    assert memory.fails in {Memory([*before, *order]).fails for order in orders}


@pytest.mark.parametrize("access", range(18))
@pytest.mark.parametrize("earlier", [0, 1, 5])
def test_a_success_that_a_failure_interrupts_is_off_by_that_failure_at_most(earlier: int, access: int) -> None:
    before = [Step(number % WORKERS, fail_long_ago) for number in range(earlier)]
    success, failure = Step(0, succeed), Step(1, fail)
    memory = Memory(before)
    memory.make_interrupted(success, {access: [failure]})
    in_turn = [Memory([*before, success, failure]).fails, Memory([*before, failure, success]).fails]
    assert min(abs(memory.fails - fails) for fails in in_turn) <= 1


@pytest.mark.parametrize("access", range(8))
def test_a_failure_that_a_success_interrupts_comes_before_or_after_it(access: int) -> None:
    before = [Step(number, fail_long_ago) for number in range(3)]
    memory = Memory(before)
    memory.make_interrupted(Step(0, fail), {access: [Step(1, succeed)]})
    assert memory.fails in {1, 4}
