"""Processes that tests start: each is ended by the test, readiness is asked for, never slept for."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PORTS = (10_000, 32_768)
_given: deque[int] = deque(maxlen=4096)
"""What was given last, and may not be in use yet."""


def free_port() -> int:
    """Return a port that is free for TCP and UDP, for programs that cannot be given port 0.

    It lies below the ports that the kernel gives to clients, so that no connection takes it meanwhile.
    """
    while True:
        port = random.randrange(*_PORTS)
        if port not in _given and _is_free(port):
            _given.append(port)
            return port


def free_ports(count: int) -> list[int]:
    """Return `count` different free ports."""
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def wait_until(probe: Callable[[], T], *, timeout: float = 15.0, what: str = "condition", step: float = 0.01) -> T:
    """Call `probe` until it returns something true, and return that; fail after `timeout` seconds.

    Connection errors and assertion errors of the probe count as "not yet".
    """
    end = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            value = probe()
            if value:
                return value
            last = value
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s; last seen: {last!r}")
        time.sleep(step)


def port_open(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on the port."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: dict[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    grace: float = 10.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in `log`; end it, and its process group, on exit."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(a) for a in argv],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
