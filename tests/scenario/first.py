"""The first process of a host: it settles the namespaces that it was started in, then only reaps.

`unshare ... python first.py NAME RESOLV_CONF` prints its process id as seen from outside once the host is there. The
host lasts for as long as this process does, and that is until its standard input ends: whoever made the host cannot
leave it behind, in whatever way it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")


def settle(name: str, resolv_conf: str) -> None:
    """Give the host its name, its own `/proc`, an empty `/run`, its `resolv.conf`, and a loopback that is up."""
    socket.sethostname(name)
    place = RESOLV_CONF.resolve()
    _call("mount", "-t", "proc", "proc", "/proc")
    _call("mount", "-t", "tmpfs", "tmpfs", "/run")
    if place.is_relative_to("/run"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _call("mount", "--bind", resolv_conf, str(place))
    _call("ip", "link", "set", "lo", "up")


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _reap(*_: object) -> None:
    """Bury every child that has ended: orphans of the whole host become children of its first process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> None:
    """Be the first process until standard input ends."""
    outside = os.readlink("/proc/self")  # /proc is still that of the namespace outside
    settle(*sys.argv[1:])
    signal.signal(signal.SIGCHLD, _reap)
    with contextlib.suppress(BrokenPipeError):  # whoever made the host may have gone by now
        os.write(sys.stdout.fileno(), f"{outside}\n".encode())
    sys.stdin.read()


if __name__ == "__main__":
    main()
