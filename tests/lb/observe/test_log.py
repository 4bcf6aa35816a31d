"""The program's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from lb.observe.log import Secrets, fields, setup
from lb.settings import LogSettings


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(
    message: str,
    *args: object,
    form: Literal["text", "json"] = "text",
    secrets: tuple[str, ...] = (),
    error: BaseException | None = None,
    **values: object,
) -> str:
    """Log one warning of the catalog at a fixed time and return what was printed."""
    stream = io.StringIO()
    setup(LogSettings(format=form), secrets, stream)
    log = logging.getLogger("lb.catalog")
    trace = None if error is None else (type(error), error, None)
    record = log.makeRecord(log.name, logging.WARNING, "f", 1, message, args, trace, extra=fields(**values))
    record.created = 1795409039.1239
    log.handle(record)
    return stream.getvalue()


def test_a_line_of_text() -> None:
    line = logged("agent %s answers", "http://127.0.0.1:8500", services=3, node="edge one", empty="")
    assert line == (
        "2026-11-23T04:43:59.123Z WARNING catalog: agent http://127.0.0.1:8500 answers"
        ' services=3 node="edge one" empty=""\n'
    )


def test_a_line_of_json() -> None:
    line = logged("agent %s answers", "a", form="json", services=3, level="taken")
    assert line.endswith("\n")
    assert json.loads(line) == {
        "time": "2026-11-23T04:43:59.123Z",
        "level": "warning",
        "logger": "catalog",
        "message": "agent a answers",
        "services": 3,
        "level_": "taken",
    }


def test_a_message_cannot_forge_a_line() -> None:
    line = logged("bad name %s", "x\n2026-11-23T04:43:59.123Z ERROR catalog: forged\x1b[31m", field="a\nb")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert 'field="a\\nb"' in line


def test_a_traceback_follows_indented() -> None:
    lines = logged("broken", error=ValueError("why")).splitlines()
    assert lines[0].endswith("catalog: broken")
    assert lines[1:] == ["    ValueError: why"]
    assert json.loads(logged("broken", form="json", error=ValueError("why")))["exception"] == "ValueError: why"


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_never_show(form: Literal["text", "json"]) -> None:
    secret = 'to"ken-ä1'
    line = logged(
        "asked with %s",
        secret,
        form=form,
        secrets=(secret, ""),
        error=ValueError(f"in {secret}"),
        header=f"X: {secret}",
    )
    assert "ken-" not in line
    assert line.count("***") == 3


def test_a_secret_learned_later_is_hidden_too() -> None:
    secrets = Secrets(["abc"])
    secrets.add("abc-longer")
    assert secrets.mask("abc abc-longer") == "*** ***"


def test_the_level_is_a_floor_and_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup(LogSettings(), stream=first)
    setup(LogSettings(level="warning"), stream=second)
    log = logging.getLogger("dnsserver")
    log.info("quiet")
    log.error("loud")
    assert first.getvalue() == ""
    assert "ERROR dnsserver: loud" in second.getvalue()
    assert "quiet" not in second.getvalue()
