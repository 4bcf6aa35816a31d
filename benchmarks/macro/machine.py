"""What a reader must know of the machine to judge figures. No host names, no paths."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe() -> dict[str, str]:
    """Return processor, cores, memory, kernel and Python."""
    return {
        "processor": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _gibibytes(_first(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _first(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _gibibytes(kibibytes: str) -> str:
    return f"{int(kibibytes) / (1 << 20):.0f} GiB" if kibibytes else "unknown"
