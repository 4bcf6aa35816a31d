"""Which parts of a node each command runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lb import cli
from lb.observe import log
from lb.settings import Settings

PARTS = ("http", "tcp", "dns", "registrator")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """Run the command, and return the parts that it would have run."""
    seen: list[Settings] = []

    class Service:
        def __init__(self, settings: Settings, _: object) -> None:
            seen.append(settings)

        async def run(self) -> None:
            pass

    monkeypatch.setattr(cli, "Service", Service)
    monkeypatch.setattr(cli, "raise_limit", lambda: None)
    monkeypatch.setattr(log, "setup", lambda _, secrets: log.Secrets(secrets))
    monkeypatch.delenv("CONSUL_EDGE_DOCKER", raising=False)

    def parts(*argv: str) -> set[str]:
        assert cli.main([*argv, "--recursor", "off", "--state-dir", "off"]) == 0
        return {part for part in PARTS if getattr(seen[-1], part) is not None}

    return parts


def test_each_command_runs_its_part(run: Callable[..., set[str]]) -> None:
    assert run("run") == {"http", "tcp", "dns"}
    assert run("run", "--docker") == {"http", "tcp", "dns", "registrator"}
    assert run("run", "--docker", "--http", "off", "--tcp", "off", "--dns", "off") == {"registrator"}
    assert run("lb", "--docker") == {"http", "tcp"}
    assert run("dns", "--docker") == {"dns"}
    assert run("registrator") == {"registrator"}
    assert run("registrator", "--docker", "tcp://127.0.0.1:1") == {"registrator"}


@pytest.mark.parametrize(
    "argv", [["run", "--http", "off", "--tcp", "off", "--dns", "off"], ["registrator", "--docker", "off"]]
)
def test_a_command_with_nothing_to_do_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr().err == f"consul-edge: {argv[0]}: everything that it would run is turned off\n"
