"""Lines to a file from a thread of its own, so that a slow disk or pipe never stops the event loop.

The loop appends to a bounded queue; the thread writes what has gathered: at once when that is 64 KiB, else
after 100 ms. No lock is taken: appending to and popping from a deque are atomic, and each counter has one
writing thread.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
from collections import deque

from lb.errors import SettingsError

FLUSH_BYTES = 64 << 10
FLUSH_SECONDS = 0.1
MAX_PENDING_BYTES = 8 << 20

_log = logging.getLogger(__name__)


class LineWriter:
    """Writes lines to `path` (`-`: standard output) in the order in which they came.

    `add`, `reopen` and `close` are for one thread, the loop's. Make it in the process that uses it: a fork
    does not take the thread along. Raises SettingsError, naming `flag`, if the file cannot be opened.
    """

    def __init__(self, path: str, *, flag: str, max_pending: int = MAX_PENDING_BYTES) -> None:
        self._path = path
        self._max_pending = max_pending
        try:
            self._fd = _open(path)
        except OSError as error:
            raise SettingsError(flag, f"{path!r} cannot be opened: {error.strerror}") from error
        self._most = _most_at_once(self._fd)
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0  # written by the loop's thread alone, as is _refused
        self._refused = 0
        self._taken_bytes = 0  # written by the writer's thread alone, as are the next three
        self._written = 0
        self._failed = 0
        self._failing = False
        self._some = threading.Event()  # there is something to do
        self._urgent = threading.Event()  # do not wait for more
        self._reopening = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"writer of {path}", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Lines written."""
        return self._written

    @property
    def dropped(self) -> int:
        """Lines lost: the queue was full, or the file could not be written."""
        return self._refused + self._failed

    def add(self, line: bytes) -> None:
        """Queue one line with its line feed; it is dropped and counted when the queue is full or closed."""
        pending = self._queued_bytes - self._taken_bytes
        if pending + len(line) > self._max_pending or self._closing:
            self._refused += 1
            return
        self._lines.append(line)
        self._queued_bytes += len(line)
        if not self._some.is_set():  # asked after the append: the thread clears it before it takes the lines
            self._some.set()
        if pending >= FLUSH_BYTES and not self._urgent.is_set():
            self._urgent.set()

    def reopen(self) -> None:
        """Open the path anew after a log was rotated; what is queued goes to the old file."""
        self._reopening = True
        self._urgent.set()
        self._some.set()

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued and end the thread; give up after `timeout` seconds (a dead pipe)."""
        self._closing = True
        self._urgent.set()
        self._some.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._some.wait()
            self._urgent.wait(FLUSH_SECONDS)
            closing = self._closing  # read before the last batch is taken, so that nothing is left behind
            reopening = self._reopening
            self._some.clear()
            self._urgent.clear()
            self._write_pending()
            if reopening:
                self._reopening = False
                self._reopen()
        os.close(self._fd)

    def _write_pending(self) -> None:
        """Write all that is queued, in pieces of whole lines."""
        while self._lines:
            batch = [self._lines.popleft()]
            size = len(batch[0])
            while self._lines and size + len(self._lines[0]) <= self._most:
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            try:
                _write_all(self._fd, b"".join(batch))
            except OSError as error:
                self._failed += len(batch)
                if not self._failing:
                    _log.error("%s cannot be written, lines are lost: %s", self._path, error.strerror)
                self._failing = True
            else:
                self._written += len(batch)
                self._failing = False
            self._taken_bytes += size

    def _reopen(self) -> None:
        try:
            fresh = _open(self._path)
        except OSError as error:
            _log.error("%s cannot be opened again, the old file stays in use: %s", self._path, error.strerror)
            return
        os.dup2(fresh, self._fd, inheritable=False)
        self._most = _most_at_once(self._fd)
        os.close(fresh)


def _open(path: str) -> int:
    if path == "-":
        return os.dup(1)
    # Without O_NONBLOCK, opening a named pipe would hang until somebody reads it.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _most_at_once(fd: int) -> int:
    """How many octets may be written at once so that lines of several processes do not mix.

    Appending to a file is one step however long it is; writing to a pipe only up to PIPE_BUF (pipe(7)). A line that
    is longer than that goes alone.
    """
    mode = os.fstat(fd).st_mode
    return select.PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else FLUSH_BYTES


def _write_all(fd: int, data: bytes) -> None:
    """Write all bytes, and wait whenever the descriptor takes no more."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
