"""The configuration of Prometheus and the alerts, as promtool sees them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.prometheus import CONFIGURATION, finds_by_consul, promtool

BY_CONSUL = re.compile(r" {4}consul_sd_configs:\n(?: {6}.*\n)+")


def test_the_alerts_are_right() -> None:
    status, output = promtool("check", "rules", "--lint-fatal", "alerts.yml")
    assert status == 0, output


def test_each_alert_fires_in_its_case_and_no_other_does() -> None:
    status, output = promtool("test", "rules", "alerts_test.yml")
    assert status == 0, output


def test_no_alert_is_without_a_case() -> None:
    alerts = re.findall(r"- alert: (\w+)", (CONFIGURATION / "alerts.yml").read_text())
    assert len(alerts) > 15
    assert set(alerts) == set(re.findall(r'alertname="(\w+)"', (CONFIGURATION / "alerts_test.yml").read_text()))
    assert len(alerts) == len(set(alerts))


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-dns.yml"])
def test_the_configuration_is_right(name: str, tmp_path: Path) -> None:
    text = (CONFIGURATION / name).read_text()
    if name == "prometheus.yml" and not finds_by_consul():
        # This Prometheus cannot judge how edges are found, but all the rest.
        text, replaced = BY_CONSUL.subn("    static_configs: []\n", text)
        assert replaced == 1
    file = tmp_path / name
    file.write_text(text.replace("alerts.yml", str(CONFIGURATION / "alerts.yml")))
    status, output = promtool("check", "config", file)
    assert status == 0, output


def test_both_configurations_differ_in_how_edges_are_found_alone() -> None:
    """They have the same intervals, rules and job."""
    one, other = ((CONFIGURATION / name).read_text() for name in ("prometheus.yml", "prometheus-dns.yml"))
    common = re.compile(r"^global:.*?job_name: consul-edge$", re.DOTALL | re.MULTILINE)
    found, same = common.search(one), common.search(other)
    assert found is not None
    assert same is not None
    assert found[0] == same[0]
