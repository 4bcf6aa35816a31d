"""A test in systemd's place: it starts a service, passes it sockets, and hears what the service says of itself."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CREDENTIALS = struct.Struct("iII")  # unix(7): process, user, group

# What happens between fork and exec: sockets get the descriptors from 3 on, and the variables name the process.
_LAUNCHER = """
import fcntl, os, socket, sys
path, *argv = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(path)
    passed = socket.recv_fds(sock, 1, 64)[1]
passed = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in passed]
for number, fd in enumerate(passed):
    os.dup2(fd, 3 + number)
os.environ["WATCHDOG_PID"] = os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(passed))
os.execv(sys.executable, [sys.executable, "-m", "lb.cli", *argv])
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message: who sent it, what it says, and when it came (monotonic seconds)."""

    pid: int
    fields: dict[str, str]
    time: float


@dataclass(slots=True)
class Service:
    """A service as systemd sees it, of `Type=notify` and `NotifyAccess=main`: only its main process is heard."""

    main: int
    states: list[str] = field(default_factory=lambda: ["activating"])
    status: str = ""
    beats: list[Notice] = field(default_factory=list)
    ignored: list[Notice] = field(default_factory=list)

    def hear(self, notice: Notice) -> None:
        """Take in a message, as systemd.service(5) and sd_notify(3) have it."""
        said = notice.fields
        if notice.pid != self.main:
            self.ignored.append(notice)
            return
        self.main = int(said.get("MAINPID", self.main))
        self.status = said.get("STATUS", self.status)
        if "WATCHDOG" in said:
            self.beats.append(notice)
        if "RELOADING" in said:
            assert abs(int(said["MONOTONIC_USEC"]) / 1e6 - notice.time) < 5
            self.states.append("reloading")
        if "READY" in said and self.states[-1] in ("activating", "reloading"):
            self.states.append("active")
        if "STOPPING" in said:
            self.states.append("stopping")


class Manager:
    """Where NOTIFY_SOCKET leads, and who passes `socks`. `on_ready` is called as soon as READY=1 comes."""

    def __init__(self, directory: Path, socks: Sequence[socket.socket], on_ready: Callable[[], object]) -> None:
        self.notices: list[Notice] = []
        self.failure: Exception | None = None  # of on_ready
        self._on_ready = on_ready
        self._socks = socks
        self._passing = socket.socket(socket.AF_UNIX)
        self._passing.bind(str(directory / "sockets"))
        self._passing.listen()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.bind(str(directory / "notify"))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._pass, self._listen)]
        for thread in self._threads:
            thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What the service finds in its environment."""
        return {"NOTIFY_SOCKET": str(self._notify.getsockname())}

    @property
    def program(self) -> tuple[str, ...]:
        """What Python is started with so that it becomes the service."""
        return ("-c", _LAUNCHER, str(self._passing.getsockname()))

    def service(self, pid: int) -> Service:
        """Tell what is known of a service that was started as this process."""
        if self.failure is not None:
            raise self.failure
        service = Service(pid)
        for notice in list(self.notices):
            service.hear(notice)
        return service

    def _pass(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._passing.accept()
            with connection:
                socket.send_fds(connection, [b"x"], [sock.fileno() for sock in self._socks])

    def _listen(self) -> None:
        while True:
            text, control, _, _ = self._notify.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
            if not text:
                return
            now = time.clock_gettime(time.CLOCK_MONOTONIC)
            pid, _, _ = _CREDENTIALS.unpack(control[0][2])
            said = dict(line.split("=", 1) for line in text.decode().split("\n"))
            if "READY" in said:
                try:
                    self._on_ready()
                except Exception as error:  # the test is told
                    self.failure = error
            self.notices.append(Notice(pid, said, now))

    def close(self) -> None:
        """End the threads."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._notify.getsockname())
        self._passing.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._notify.close()
        self._passing.close()


@contextlib.contextmanager
def systemd(
    directory: Path, socks: Sequence[socket.socket] = (), on_ready: Callable[[], object] = lambda: None
) -> Iterator[Manager]:
    """Be systemd for one service until the `with` block ends."""
    manager = Manager(directory, socks, on_ready)
    try:
        yield manager
    finally:
        manager.close()
