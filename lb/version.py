"""The version of this program, as it is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("consul-edge")
except PackageNotFoundError:  # run from a source tree
    VERSION = "0"
