"""The report as Markdown: a table for each kind of load, for optional duties and for memory, and the circumstances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.macro.load import Load
from benchmarks.macro.memory import Check, Endurance, IdleClients, Result
from benchmarks.macro.peer import Kind
from benchmarks.macro.report import (
    BASELINES,
    SUBJECT,
    TITLES,
    Figures,
    Report,
    Summary,
    latency_ratio,
    measured_loads,
    ratio,
    summarise,
    without_duties,
)

DUTY_BASELINES = ("nginx-tuned", "nginx-tuned-log")
"""What peers with optional duties are compared with, beside the same peer without them."""

PACED_BASELINES: Mapping[Kind, str] = {"http": "nginx-tuned", "dns": "consul"}
MEMORY_BASELINES = {"idle-clients": "nginx-tuned", "idle-pairs": "nginx-stream"}

MIB = 1 << 20
KIB = 1 << 10


def to_markdown(report: Report) -> str:
    """Return the tables, one for each kind of load, and the circumstances."""
    parts = ["# Side by side\n"]
    if report.samples:
        parts.append(
            f"Medians of {report.rounds} interleaved rounds of {report.seconds} s; one core for what is measured, but "
            "for workers. How to read this: [README](../README.md).\n"
        )
    for title, table in (*_load_tables(report), *_memory_tables(report)):
        parts += [f"## {title}\n", table]
    parts += ["## Peers and tools\n", _rows(("peer", "version", "what"), _peer_rows(report))]
    parts += ["## Machine\n", _rows(("what", ""), list(report.machine.items()))]
    commands = "\n".join(f"{name}: {command}" for name, command in report.commands.items())
    parts += ["## Commands\n", f"```\n{commands}\n```\n"]
    return "\n".join(parts)


def summary_line(result: Result) -> str:
    """Return a result about memory in one line."""
    if isinstance(result, IdleClients):
        what = f"{result.clients:,} clients, {result.per_client / KIB:.2f} KiB each"
    else:
        what = f"{result.readings[-1].requests:,} requests, {_mebibytes(result.growth)} MiB since the warm-up"
    errors = f", {result.errors} errors" if result.errors else ""
    return f"{result.check:23} {result.peer:20} {what}{errors}"


def _load_tables(report: Report) -> Iterator[tuple[str, str]]:
    """Yield title and text of what there is about loads."""
    summary = without_duties(report)
    rates = measured_loads(report, summary, "rate")
    for kind, title in TITLES.items():
        if loads := [load for load in rates if load.kind == kind]:
            yield title, _rate_table(kind, loads, summary)
        if loads := [load for load in measured_loads(report, summary, "latency") if load.kind == kind]:
            yield f"{title} at a constant rate", _latency_table(PACED_BASELINES[kind], loads, summary)
        loads = [load for load in report.loads if load.kind == kind]
        if table := _duty_table(loads, summarise(report.samples), report.bases):
            yield f"{title} with optional duties", table


def _rate_table(kind: Kind, loads: Sequence[Load], summary: Summary) -> str:
    present = [name for name in BASELINES[kind] if any(name in summary[load.name] for load in loads)]
    head = ("load", "peer", "median", "lowest - highest", "core busy", "p99 ms", "errors")
    rows = [
        (
            *_rate_cells(load, peer, figure),
            "" if figure.p99_ms is None else f"{figure.p99_ms:.1f}",
            str(figure.errors),
            *(_ratio_cell(ratio(summary[load.name], peer, name)) for name in present),
        )
        for load in loads
        for peer, figure in summary[load.name].items()
    ]
    return f"{_notes(loads)}\n{_rows((*head, *(f'/ {name}' for name in present)), rows)}"


def _latency_table(baseline: str, loads: Sequence[Load], summary: Summary) -> str:
    head = ("load", "peer", "rate reached", "lowest - highest", "core busy", "p50 ms", "p99 ms", "errors")
    rows = [
        (
            *_rate_cells(load, peer, figure),
            *("" if value is None else f"{value:.2f}" for value in (figure.p50_ms, figure.p99_ms)),
            str(figure.errors),
            _ratio_cell(latency_ratio(summary[load.name], peer, baseline)),
        )
        for load in loads
        for peer, figure in summary[load.name].items()
    ]
    return f"{_notes(loads)}\n{_rows((*head, f'p99 / {baseline}'), rows)}"


def _duty_table(loads: Sequence[Load], summary: Summary, bases: Mapping[str, str]) -> str:
    """Return the table of peers with optional duties, empty when there is none."""
    head = ("load", "peer", "median", "lowest - highest", "core busy", "errors", "/ without")
    rows = [
        (
            *_rate_cells(load, peer, figure),
            str(figure.errors),
            *(_ratio_cell(ratio(summary[load.name], peer, name)) for name in (bases[peer], *DUTY_BASELINES)),
        )
        for load in loads
        for peer, figure in summary.get(load.name, {}).items()
        if peer in bases
    ]
    return _rows((*head, *(f"/ {name}" for name in DUTY_BASELINES)), rows) if rows else ""


def _rate_cells(load: Load, peer: str, figure: Figures) -> tuple[str, ...]:
    return (
        load.name,
        f"**{peer}**" if peer == SUBJECT else peer,
        f"{figure.rate:,.0f} {load.rate_unit}",
        f"{figure.lowest:,.0f} - {figure.highest:,.0f}",
        f"{figure.busy:.0%}",
    )


def _memory_tables(report: Report) -> Iterator[tuple[str, str]]:
    """Yield title and text of what there is about memory."""
    endurance = [result for result in report.memory if isinstance(result, Endurance)]
    tables = []
    for check, baseline in MEMORY_BASELINES.items():
        if idle := [each for each in report.memory if isinstance(each, IdleClients) and each.check == check]:
            tables.append(_idle_table(idle, baseline))
    tables += [_endurance_table(result) for result in endurance]
    if tables:
        measured = {result.check for result in report.memory}
        notes = _notes([check for check in report.checks if check.name in measured])
        yield "Memory", "\n".join((notes, *tables))


def _idle_table(results: Sequence[IdleClients], baseline: str) -> str:
    head = (results[0].check, "clients", "resident MiB before", "with them", "KiB for each", "errors")
    base = next((result.per_client for result in results if result.peer == baseline), 0.0)
    rows = [
        (
            f"**{result.peer}**" if result.peer == SUBJECT else result.peer,
            f"{result.clients:,}",
            _mebibytes(result.before),
            _mebibytes(result.after),
            f"{result.per_client / KIB:.2f}",
            str(result.errors),
            _ratio_cell(result.per_client / base if base > 0 else None),
        )
        for result in results
    ]
    return _rows((*head, f"/ {baseline}"), rows)


def _endurance_table(result: Endurance) -> str:
    warm = result.readings[1].resident
    rows = [
        (
            f"{reading.requests:,}",
            f"{reading.changes:,}",
            _mebibytes(reading.resident),
            "" if number == 0 else f"{(reading.resident - warm) / KIB:+,.0f}",
        )
        for number, reading in enumerate(result.readings)
    ]
    table = _rows(("requests", "changes", "resident MiB", "KiB since the warm-up"), rows)
    lag = "never took effect" if result.lag is None else f"took effect after {result.lag * 1000:.0f} ms"
    return (
        f"{result.peer} grew by {result.growth / KIB:+,.0f} KiB ({result.growth / warm:+.1%}) from the warm-up to the "
        f"end, by {result.late_growth / KIB:+,.0f} KiB in the second half. It took {result.seconds:.0f} s, with "
        f"{result.errors} errors; a change at the end {lag}.\n\n{table}"
    )


def _mebibytes(octets: float) -> str:
    return f"{octets / MIB:.1f}"


def _notes(items: Sequence[Load] | Sequence[Check]) -> str:
    return "".join(f"- `{item.name}`: {item.about}\n" for item in items)


def _ratio_cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _peer_rows(report: Report) -> list[tuple[str, str, str]]:
    return [(name, version, report.about.get(name, "")) for name, version in report.versions.items()]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
