"""What the documents and files of deploy/ name is there: flags, variables, Meta keys, metrics, files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnsserver.metrics import DnsCollector
from dnsserver.stats import DnsStats
from lb.catalog.store import Store
from lb.flags import FLAGS
from lb.observe.metrics import Metrics
from lb.observe.stats import Stats
from lb.observe.views import CatalogView, WorkersView
from lb.routing import options
from lb.settings import ConsulSettings, RegistratorSettings
from registrator.loop import Registrator
from registrator.metrics import RegistratorCollector
from tests.support.python_image import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]
OURS = {f"--{flag.name}" for flag in FLAGS} | {"--help", "--json"}

OF_OTHERS = {
    "docker": "--build-arg --cap-drop --detach --name --network --read-only --scale --security-opt --stop-timeout",
    "pip": "--constraint --find-links --no-cache-dir --no-index --target",
    "systemd": "--create --now",
    "Dockerfile": "--chown --from --interval --start-period --timeout",
}
"""Flags of other programs that are named in deploy/."""


@dataclass
class _NoLog:
    written: int = 0
    dropped: int = 0


def names(pattern: str, paths: Iterable[Path] = FILES) -> dict[str, str]:
    """What the pattern finds in those files, and in which one it was found last."""
    return {found: path.name for path in paths for found in re.findall(pattern, path.read_text())}


def test_every_flag_exists() -> None:
    foreign = {flag for flags in OF_OTHERS.values() for flag in flags.split()}
    found = names(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
    unknown = {flag: file for flag, file in found.items() if flag not in OURS | foreign}
    assert not unknown
    assert len(found.keys() & OURS) > 30


def test_every_variable_exists() -> None:
    found = names(r"\bCONSUL_EDGE_[A-Z_]+\b")
    assert found.keys() <= {flag.variable for flag in FLAGS}
    assert len(found) > 5


def test_every_option_of_a_service_exists() -> None:
    known = set(re.findall(r'"(lb_[a-z_]+)"', Path(options.__file__).read_text()))
    found = names(r"`(lb_[a-z_]+)`", DOCUMENTS)
    assert found.keys() <= known
    assert len(found) > 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for target in re.findall(r"(?<![\w/.-])deploy/[\w./-]*\w", text):
        assert (ROOT / target).exists(), target


def test_every_metric_exists() -> None:
    registrator = Registrator(RegistratorSettings(), ConsulSettings(), Store())
    metrics = Metrics(
        Stats(),
        version="1",
        endpoints=lambda: (),
        catalog=lambda: CatalogView(age=0.0),
        problems=lambda: (),
        access_log=_NoLog(),
        workers=WorkersView,
        extra=[DnsCollector(DnsStats()).collect, RegistratorCollector(registrator).collect],
    )
    known = {"up"}
    for family in metrics.collect():
        kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        known |= {family.name + ending for ending in kinds}
    used = re.compile(r"\b(?:lb|dns|catalog|registrator|process)_[a-z_]+\b")
    dashboard = json.loads((DEPLOY / "grafana" / "consul-edge.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += re.findall(r"series: '([^']*)'", (DEPLOY / "prometheus" / "alerts_test.yml").read_text())
    queries.append((DEPLOY / "prometheus" / "alerts.yml").read_text())
    found = {name for query in queries for name in used.findall(query)}
    assert found <= known
    assert len(found) > 50


def test_the_units_run_commands_that_exist() -> None:
    commands = names(r"ExecStart=/opt/consul-edge/bin/consul-edge (\S+)", (DEPLOY / "systemd").glob("*.service"))
    assert commands.keys() == {"run", "lb", "dns", "registrator"}
