"""The report: one row for each step, printed as soon as the step is over."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tests.scenario.host import CommandError

COLUMNS = (("", 6), ("step", 46), ("expected", 36), ("seen", 36), ("converged", 9), ("failed requests", 26))
PAUSE = 0.1
"""Seconds between two looks at what has not converged yet."""


@dataclass(frozen=True, slots=True)
class Row:
    """A step: `seconds` until what was expected was seen, `failed` what clients under load lost meanwhile."""

    step: str
    expected: str
    seen: str
    seconds: float
    passed: bool
    failed: str = ""


class Report:
    """Steps, each checked when it is told, so that the table grows as the scenario goes on."""

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.rows: list[Row] = []
        self._tell = tell

    @property
    def passed(self) -> bool:
        """Whether every step was as expected."""
        return all(row.passed for row in self.rows)

    def part(self, title: str) -> None:
        """Begin a part of the scenario."""
        self._tell(f"\n{title}\n")
        self._print(tuple(name for name, _ in COLUMNS))
        self._print(tuple("-" * width for _, width in COLUMNS))

    def expect(self, step: str, expected: object, ask: Callable[[], object], *, within: float = 10.0) -> None:
        """Ask until the answer is the expected one; after `within` seconds the step has failed."""
        self._check(step, show(expected), ask, lambda seen: seen == expected, within)

    def expect_one(self, step: str, choices: Collection[object], ask: Callable[[], object]) -> None:
        """Ask until the answer is any of these."""
        self._check(step, f"one of {show(choices)}", ask, lambda seen: seen in choices, 10.0)

    def _check(
        self, step: str, expected: str, ask: Callable[[], object], good: Callable[[object], bool], within: float
    ) -> None:
        seen, seconds = converge(ask, good, within)
        self.add(Row(step, expected, show(seen), within if seconds is None else seconds, seconds is not None))

    def add(self, row: Row) -> None:
        """Add a step and print it."""
        self.rows.append(row)
        mark = "ok" if row.passed else "FAILED"
        self._print((mark, row.step, row.expected, row.seen, f"{row.seconds:.2f} s", row.failed))

    def summary(self) -> str:
        """Return how many steps there were, and which of them failed."""
        failed = [row for row in self.rows if not row.passed]
        lines = [f"{len(self.rows)} steps, {len(failed)} failed"]
        lines += [f"FAILED: {row.step}: expected {row.expected}, seen {row.seen} {row.failed}" for row in failed]
        return "\n".join(lines)

    def _print(self, cells: Sequence[str]) -> None:
        """Print a row, in as many lines as its longest cell needs."""
        wrapped = [textwrap.wrap(cell, width) or [""] for cell, (_, width) in zip(cells, COLUMNS, strict=True)]
        for number in range(max(map(len, wrapped))):
            parts = (lines[number] if number < len(lines) else "" for lines in wrapped)
            padded = (part.ljust(width) for part, (_, width) in zip(parts, COLUMNS, strict=True))
            self._tell("  ".join(padded).rstrip())


def converge(ask: Callable[[], object], good: Callable[[object], bool], within: float) -> tuple[object, float | None]:
    """Ask until an answer is good; return the last one, and the seconds until a good one was there (None: never)."""
    begun = time.monotonic()
    while True:
        try:
            seen = ask()
        except (CommandError, OSError) as error:
            seen = f"{error}"
        seconds = time.monotonic() - begun
        if good(seen):
            return seen, seconds
        if seconds > within:
            return seen, None
        time.sleep(PAUSE)


def show(value: object) -> str:
    """Return a value as a cell has it: sets in order, newlines visible."""
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(str, value))) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {show(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(show, value))
    return str(value).replace("\n", "\\n")
