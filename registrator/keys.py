"""What a container says of its services: the `SERVICE_*` keys of its environment and labels, for each port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lb.catalog.model import Problem
from registrator.model import Container

PREFIX = "SERVICE_"

MAX_SHOWN = 160
"""Characters of a key that are shown."""

_OF_PORT = re.compile(r"([0-9]{1,5})_(.+)", re.DOTALL)


class Said(NamedTuple):
    """One key as the container has it, its value, and whether it names the port."""

    key: str
    value: str
    for_port: bool = False


class Keys:
    """The keys of one container. Labels come before the environment, a key with a port before one without."""

    def __init__(self, container: Container) -> None:
        self._general: dict[str, Said] = {}
        self._of_ports: dict[int, dict[str, Said]] = {}
        for source in (container.environment, container.labels):
            self._read(source)

    def _read(self, source: Mapping[str, str]) -> None:
        # Sorted, so that of two keys that differ in case alone always the same one counts.
        for key in sorted(source):
            if not key.startswith(PREFIX) or key == PREFIX:
                continue
            rest = key.removeprefix(PREFIX).lower()
            if match := _OF_PORT.fullmatch(rest):
                self._of_ports.setdefault(int(match[1]), {})[match[2]] = Said(key, source[key], for_port=True)
            else:
                self._general[rest] = Said(key, source[key])

    def of(self, port: int) -> dict[str, Said]:
        """What is said of one port, by the key in lower case, without prefix and port."""
        return {**self._general, **self._of_ports.get(port, {})}


class Complaints:
    """What of one container cannot be used; a key that holds for several ports is named once."""

    def __init__(self, container: Container) -> None:
        self._name = container.name
        self._found: dict[Problem, None] = {}

    def add(self, about: str, reason: str) -> None:
        """Name a key, or another part of the container, and what is wrong with it."""
        self._found[Problem("registration", f"{self._name} {about[:MAX_SHOWN]}", reason)] = None

    def all(self) -> list[Problem]:
        """All of them, in the order in which they were found."""
        return list(self._found)
