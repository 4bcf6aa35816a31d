"""Figures, tables, plot and JSON of what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.macro.loads import LOADS
from benchmarks.macro.markdown import to_markdown
from benchmarks.macro.plot import plotted_ratio
from benchmarks.macro.report import latency_ratio, ratio, summarise, to_json
from tests.benchmarks.examples import HOT, PACED, SMALL, paced, report, row, sample


def test_figures_are_the_median_with_its_extremes_and_all_errors() -> None:
    samples = [sample("a", value, number=n, errors=n) for n, value in enumerate((30.0, 10.0, 20.0))]
    figures = summarise(samples)["http-small"]["a"]
    assert (figures.rate, figures.lowest, figures.highest, figures.errors) == (20.0, 10.0, 30.0, 3)


def test_ratio_is_of_medians_and_absent_without_a_baseline() -> None:
    figures = summarise([sample("a", 30.0), sample("b", 20.0), sample("idle", 0.0)])["http-small"]
    assert ratio(figures, "a", "b") == 1.5
    assert ratio(figures, "a", "idle") is None
    assert ratio(figures, "a", "absent") is None


def test_the_plot_shows_nothing_for_a_peer_without_figures() -> None:
    figures = summarise([sample("nginx-tuned", 20.0), sample("consul-edge", 10.0)])["http-small"]
    assert plotted_ratio("http", figures, "consul-edge") == 0.5
    assert plotted_ratio("http", figures, "haproxy") == 0.0


def test_the_table_gives_rate_and_ratio_of_every_peer() -> None:
    table = to_markdown(report([sample("consul-edge", 63_000.0), sample("nginx-templates", 21_000.0)], [SMALL]))
    cells = row(table, "| http-small | **consul-edge**")
    assert cells[2] == "63,000 requests/s"
    assert cells[-1] == "3.00"
    assert "nginx-tuned" not in table  # not measured, so no column
    assert "## DNS" not in table
    assert "## Memory" not in table


def test_optional_duties_are_beside_the_same_peer_without_them_and_beside_nginx_with_and_without() -> None:
    rates = {"consul-edge": 80.0, "consul-edge-json": 60.0, "nginx-tuned": 100.0, "nginx-tuned-log": 75.0}
    table = to_markdown(report([sample(name, value) for name, value in rates.items()], [SMALL]))
    assert row(table, "| http-small | consul-edge-json")[-3:] == ["0.75", "0.60", "0.80"]
    main, _, duties = table.partition("## HTTP with optional duties")
    assert "consul-edge-json" not in main
    assert "**consul-edge**" not in duties


def test_latency_at_a_constant_rate_is_beside_that_of_nginx() -> None:
    samples = [paced("consul-edge", 0.2, 0.6), paced("nginx-tuned", 0.2, 0.5), paced("haproxy", 0.2, 0.4)]
    table = to_markdown(report(samples, [PACED]))
    assert row(table, "| http-paced | **consul-edge**")[-4:] == ["0.20", "0.60", "0", "1.20"]
    assert "## HTTP\n" not in table  # no rate was measured
    figures = summarise(samples)[PACED.name]
    assert latency_ratio(figures, "haproxy", "nginx-tuned") == pytest.approx(0.8)
    assert latency_ratio(figures, "haproxy", "absent") is None


def test_latency_of_dns_is_beside_that_of_consul() -> None:
    load = next(load for load in LOADS if load.name == "dns-changes")
    samples = [replace(paced(name, 0.1, p99), load=load.name) for name, p99 in (("consul-edge", 2.0), ("consul", 8.0))]
    table = to_markdown(report(samples, [load]))
    assert "## DNS at a constant rate" in table
    assert "p99 / consul" in table
    assert row(table, "| dns-changes | **consul-edge**")[-4:] == ["0.10", "2.00", "0", "0.25"]


def test_dns_is_beside_consul_dnsmasq_and_unbound() -> None:
    rates = {"consul-edge": 90.0, "consul": 10.0, "dnsmasq": 100.0, "unbound": 120.0}
    table = to_markdown(report([sample(name, value, load=HOT.name) for name, value in rates.items()], [HOT]))
    assert row(table, "| dns-hot | **consul-edge**")[-3:] == ["9.00", "0.90", "0.75"]


def test_workers_are_beside_one_worker_and_nginx_with_as_many() -> None:
    load = next(load for load in LOADS if load.name == "http-workers")
    rates = {
        "consul-edge-workers-1": 50.0,
        "consul-edge-workers-2": 80.0,
        "nginx-workers-1": 40.0,
        "nginx-workers-2": 80.0,
    }
    table = to_markdown(report([sample(name, value, load=load.name) for name, value in rates.items()], [load]))
    assert row(table, "| http-workers | consul-edge-workers-2")[-3:] == ["1.60", "2.00", "1.00"]


def test_the_json_result_holds_every_sample_and_the_units() -> None:
    document = json.loads(to_json(report([sample("a", 1.0), sample("a", 3.0, number=2)], [SMALL])))
    assert [entry["rate"] for entry in document["samples"]] == [1.0, 3.0]
    assert document["summary"]["http-small"]["a"]["rate"] == 2.0
    assert document["units"] == {"http-small": "requests/s"}
