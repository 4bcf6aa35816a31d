"""The program's own log on standard error: lines of text or of JSON, with key=value fields, without secrets.

::

    2026-11-23T04:43:59.123Z INFO catalog: agent answers again url=http://127.0.0.1:8500

Times are UTC. A record stays on one line whatever its message holds, but for a traceback in the text format.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from lb.settings import LogSettings

_MASK = "***"
_FIELDS = "edge_fields"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@,+*[]()<>")


def fields(**values: object) -> dict[str, Any]:
    """Name key=values for a record: `log.info("agent answers again", extra=fields(url=url))`."""
    return {_FIELDS: values}


class Secrets:
    """Strings that never reach the log."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        for value in values:
            self.add(value)

    def add(self, value: str) -> None:
        """Hide one more string, as it is and as JSON would escape it; an empty one is ignored."""
        if value:
            self._values |= {value, json.dumps(value)[1:-1]}

    def mask(self, text: str) -> str:
        """Replace every secret in `text`."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, _MASK)
        return text


def setup(settings: LogSettings, secrets: Iterable[str] = (), stream: TextIO | None = None) -> Secrets:
    """Send all records of at least the set level to `stream` (standard error), in place of any earlier
    set-up.

    Returns the hidden strings, to which more may be added later (a token read again from its file).
    """
    hidden = Secrets(secrets)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(hidden) if settings.format == "json" else TextFormatter(hidden))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    return hidden


class TextFormatter(logging.Formatter):
    """Records as lines for people; a traceback follows its line, indented."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Give the text of one record."""
        parts = [f"{_time(record)} {record.levelname} {_name(record)}: {_one_line(record.getMessage())}"]
        parts.extend(f"{key}={_quoted(value)}" for key, value in _fields(record).items())
        trace = _traceback(self, record)
        text = " ".join(parts) + "".join(f"\n    {line}" for line in trace.splitlines())
        return self._secrets.mask(text)


class JsonFormatter(logging.Formatter):
    """Records as JSON objects; a field that has the name of a part of the record gets `_` at its end."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Give the JSON line of one record."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": _name(record),
            "message": record.getMessage(),
        }
        if trace := _traceback(self, record):
            entry["exception"] = trace
        for key, value in _fields(record).items():
            entry[f"{key}_" if key in entry else key] = value
        return self._secrets.mask(json.dumps(entry, default=str))


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _name(record: logging.LogRecord) -> str:
    return record.name.removeprefix("lb.")


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(record, _FIELDS, {})
    return found


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _one_line(text: str) -> str:
    """Escape what would begin a line or steer a terminal: a forged record must not look like one of ours."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)
