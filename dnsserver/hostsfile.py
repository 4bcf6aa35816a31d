"""A hosts file on disk, read again when it changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dnsserver.hosts import Hosts, parse_hosts

log = logging.getLogger(__name__)

MAX_SIZE = 16 << 20
"""Octets of a file that is read: some 500,000 names."""

MAX_PROBLEMS = 10
"""Faults that are logged one by one each time the file is read."""

_State = tuple[int, int, int]


class HostsFile:
    """Follows one file. Where it cannot be read, what it said last goes on, and the reason is logged once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _State | None = None
        self._trouble = ""

    def read_if_changed(self) -> Hosts | None:
        """Return what the file says if it has changed since the last call, else None. Blocks: for a thread."""
        try:
            state = _state_of(os.stat(self._path))
            if state == self._seen:
                return None
            with self._path.open("rb") as file:
                # Of the open file: the path may lead to another one by now.
                state = _state_of(os.fstat(file.fileno()))
                content = file.read(MAX_SIZE + 1)
        except OSError as error:
            self._seen = None
            self._complain(error.strerror or type(error).__name__)
            return None
        self._seen = state
        if len(content) > MAX_SIZE:
            self._complain(f"more than {MAX_SIZE} octets")
            return None
        self._trouble = ""
        hosts, problems = parse_hosts(content.decode("utf-8", "replace"))
        for problem in problems[:MAX_PROBLEMS]:
            log.warning("DNS: %s:%s; skipped", self._path, problem)
        if len(problems) > MAX_PROBLEMS:
            log.warning("DNS: %s: %d more faults were skipped", self._path, len(problems) - MAX_PROBLEMS)
        log.info("DNS: names in %s: %d", self._path, len(hosts))
        return hosts

    def _complain(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            log.warning("DNS: %s cannot be read: %s; what it said last is kept", self._path, reason)


def _state_of(stat: os.stat_result) -> _State:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
