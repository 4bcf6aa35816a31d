"""Samples to figures: medians, ratios, a table, a plot. All but the plot is pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.macro.loads import Load
from benchmarks.macro.peers import Kind
from benchmarks.macro.run import Sample

BASELINES: Mapping[Kind, tuple[str, ...]] = {
    "http": ("nginx-templates", "nginx-tuned"),
    "tcp": ("nginx-stream",),
    "dns": ("consul", "unbound"),
}
"""The peers that others are compared with. The last one is the plot's 1.0."""

TITLES: Mapping[Kind, str] = {"http": "HTTP", "tcp": "TCP", "dns": "DNS"}
SUBJECT = "consul-edge"


@dataclass(frozen=True, slots=True)
class Figures:
    """All rounds of one load on one peer: median rate with its extremes, median share of a core, all errors."""

    rate: float
    lowest: float
    highest: float
    busy: float
    errors: int
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is written down of a run."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    about: Mapping[str, str]
    commands: Mapping[str, str]
    rounds: int
    seconds: int
    loads: Sequence[Load]
    samples: Sequence[Sample]


def summarise(samples: Sequence[Sample]) -> dict[str, dict[str, Figures]]:
    """Return figures by load and peer, in the order in which they were first measured."""
    groups: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.load, {}).setdefault(sample.peer, []).append(sample)
    return {load: {peer: _figures(group) for peer, group in peers.items()} for load, peers in groups.items()}


def ratio(figures: Mapping[str, Figures], peer: str, baseline: str) -> float | None:
    """Return the quotient of two medians, None when the baseline was not measured."""
    if baseline not in figures or not figures[baseline].rate:
        return None
    return figures[peer].rate / figures[baseline].rate


def to_json(report: Report) -> str:
    """Return all samples, figures and circumstances."""
    summary = {
        load: {peer: asdict(figures) for peer, figures in peers.items()}
        for load, peers in summarise(report.samples).items()
    }
    document = {
        "machine": dict(report.machine),
        "versions": dict(report.versions),
        "commands": dict(report.commands),
        "rounds": report.rounds,
        "seconds": report.seconds,
        "units": {load.name: load.rate_unit for load in report.loads},
        "summary": summary,
        "samples": [asdict(sample) for sample in report.samples],
    }
    return json.dumps(document, indent=2) + "\n"


def to_markdown(report: Report) -> str:
    """Return the tables, one for each kind of load, and the circumstances."""
    summary = summarise(report.samples)
    parts = [
        "# Side by side\n",
        f"Medians of {report.rounds} interleaved rounds of {report.seconds} s; one core for what is measured. "
        "How to read this: [README](../README.md).\n",
    ]
    for kind, title in TITLES.items():
        loads = [load for load in report.loads if load.kind == kind and load.name in summary]
        if loads:
            parts += [f"## {title}\n", _table(kind, loads, summary)]
    parts += ["## Peers and tools\n", _rows(("peer", "version", "what"), _peer_rows(report))]
    parts += ["## Machine\n", _rows(("what", ""), list(report.machine.items()))]
    commands = "\n".join(f"{name}: {command}" for name, command in report.commands.items())
    parts += ["## Commands\n", f"```\n{commands}\n```\n"]
    return "\n".join(parts)


def draw(report: Report, path: Path) -> None:
    """Write the plot as PNG: for each load, every peer's rate beside that of the last baseline."""
    import matplotlib as mpl  # noqa: PLC0415  - slow to import, and needed here alone

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    summary = summarise(report.samples)
    colours = {peer: f"C{index}" for index, peer in enumerate(report.about)}
    kinds = [kind for kind in TITLES if any(load.kind == kind and load.name in summary for load in report.loads)]
    figure, panels = pyplot.subplots(len(kinds), squeeze=False, figsize=(10, 4 * len(kinds)), layout="constrained")
    for kind, panel in zip(kinds, panels[:, 0], strict=True):
        loads = [load.name for load in report.loads if load.kind == kind and load.name in summary]
        peers = list(dict.fromkeys(peer for load in loads for peer in summary[load]))
        width = 0.8 / len(peers)
        for place, peer in enumerate(peers):
            shown = [(x, plotted_ratio(kind, summary[load], peer)) for x, load in enumerate(loads)]
            panel.bar(
                [x + (place - (len(peers) - 1) / 2) * width for x, _ in shown],
                [height for _, height in shown],
                width,
                label=peer,
                color=colours[peer],
                edgecolor="black" if peer == SUBJECT else "none",
            )
        panel.axhline(1.0, color="grey", linewidth=0.8)
        panel.set_xticks(range(len(loads)), loads)
        panel.set_ylabel(f"rate, {BASELINES[kind][-1]} = 1")
        panel.set_title(TITLES[kind])
        panel.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plotted_ratio(kind: Kind, figures: Mapping[str, Figures], peer: str) -> float:
    """Return the height of a bar: the ratio to the kind's last baseline, 0 where one of both was not measured."""
    if peer not in figures:
        return 0.0
    return ratio(figures, peer, BASELINES[kind][-1]) or 0.0


def _figures(samples: Sequence[Sample]) -> Figures:
    rates = [sample.rate for sample in samples]
    latencies = [sample.p99_ms for sample in samples if sample.p99_ms is not None]
    return Figures(
        rate=median(rates),
        lowest=min(rates),
        highest=max(rates),
        busy=median(sample.busy for sample in samples),
        errors=sum(sample.errors for sample in samples),
        p99_ms=median(latencies) if latencies else None,
    )


def _table(kind: Kind, loads: Sequence[Load], summary: Mapping[str, Mapping[str, Figures]]) -> str:
    present = [name for name in BASELINES[kind] if any(name in summary[load.name] for load in loads)]
    head = ("load", "peer", "median", "lowest - highest", "core busy", "p99 ms", "errors")
    rows = []
    for load in loads:
        figures = summary[load.name]
        for peer, figure in figures.items():
            rows.append(
                (
                    load.name,
                    f"**{peer}**" if peer == SUBJECT else peer,
                    f"{figure.rate:,.0f} {load.rate_unit}",
                    f"{figure.lowest:,.0f} - {figure.highest:,.0f}",
                    f"{figure.busy:.0%}",
                    "" if figure.p99_ms is None else f"{figure.p99_ms:.1f}",
                    str(figure.errors),
                    *(_ratio_cell(ratio(figures, peer, name)) for name in present),
                )
            )
    notes = "".join(f"- `{load.name}`: {load.about}\n" for load in loads)
    return f"{notes}\n{_rows((*head, *(f'/ {name}' for name in present)), rows)}"


def _ratio_cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _peer_rows(report: Report) -> list[tuple[str, str, str]]:
    return [(name, version, report.about.get(name, "")) for name, version in report.versions.items()]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
