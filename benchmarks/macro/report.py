"""Samples to figures: medians, ratios, and everything as JSON. `markdown` and `plot` show them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.macro.load import Load
from benchmarks.macro.memory import Check, Result
from benchmarks.macro.peer import Kind
from benchmarks.macro.run import Sample

BASELINES: Mapping[Kind, tuple[str, ...]] = {
    "http": ("nginx-templates", "nginx-tuned"),
    "tcp": ("nginx-stream",),
    "dns": ("consul", "dnsmasq", "unbound"),
    "http-workers": ("consul-edge-workers-1", "nginx-workers-1", "nginx-workers-2"),
    "dns-workers": ("consul-edge-workers-1",),
}
"""The peers that others are compared with. The last one is the plot's 1.0."""

TITLES: Mapping[Kind, str] = {
    "http": "HTTP",
    "tcp": "TCP",
    "dns": "DNS",
    "http-workers": "HTTP by workers",
    "dns-workers": "DNS by workers",
}
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
    p50_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is written down of a run."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    about: Mapping[str, str]
    bases: Mapping[str, str]
    """Peers with optional duties, and the same peers without them."""
    commands: Mapping[str, str]
    rounds: int
    seconds: int
    loads: Sequence[Load]
    samples: Sequence[Sample]
    checks: Sequence[Check]
    memory: Sequence[Result]


Summary = Mapping[str, Mapping[str, Figures]]
"""Figures by load and peer."""


def summarise(samples: Sequence[Sample]) -> Summary:
    """Return figures by load and peer, in the order in which they were first measured."""
    groups: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.load, {}).setdefault(sample.peer, []).append(sample)
    return {load: {peer: _figures(group) for peer, group in peers.items()} for load, peers in groups.items()}


def without_duties(report: Report) -> Summary:
    """Return the figures of peers that have no optional duties."""
    return {
        load: {peer: figures for peer, figures in peers.items() if peer not in report.bases}
        for load, peers in summarise(report.samples).items()
    }


def measured_loads(report: Report, summary: Summary, result: str) -> list[Load]:
    """Return the loads that find out a rate or a latency, and for which there are figures."""
    return [load for load in report.loads if load.result == result and summary.get(load.name)]


def ratio(figures: Mapping[str, Figures], peer: str, baseline: str) -> float | None:
    """Return the quotient of two medians, None when the baseline was not measured."""
    if baseline not in figures or not figures[baseline].rate:
        return None
    return figures[peer].rate / figures[baseline].rate


def latency_ratio(figures: Mapping[str, Figures], peer: str, baseline: str) -> float | None:
    """Return the quotient of two medians of p99, None when one of them was not measured."""
    ours = figures[peer].p99_ms
    theirs = figures[baseline].p99_ms if baseline in figures else None
    return ours / theirs if ours and theirs else None


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
        "memory": [{"check": result.check, **asdict(result)} for result in report.memory],
        "samples": [asdict(sample) for sample in report.samples],
    }
    return json.dumps(document, indent=2) + "\n"


def _figures(samples: Sequence[Sample]) -> Figures:
    rates = [sample.rate for sample in samples]
    return Figures(
        rate=median(rates),
        lowest=min(rates),
        highest=max(rates),
        busy=median(sample.busy for sample in samples),
        errors=sum(sample.errors for sample in samples),
        p99_ms=_median(sample.p99_ms for sample in samples),
        p50_ms=_median(sample.p50_ms for sample in samples),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
