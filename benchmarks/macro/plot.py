"""The report as a picture: what each peer makes of each load, beside a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.macro.peer import Kind
from benchmarks.macro.report import (
    BASELINES,
    SUBJECT,
    TITLES,
    Figures,
    Report,
    measured_loads,
    ratio,
    without_duties,
)


def draw(report: Report, path: Path) -> None:
    """Write the plot as PNG: for each load, every peer's rate beside that of the last baseline.

    Nothing is written where no rate was measured.
    """
    import matplotlib as mpl  # noqa: PLC0415  - slow to import, and needed here alone

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    summary = without_duties(report)
    rates = measured_loads(report, summary, "rate")
    colours = {
        peer: f"C{index}" for index, peer in enumerate(peer for peer in report.about if peer not in report.bases)
    }
    kinds = [kind for kind in TITLES if any(load.kind == kind for load in rates)]
    if not kinds:
        return
    figure, panels = pyplot.subplots(len(kinds), squeeze=False, figsize=(10, 4 * len(kinds)), layout="constrained")
    for kind, panel in zip(kinds, panels[:, 0], strict=True):
        loads = [load.name for load in rates if load.kind == kind]
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
