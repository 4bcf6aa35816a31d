"""What one process tells another of a catalog that changes."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.catalog.delta import changed, changes
from lb.catalog.model import Instance, Node, Problem, Service, Snapshot
from lb.errors import BadAnswer

NAMES = [f"s{number}" for number in range(6)]


def service(name: str, *ports: int) -> Service:
    meta = MappingProxyType({"lb_policy": "random", "ä": "ö"})
    tagged = MappingProxyType({"lan": ("192.0.2.1", 80)})
    return Service(
        name,
        tuple(
            Instance(
                name, f"{name}-{port}", "n1", "192.0.2.1", port, meta=meta, tagged_addresses=tagged, tags=("http",)
            )
            for port in ports
        ),
    )


def snapshot(services: list[Service], nodes: list[Node] | None = None, **others: object) -> Snapshot:
    return replace(
        Snapshot(
            services=MappingProxyType({one.name: one for one in services}),
            nodes=MappingProxyType({node.name: node for node in nodes or []}),
        ),
        **others,  # type: ignore[arg-type]
    )


def told(old: Snapshot, new: Snapshot) -> Snapshot:
    """What the other process makes of it, over the wire."""
    return changed(old, json.loads(json.dumps(changes(old, new))))


def test_a_first_snapshot_is_told_whole() -> None:
    new = snapshot(
        [service("web", 1, 2), service("empty")],
        [Node("n1", "192.0.2.1", "id", "dc1")],
        datacenter="dc1",
        generation=7,
        fresh=False,
        problems=(Problem("instance", "web/x", "port 0"),),
    )
    assert told(Snapshot(), new) == new


def test_only_what_changed_is_told_and_the_rest_stays_the_same_object() -> None:
    kept, gone = service("kept", 1), service("gone", 2)
    old = snapshot([kept, gone])
    new = snapshot([kept, service("new", 3)], generation=2)
    assert [name for name, _ in changes(old, new)["services"]] == ["new"]
    result = told(old, new)
    assert result == new
    assert result.services["kept"] is kept


@given(st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 3)), max_size=6), max_size=6))
def test_any_series_of_changes_leads_to_the_last_snapshot(series: list[list[tuple[str, int]]]) -> None:
    here = there = Snapshot()
    for number, contents in enumerate(series, 1):
        services = [
            here.services[name] if name in here.services and port == 1 else service(name, port)
            for name, port in dict(contents).items()
        ]
        new = snapshot(services, generation=number)
        there = told(there, new) if number % 2 else changed(there, changes(here, new))
        here = new
        assert there == here


@pytest.mark.parametrize("wrong", [{}, {"services": 1}, {**changes(Snapshot(), Snapshot()), "services": [["web"]]}])
def test_something_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadAnswer, match="not a change of a catalog"):
        changed(Snapshot(), wrong)
