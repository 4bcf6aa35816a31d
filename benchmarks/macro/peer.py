"""What a peer is: a program that takes part in the comparison, and what of it runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.macro.processes import Program
from benchmarks.macro.site import Site

Kind = Literal["http", "tcp", "dns", "http-workers", "dns-workers"]
"""What a peer is asked for. The kinds with workers are for peers that use all cores."""

ALL_CORES: frozenset[Kind] = frozenset({"http-workers", "dns-workers"})
"""The kinds for which peer, client and all others share all cores."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer: its program, and the port for each kind of load that it takes."""

    program: Program
    ports: Mapping[Kind, int]
    access_log: Path | None = None
    """The file that gets a line for each request."""
    agent: int | None = None
    """HTTP port of the Consul agent from which it learns everything."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the comparison.

    `commands` must be on the PATH; the first one, with the arguments `version`, tells the version. `loads` names the
    loads that the peer takes part in, all of its kinds when empty. `base` names the peer of which this one is a
    variant that does more for each request.
    """

    name: str
    about: str
    kinds: frozenset[Kind]
    start: Callable[[Site], Running]
    commands: tuple[str, ...]
    version: tuple[str, ...] = ("-v",)
    loads: frozenset[str] = frozenset()
    base: str = ""

    def missing(self) -> str:
        """Return why the peer cannot take part, empty when it can."""
        return ", ".join(f"{command} is not on the PATH" for command in self.commands if not shutil.which(command))

    def read_version(self) -> str:
        """Return the version that the program tells, or `unknown`."""
        return read_version(self.commands[0], *self.version)


@dataclass(frozen=True, slots=True)
class ConsulEdge(Peer):
    """consul-edge, from this very tree."""

    def missing(self) -> str:
        """Return why the peer cannot take part, empty when it can."""
        if importlib.util.find_spec("lb.cli") is None:
            return "there is no lb.cli"
        return Peer.missing(self)

    def read_version(self) -> str:
        """Return the version of the installed package."""
        try:
            return importlib.metadata.version("consul-edge")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


def read_version(command: str, *arguments: str) -> str:
    """Return the first thing like a version that a command prints, or `unknown`."""
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"
