"""`consul-edge upgrade`: ask a running node for an upgrade in place, and wait until it is over."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lb.errors import EdgeError
from lb.observe.tables import fetch
from lb.settings import Address

TIMEOUT = 90.0
"""Seconds until an upgrade is given up; the node itself gives up sooner, and says why."""

_STEP = 0.1


class UpgradeFailed(EdgeError):
    """The node goes on as it was; the text says why."""


def upgrade(admin: Address) -> tuple[dict[str, Any], dict[str, Any]]:
    """Have the node whose admin server is there upgraded; return its status before and after.

    Raises UpgradeFailed, or EdgeError where nobody answers.
    """
    before = fetch(admin, "/api/status")
    try:
        os.kill(before["pid"], signal.SIGHUP)
    except OSError as error:
        raise UpgradeFailed(f"process {before['pid']} cannot be told: {error.strerror}") from error
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        time.sleep(_STEP)
        now = fetch(admin, "/api/status")
        if now["pid"] != before["pid"]:
            return before, now
        if now["upgrades"]["failed"] > before["upgrades"]["failed"]:
            raise UpgradeFailed(now["upgrades"]["error"])
    raise UpgradeFailed(f"nothing has happened for {TIMEOUT:g} s")
