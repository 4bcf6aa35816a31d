"""The scenario on three whole hosts: Consul servers, Docker daemons, edges, and its numbered parts with real clients.

Faults under load take minutes: they are part of `make scenario` alone.
"""

from __future__ import annotations

import contextlib

import pytest

from tests.scenario import parts
from tests.scenario.engine import CGROUPS, cgroup_of
from tests.scenario.layout import HOSTS
from tests.scenario.needs import Unavailable, missing
from tests.scenario.site import Site, three_hosts
from tests.scenario.table import Report
from tests.support.consul import unavailable
from tests.support.family import all_pids, command_of

WHY = "this test makes three hosts, each with a Consul server and a Docker daemon"


@pytest.mark.timeout(240)
def test_every_numbered_part_holds_to_the_letter_and_nothing_is_left() -> None:
    if lacks := missing():
        unavailable(f"this machine lacks {', '.join(lacks)}: {WHY}")
    report = Report()
    with contextlib.ExitStack() as held:
        try:
            site = held.enter_context(three_hosts())
        except Unavailable as reason:
            unavailable(f"{reason}: {WHY}")
        for part in (parts.internal_service, parts.http_outside, parts.tcp_outside, parts.tls_passed_through):
            part(site, report)
    assert report.passed, report.summary()
    assert len(report.rows) > 30
    assert left_of(site) == []


def left_of(site: Site) -> list[str]:
    """Return what is still there of the hosts: files, control groups, processes."""
    directory = site.client.host.directory.parent
    left = [str(directory)] if directory.exists() else []
    left += [str(each) for name in HOSTS for each in CGROUPS.glob(f"*/{cgroup_of(name)}")]
    return left + [command for command in map(command_of, all_pids()) if str(directory) in command]
