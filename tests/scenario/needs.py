"""What a machine must have for the three hosts."""

from __future__ import annotations

import os
import shutil

PROGRAMS = (
    *("ip", "iptables", "ldd", "mount", "nsenter", "unshare"),
    *("busybox", "consul", "containerd", "dnsmasq", "docker", "dockerd", "openssl", "runc"),
    *("curl", "dig", "nc", "ping"),
)


class Unavailable(Exception):
    """This machine cannot do what the hosts need; the message says what, and why."""


def missing() -> list[str]:
    """Return what this machine lacks, as far as it can be told without trying."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    return lacks + [program for program in PROGRAMS if shutil.which(program) is None]


def path_of(program: str) -> str:
    """Return where a program is; raises `Unavailable`."""
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not on the PATH")
    return path
