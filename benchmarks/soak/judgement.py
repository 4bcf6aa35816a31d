"""What the readings of a run say: figures at its start, middle and end, and whether something grew. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.soak.ledger import Ledger

MEMORY_BOUND = 8 << 20
"""Octets by which resident memory may grow in the second half, or `SHARE` of what it was, if that is more."""

FILES_BOUND = 32
"""Descriptors, likewise."""

SHARE = 0.1

MISSING = 0.1
"""Part of the readings of a period in which a worker may be missing."""

MIB = 1 << 20


class Reading(NamedTuple):
    """All processes of the program together, `at` so many seconds after the start."""

    at: float
    resident: int
    files: int
    processes: int


def floors(readings: Sequence[Reading], period: float) -> list[Reading]:
    """Return the low figures of each whole period of so many seconds, timed at its end.

    While an old program drains there are twice as many processes. A period is as long as the time between two
    upgrades, so each has moments when there is one program alone; what grows without end, grows there, too. The very
    lowest figures are those of moments in which a killed worker is missing: `MISSING` of them are passed over.
    """
    if not readings:
        return []
    count = int((readings[-1].at - readings[0].at + 1e-9) / period)
    groups: list[list[Reading]] = [[] for _ in range(count)]
    for reading in readings:
        number = int((reading.at - readings[0].at) / period)
        if number < count:
            groups[number].append(reading)
    return [
        Reading(
            at=readings[0].at + (number + 1) * period,
            resident=_low([reading.resident for reading in group]),
            files=_low([reading.files for reading in group]),
            processes=_low([reading.processes for reading in group]),
        )
        for number, group in enumerate(groups)
        if group
    ]


def _low(figures: list[int]) -> int:
    return sorted(figures)[int(MISSING * len(figures))]


def complaints(lows: Sequence[Reading], ledger: Ledger) -> list[str]:
    """Return what is wrong with a run, nothing when all is well. It takes four periods to judge growth."""
    found = []
    if len(lows) >= 4:
        middle, end = lows[len(lows) // 2 - 1], lows[-1]
        if end.resident - middle.resident > max(MEMORY_BOUND, SHARE * middle.resident):
            found.append(f"memory grew by {_mib(end.resident - middle.resident)} MiB in the second half")
        if end.files - middle.files > max(FILES_BOUND, SHARE * middle.files):
            found.append(f"descriptors grew by {end.files - middle.files} in the second half")
        if end.processes > middle.processes:
            found.append(f"processes grew from {middle.processes} to {end.processes} in the second half")
    if errors := ledger.errors():
        found.append(f"{errors} errors that no kill and no drain explains")
    if idle := [client for client in ledger.clients() if not ledger.done[client]]:
        found.append(f"nothing went well for: {', '.join(idle)}")
    return found


def summary(lows: Sequence[Reading], ledger: Ledger) -> str:
    """Return the tables that a run ends with."""
    parts = [_resources(lows), _clients(ledger), _events(ledger)]
    if ledger.unexpected:
        parts.append("first errors:\n" + "\n".join(_failure(ledger)))
    parts += [f"note: {note}" for note in ledger.notes]
    return "\n\n".join(parts)


def _resources(lows: Sequence[Reading]) -> str:
    if not lows:
        return "the run was too short to read memory"
    three = (lows[0], lows[max(0, len(lows) // 2 - 1)], lows[-1])
    rows = [
        ("all processes, when fewest", "start", "middle", "end"),
        ("after seconds", *(f"{low.at:.0f}" for low in three)),
        ("resident MiB", *(_mib(low.resident) for low in three)),
        ("descriptors", *(str(low.files) for low in three)),
        ("processes", *(str(low.processes) for low in three)),
    ]
    return _table(rows)


def _clients(ledger: Ledger) -> str:
    rows: list[tuple[str, ...]] = [("client", "done", "errors", "at a kill", "at a drain's end")]
    for client in ledger.clients():
        kinds = (_kinds(ledger.failures_of(client, cause)) for cause in ("", "kill", "drain"))
        rows.append((client, f"{ledger.done[client]:,}", *kinds))
    return _table(rows)


def _events(ledger: Ledger) -> str:
    mismatches = sum(n for (_, kind, _), n in ledger.failed.items() if kind == "mismatch")
    rows = [
        ("echo mismatches", str(mismatches)),
        ("requests repeated", f"{ledger.repeated} (the connection was closed while idle)"),
        *((f"{what} after", _spread(seconds)) for what, seconds in sorted(ledger.lags.items())),
        ("upgrades", str(ledger.upgrades)),
        ("workers killed", str(ledger.kills)),
        ("workers replaced after", _spread(ledger.replacements)),
    ]
    return _table(rows)


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return f"{median(seconds) * 1000:.0f} ms (median of {len(seconds)}), at most {max(seconds) * 1000:.0f} ms"


def _failure(ledger: Ledger) -> list[str]:
    return [f"  {each.client}: {each.kind}, {each.began:.2f} - {each.ended:.2f} s" for each in ledger.unexpected]


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "-"


def _mib(octets: float) -> str:
    return f"{octets / MIB:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
