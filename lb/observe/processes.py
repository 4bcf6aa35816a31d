"""What the kernel tells of a process (Linux's /proc): time spent, memory held, descriptors open."""

from __future__ import annotations

import os
from pathlib import Path

from lb.observe.views import WorkerView

_PROC = Path("/proc")

# proc_pid_stat(5), counted from the field behind the name, which may hold anything.
_UTIME, _STIME, _RSS = 11, 12, 21


def worker_view(number: int, pid: int, started: float, proc: Path = _PROC) -> WorkerView | None:
    """Look at the process of a worker that was `started` at this monotonic time; None if it is gone."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
        open_fds = len(os.listdir(proc / str(pid) / "fd"))
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    ticks = int(fields[_UTIME]) + int(fields[_STIME])
    return WorkerView(
        number=number,
        pid=pid,
        started=started,
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        resident_bytes=int(fields[_RSS]) * os.sysconf("SC_PAGE_SIZE"),
        open_fds=open_fds,
    )
