"""Reading JSON as Consul's API does: strictly typed, keys without regard to case, durations in Go's form.

An unknown key is refused and nothing is converted: a port in quotes is an error. Every error names the key
and says what is wrong with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from lb.demo.records import ApiError

T = TypeVar("T")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration in Go's form (`1h30m`, `1.5s`, `-5ms`); raises ValueError."""
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if digits == "0":
        return 0.0
    parts = _DURATION_PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise ValueError(f'invalid duration "{text}"')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


class Fields:
    """One JSON object, read key by key; raises `ApiError` with status 400 for what does not fit."""

    def __init__(self, value: object, what: str, known: list[str]) -> None:
        if not isinstance(value, dict):
            raise _undecodable(f"{what} must be an object, not {_kind(value)}")
        names = {key.lower(): key for key in known}
        self._values: dict[str, Any] = {}
        for key, item in value.items():
            name = names.get(key.lower())
            if name is None:
                raise _undecodable(f'unknown field "{key}" in {what}')
            if item is not None:
                self._values[name] = item

    @classmethod
    def parse(cls, body: bytes, what: str, known: list[str]) -> Fields:
        """Decode a request body that is one JSON object."""
        try:
            return cls(json.loads(body), what, known)
        except (ValueError, RecursionError) as error:
            raise _undecodable(f"{what} is not JSON: {error}") from error

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """Return a string, empty when it is absent."""
        return self._get(key, str, "a string") or ""

    def integer(self, key: str) -> int:
        """Return an integer, 0 when it is absent."""
        return self._get(key, int, "an integer") or 0

    def flag(self, key: str) -> bool:
        """Return a boolean, false when it is absent."""
        return self._get(key, bool, "a boolean") or False

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty when it is absent."""
        items = self._get(key, list, "a list") or []
        for item in items:
            if not isinstance(item, str):
                raise _undecodable(f"{key} must hold strings, not {_kind(item)}")
        return tuple(items)

    def items(self, key: str) -> list[object]:
        """Return a list, empty when it is absent."""
        return self._get(key, list, "a list") or []

    def mapping(self, key: str) -> dict[str, Any]:
        """Return an object, empty when it is absent."""
        return self._get(key, dict, "an object") or {}

    def text_mapping(self, key: str) -> dict[str, str]:
        """Return an object whose values are strings, empty when it is absent."""
        values = self.mapping(key)
        for name, item in values.items():
            if not isinstance(item, str):
                raise _undecodable(f"{key}.{name} must be a string, not {_kind(item)}")
        return values

    def duration(self, key: str) -> float:
        """Return seconds, 0 when it is absent."""
        text = self.text(key)
        try:
            return parse_duration(text) if text else 0.0
        except ValueError as error:
            raise _undecodable(f"{key}: {error}") from error

    def _get(self, key: str, kind: type[T], name: str) -> T | None:
        value = self._values.get(key)
        if value is None:
            return None
        # A bool is an int to Python, not to JSON.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _undecodable(f"{key} must be {name}, not {_kind(value)}")
        return value


def _kind(value: object) -> str:
    names: Mapping[type, str] = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names[type(value)]


def _undecodable(reason: str) -> ApiError:
    return ApiError(400, f"Request decode failed: {reason}")
