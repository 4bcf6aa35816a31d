"""What systemd and a service tell one another: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

Nothing here needs systemd: where it did not start the program, nobody is notified and no socket is inherited.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Mapping
from typing import NamedTuple

from lb.errors import ListenError

FIRST_FD = 3
BEATS = 3  # in the watchdog's time

_NOTIFY = "NOTIFY_SOCKET"
_WATCHDOG = ("WATCHDOG_USEC", "WATCHDOG_PID")
_LISTEN = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_MAX_FDS = 1 << 16
_LONGEST_NUMBER = 20  # digits of 64 bits

log = logging.getLogger(__name__)


class Notifier:
    """Tells systemd how the service is doing, if it wants to know; never raises, and never waits.

    A message that cannot be sent is lost; the first one is warned of.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._address = _notify_address(environ.get(_NOTIFY, ""))
        self._watchdog_interval = _watchdog_interval(environ, pid) if self._address else None
        self._warned = False

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds from one `beat` to the next: a third of what systemd allows. None if it does not watch.

        sd_watchdog_enabled(3) asks for two beats in that time: they come even when one of them is late.
        """
        return self._watchdog_interval

    def ready(self, status: str = "") -> None:
        """Tell that the start, or a reload, is complete."""
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """Tell that a reload begins, which `ready` ends; the time is for `Type=notify-reload`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the service is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Give `systemctl status` a line for people."""
        self._send(*_status(text))

    def main_pid(self, pid: int) -> None:
        """Tell which process is the service from now on."""
        self._send(f"MAINPID={pid}")

    def beat(self) -> None:
        """Tell the watchdog that the service is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if not self._address or not fields:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(fields).encode(errors="replace"), self._address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("systemd cannot be notified: %s", error.strerror or error)


def _status(text: str) -> tuple[str, ...]:
    """The field of a status, on one line: another line would be another field."""
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _notify_address(name: str) -> str:
    """Where to send: a path, or the name of an abstract socket, which is written with `@` in place of its NUL."""
    if not name:
        return ""
    if name[0] not in "/@":
        log.warning("%s is ignored: %r is neither a path nor an abstract name", _NOTIFY, name)
        return ""
    return "\0" + name[1:] if name[0] == "@" else name


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    usec, watched = (environ.get(name, "") for name in _WATCHDOG)
    if not usec or (watched and watched != str(pid)):
        return None
    if not (_is_number(usec) and int(usec) > 0):
        log.warning("WATCHDOG_USEC is ignored: %r is no number of microseconds", usec)
        return None
    return int(usec) / 1_000_000 / BEATS


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


class Inherited(NamedTuple):
    """A listening socket that systemd has opened, and the name that its unit gave it (empty: none)."""

    name: str
    sock: socket.socket


def inherited_sockets(environ: Mapping[str, str], pid: int) -> list[Inherited]:
    """Take the sockets that systemd has passed to this process: TCP ones that listen, and bound UDP ones.

    They get non-blocking, and are not passed on. To be called once. Raises ListenError, naming what is wrong; the
    descriptors are left as they are then.
    """
    count, meant_for, names = (environ.get(name, "") for name in _LISTEN)
    if not count or meant_for != str(pid):
        return []
    if not (_is_number(count) and int(count) <= _MAX_FDS):
        raise ListenError(f"LISTEN_FDS: {count!r} is no number of descriptors")
    fds = range(FIRST_FD, FIRST_FD + int(count))
    labels = names.split(":") if names else [""] * len(fds)
    if len(labels) != len(fds):
        raise ListenError(f"LISTEN_FDNAMES: {len(labels)} names for {len(fds)} descriptors")
    for fd in fds:
        _check(fd)
    return [Inherited(label, _adopt(fd)) for fd, label in zip(fds, labels, strict=True)]


def _check(fd: int) -> None:
    """See that a descriptor is a socket to serve on. Raises ListenError."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise ListenError(f"inherited descriptor {fd}: {error.strerror}") from error
    if not is_socket:
        raise ListenError(f"inherited descriptor {fd}: not a socket")
    sock = socket.socket(fileno=fd)
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise ListenError(f"inherited descriptor {fd}: not an internet socket")
        if sock.type == socket.SOCK_DGRAM:
            bound = sock.getsockname()[1] != 0
        else:
            bound = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if not bound:
            raise ListenError(f"inherited descriptor {fd}: the socket does not listen")
    finally:
        sock.detach()


def _adopt(fd: int) -> socket.socket:
    flags = fcntl.fcntl(fd, fcntl.F_GETFD)
    fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock
