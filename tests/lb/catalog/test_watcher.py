"""What a watch refuses before it begins, and what it lives with afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from lb.catalog import watcher as module
from lb.catalog.store import Store
from lb.catalog.watcher import Watcher
from lb.errors import SettingsError
from lb.settings import ConsulSettings

PLAIN, SAFE = "http://127.0.0.1:8500", "https://127.0.0.1:8501"


def test_tls_files_are_tried_at_once_whichever_agent_needs_them(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca\.pem: cannot be used for TLS"):
        Watcher(ConsulSettings(agents=(PLAIN, SAFE), ca_cert=bad), Store())
    Watcher(ConsulSettings(agents=(PLAIN,), ca_cert=bad), Store())


def test_too_few_connections_are_refused() -> None:
    with pytest.raises(SettingsError, match="max_connections: 4 is too few: at least 5"):
        Watcher(ConsulSettings(max_connections=4), Store())


def test_tls_files_that_go_bad_later_only_send_it_to_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("half writt")
    monkeypatch.setattr(module, "check_tls", lambda _: None)  # at the start the file was good

    async def test() -> None:
        watcher = Watcher(ConsulSettings(agents=(SAFE, "http://127.0.0.1:1"), ca_cert=bad), Store())
        watching = asyncio.create_task(watcher.run())
        while watcher.status.agent_changes < 2 and not watching.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(asyncio.wait_for(test(), 10))
    assert f"{SAFE} is given up: {bad}: cannot be used for TLS" in caplog.text
