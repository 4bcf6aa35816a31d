"""Counters that are the same in a worker, which reports them, and in the process that adds the reports up.

A worker's count from 0 again with each report. What is no count but a state (how much is active, whether a listener
is up) is told whenever it has changed, and kept by worker, so that it goes with a worker that dies; counts stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from lb.errors import ReportError
from lb.observe.reports import Json, Reader, increase, read_count, read_fields, read_object

State = Mapping[str, Any]


class Counters:
    """The counters of one service or listener. Of one that reports, `touched` holds those with something to tell.

    `calm` means: nothing is active, and all is told. Who counts in place where something begins must end that:
    `if stats.calm: stats.touch()`. Until it is over, there is no need to ask again.
    """

    __slots__ = ("__weakref__", "_name", "_told", "_touched", "active", "calm")

    counts: ClassVar[Mapping[str, Reader]]
    """The attributes that count, and how their increments are read."""

    states: ClassVar[Mapping[str, Reader]] = {"active": read_count}
    """The attributes that do not."""

    def __init__(self, name: str, touched: dict[str, Any] | None) -> None:
        self._name = name
        self._touched = touched
        self._told: State | None = None
        self.active = 0
        self.calm = False

    def touch(self) -> None:
        """Note that there is something to report."""
        self.calm = False
        if self._touched is not None:
            self._touched[self._name] = self

    def appear(self) -> None:
        """Report all of the state next time, whatever was told before."""
        self._told = None
        self.touch()

    def take(self) -> Json:
        """Return what was counted since the last time, and the state if it has changed; count from 0 again."""
        report: Json = {}
        for field in self.counts:
            value = getattr(self, field)
            if isinstance(value, list):
                if any(value):
                    report[field] = value
                    setattr(self, field, [0] * len(value))
            elif isinstance(value, dict):
                if value:
                    report[field] = {str(key): count for key, count in value.items()}
                    setattr(self, field, {})
            elif value > 0:
                report[field] = value
                setattr(self, field, type(value)())
        state = {field: getattr(self, field) for field in self.states}
        if state != self._told:
            self._told = state
            report |= state
        self.calm = not self.active
        return report

    def show(self, states: Collection[State]) -> None:
        """Take on the state that those of the workers come to."""
        self.active = sum(state["active"] for state in states)


C = TypeVar("C", bound=Counters)


class Report(NamedTuple):
    """What a worker told of one service or listener; `state` is None if that has not changed."""

    increments: Json
    state: State | None


class Family(Generic[C]):
    """The counters of one kind by name; what is asked for the first time is created."""

    def __init__(self, make: type[C], *, reporting: bool) -> None:
        self._make = make
        self._known: dict[str, C] = {}
        # One that left may still be held by a session that is about to begin: there are never two of a name.
        self._living: WeakValueDictionary[str, C] = WeakValueDictionary()
        self._touched: dict[str, C] | None = {} if reporting else None
        self._wanted: frozenset[str] | None = None
        self._states: dict[str, dict[int, State]] = {}  # by name and worker; what is nothing at all is not kept

    def get(self, name: str) -> C:
        """Return the counters of this name."""
        found = self._known.get(name)
        if found is None:
            found = self._living.get(name)
            if found is None:
                found = self._living[name] = self._make(name, self._touched)
            self._known[name] = found
            found.appear()
            if name in self._states:
                self._show(name)
        return found

    def items(self) -> Iterator[tuple[str, C]]:
        """All of them, as of now: the caller may take its time."""
        return iter(list(self._known.items()))

    def keep(self, names: Iterable[str]) -> None:
        """Drop those that are not named and have nothing active; the others follow when it is over, and that told."""
        self._wanted = frozenset(names)
        if not self._known.keys() <= self._wanted:
            for name in self._known.keys() - self._wanted:
                self._settle(name)

    def _settle(self, name: str) -> None:
        if self._wanted is not None and name not in self._wanted and not self._known[name].active:
            del self._known[name]

    # In a worker

    def changes(self) -> dict[str, Json]:
        """Return what is to be told of each."""
        touched = self._touched
        if not touched:
            return {}
        changes = {name: report for name, counters in touched.items() if (report := counters.take())}
        for name in [name for name, counters in touched.items() if counters.calm]:
            del touched[name]
            if name in self._known:
                self._settle(name)
        return changes

    # In the process that adds up

    def read(self, reports: object, kind: str) -> dict[str, Report]:
        """Read what a worker has told. Raises ReportError."""
        counts, states = self._make.counts, self._make.states
        readers = {**counts, **states}
        found = {}
        for name, content in read_object(reports).items():
            where = f"{kind} {name[:100]!r}"
            fields = read_fields(content, readers, where)
            state = {field: fields.pop(field) for field in states if field in fields}
            if state and len(state) < len(states):
                raise ReportError(f"{where}: half a state: {', '.join(state)}")
            found[name] = Report(fields, state or None)
        return found

    def add(self, reports: Mapping[str, Report], worker: int) -> None:
        """Add what a worker has told. Of what is not wanted any more, only what is active there is shown."""
        for name, (increments, state) in reports.items():
            if state is not None:
                self._note(name, worker, state)
            if name not in self._known and not self._due(name):
                continue
            counters = self.get(name)
            increase(counters, increments)
            counters.touch()  # the totals may be told to somebody, too
            if state is not None:
                self._show(name)
            self._settle(name)

    def forget(self, worker: int) -> None:
        """Take the states of a dead worker away; what it has counted stays."""
        for name in [name for name, states in self._states.items() if worker in states]:
            self._note(name, worker, None)
            if name in self._known:
                self._show(name)
                self._settle(name)

    def _note(self, name: str, worker: int, state: State | None) -> None:
        states = self._states.setdefault(name, {})
        if state is not None and any(state.values()):
            states[worker] = state
        else:
            states.pop(worker, None)
        if not states:
            del self._states[name]

    def _due(self, name: str) -> bool:
        """Whether what is told of a name that is not known is to be shown."""
        if self._wanted is None or name in self._wanted:
            return True
        return any(state["active"] for state in self._states.get(name, {}).values())

    def _show(self, name: str) -> None:
        states = self._states.get(name, {})
        counters = self._known[name]
        counters.show([states[worker] for worker in sorted(states)])
        counters.touch()
