"""Docker's events, as far as they concern registrations (pure).

Docker Engine API, `GET /events`: one JSON object a line, with `Type`, `Action`, `Actor` and `timeNano`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

EventKind = Literal["start", "die", "pause", "unpause", "rename", "health_status", "destroy", "connect", "disconnect"]
"""`connect` and `disconnect` are a network's: a container gets an address there, or loses it."""

KINDS: tuple[EventKind, ...] = get_args(EventKind)

TYPES = ("container", "network")

_NETWORK_KINDS = ("connect", "disconnect")
_MOST_EXIT_CODE = 255


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to the container with the id `container`.

    `time` is the engine's clock, in nanoseconds since 1970. `exit_code` counts for `die` alone.
    """

    kind: EventKind
    container: str
    time: int
    exit_code: int = 0


def event(document: Any) -> Event | None:
    """Read one event; None for what is of no concern, or not what Docker promises.

    A health status comes as `health_status: healthy`; what it is, an inspection tells.
    """
    if not isinstance(document, Mapping) or document.get("Type") not in TYPES:
        return None
    action, actor, time = document.get("Action"), document.get("Actor"), document.get("timeNano")
    if not isinstance(action, str) or not isinstance(actor, Mapping) or not isinstance(time, int):
        return None
    kind = next((kind for kind in KINDS if kind == action.partition(":")[0]), None)
    if kind is None or (kind in _NETWORK_KINDS) != (document["Type"] == "network"):
        return None
    attributes = actor.get("Attributes")
    if not isinstance(attributes, Mapping):
        attributes = {}
    container = attributes.get("container") if kind in _NETWORK_KINDS else actor.get("ID")
    if not isinstance(container, str) or not container:
        return None
    return Event(kind, container, time, _exit_code(attributes.get("exitCode")))


def _exit_code(text: object) -> int:
    """Read Docker's word for how a container ended; what cannot be read counts as a failure."""
    if text is None:
        return 0
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else _MOST_EXIT_CODE
