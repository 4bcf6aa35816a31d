from __future__ import annotations

from typing import Any

import pytest

from registrator.events import Event, event


def container(action: Any = "start", **changes: Any) -> dict[str, Any]:
    attributes = {"image": "web", "exitCode": "3"} if action == "die" else {"image": "web"}
    actor = {"ID": "c1", "Attributes": attributes}
    return {"Type": "container", "Action": action, "Actor": actor, "time": 1, "timeNano": 1_000_000_007, **changes}


@pytest.mark.parametrize("action", ["start", "pause", "unpause", "rename", "destroy", "health_status"])
def test_what_happens_to_a_container(action: str) -> None:
    assert event(container(action)) == Event(action, "c1", 1_000_000_007)  # type: ignore[arg-type]


def test_a_health_status_has_the_status_in_its_name() -> None:
    assert event(container("health_status: healthy")) == Event("health_status", "c1", 1_000_000_007)


@pytest.mark.parametrize(
    ("text", "code"), [("0", 0), ("137", 137), (None, 0), ("", 255), ("-1", 255), ("\u0661", 255), (7, 255)]
)
def test_how_a_container_ended(text: object, code: int) -> None:
    document = container("die")
    document["Actor"]["Attributes"]["exitCode"] = text
    assert event(document) == Event("die", "c1", 1_000_000_007, code)


@pytest.mark.parametrize("action", ["connect", "disconnect"])
def test_a_network_names_the_container(action: str) -> None:
    actor = {"ID": "n1", "Attributes": {"container": "c1", "name": "back"}}
    assert event(container(action, Type="network", Actor=actor)) == Event(action, "c1", 1_000_000_007)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "start",
        {},
        container("exec_start: sh"),
        container("kill"),
        container(7),
        container("connect"),
        container(Type="network"),
        container(Type="image"),
        container("create", Type="network"),
        container(Actor=None),
        container(Actor={"Attributes": {}}),
        container(Actor={"ID": ""}),
        container(Actor={"ID": 7}),
        container(timeNano="now"),
        container("connect", Type="network", Actor={"ID": "n1", "Attributes": None}),
    ],
)
def test_what_is_of_no_concern_or_no_event(document: object) -> None:
    assert event(document) is None
