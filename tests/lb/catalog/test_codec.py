from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.catalog import codec, decode
from lb.catalog.model import Node, Service, Snapshot
from lb.errors import BadAnswer
from tests.lb.catalog.samples import entry

SERVICES = {
    "web": decode.service("web", [entry(), entry(id="web-2", address="::1", checks=("critical",))]).service,
    "empty": Service("empty"),
}
NODES = {"n1": Node("n1", "192.0.2.1", "id", "dc1", {"rack": "ä"}, {"lan": "192.0.2.1"})}
SNAPSHOT = Snapshot(MappingProxyType(SERVICES), MappingProxyType(NODES), "dc1", generation=4)


def test_a_catalog_comes_back_as_it_was_but_not_fresh() -> None:
    copy = codec.decode(codec.encode(SNAPSHOT))
    assert (copy.services, copy.nodes, copy.datacenter) == (SERVICES, NODES, "dc1")
    assert not copy.fresh


def test_every_shorter_file_is_refused() -> None:
    text = "".join(codec.encode(SNAPSHOT))
    for length in range(len(text) - 1):
        with pytest.raises(BadAnswer):
            codec.decode(text[:length].splitlines(keepends=True))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda head: head.update(format="x"), "not a catalog"),
        (lambda head: head.update(version=2), "version 2 of the format is not known"),
        (lambda head: head.update(nodes="1"), "damaged"),
        (lambda head: head.pop("datacenter"), "damaged"),
    ],
)
def test_a_foreign_head_is_refused_with_a_reason(spoil: Callable[[dict[str, object]], None], reason: str) -> None:
    lines = list(codec.encode(SNAPSHOT))
    head = json.loads(lines[0])
    spoil(head)
    with pytest.raises(BadAnswer, match=reason):
        codec.decode([json.dumps(head), *lines[1:]])


@given(st.lists(st.text(max_size=30), max_size=4))
def test_no_text_breaks_the_decoder(lines: list[str]) -> None:
    head = next(codec.encode(SNAPSHOT))
    for text in (lines, [head, *lines]):
        with pytest.raises(BadAnswer):
            codec.decode(text)
