"""The protocols of systemd, with real sockets and real descriptors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.errors import ListenError
from lb.systemd import Notifier, inherited_sockets

PID = 4711


def receiver(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(5)
    return sock


@pytest.fixture(params=["path", "abstract"])
def notify(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The value of NOTIFY_SOCKET, and the socket that listens there."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@consul-edge-test-{os.getpid()}"
    with receiver(name.replace("@", "\0", 1) if name[0] == "@" else name) as sock:
        yield name, sock


def test_each_message_is_what_systemd_reads(notify: tuple[str, socket.socket]) -> None:
    name, sock = notify
    notifier = Notifier({"NOTIFY_SOCKET": name}, PID)
    notifier.ready("serving 12 services")
    notifier.ready()
    notifier.stopping()
    notifier.status("a line\nMAINPID=1")
    notifier.main_pid(99)
    notifier.beat()
    assert [sock.recv(1000).decode() for _ in range(6)] == [
        "READY=1\nSTATUS=serving 12 services",
        "READY=1",
        "STOPPING=1",
        "STATUS=a line MAINPID=1",
        "MAINPID=99",
        "WATCHDOG=1",
    ]


def test_a_reload_tells_its_time(notify: tuple[str, socket.socket]) -> None:
    name, sock = notify
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    Notifier({"NOTIFY_SOCKET": name}, PID).reloading()
    first, second = sock.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    key, _, usec = second.partition("=")
    assert key == "MONOTONIC_USEC"
    assert 0 <= int(usec) / 1e6 - before + 1e-3 < 60


def test_nobody_is_told_where_systemd_is_not() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"}, PID)
    notifier.ready("up")
    notifier.beat()
    assert notifier.watchdog_interval is None


def test_a_socket_that_is_gone_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID)
    for _ in range(3):
        notifier.beat()
        notifier.ready("up \udcff")
    assert [record.getMessage() for record in caplog.records] == [
        "systemd cannot be notified: No such file or directory"
    ]


def test_a_reader_that_does_not_read_does_not_stop_us(tmp_path: Path) -> None:
    with receiver(str(tmp_path / "notify")):
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, PID)
        for _ in range(5000):
            notifier.beat()


def test_an_address_of_no_known_kind_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}, PID).ready()
    assert "NOTIFY_SOCKET is ignored" in caplog.text


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_three_times_in_its_time(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}, PID).watchdog_interval == interval


# Inherited sockets: a child gets descriptors from 3 on, as systemd would pass them, and tells what it finds.

CHILD = """
import json, os, socket, sys
from lb.errors import ListenError
from lb.systemd import inherited_sockets
environ = dict(os.environ, LISTEN_PID=str(os.getpid() + int(sys.argv[1])))
try:
    found = inherited_sockets(environ, os.getpid())
except ListenError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([
        [name, sock.getsockname()[1], sock.fileno(), sock.getblocking(), sock.get_inheritable()] for name, sock in found
    ]))
"""

# The shell puts the descriptors in their place, and exec keeps them open.
PLACE = 'for fd in $FDS; do eval "exec $((target + 3))<&$fd"; target=$((target + 1)); done; exec "$@"'


def child(fds: list[int], *, pid_offset: int = 0, **environ: str) -> object:
    """What a process finds that inherits these descriptors as 3, 4 ..."""
    high = [os.dup(fd) for fd in fds]
    try:
        done = subprocess.run(
            ["bash", "-c", "target=0; " + PLACE, "bash", sys.executable, "-c", CHILD, str(pid_offset)],
            env={**os.environ, "FDS": " ".join(map(str, high)), "LISTEN_FDS": str(len(fds)), **environ},
            pass_fds=high,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    finally:
        for fd in high:
            os.close(fd)
    return json.loads(done.stdout)


def test_sockets_are_taken_over_with_their_names() -> None:
    with socket.create_server(("127.0.0.1", 0)) as http, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as dns:
        dns.bind(("::1", 0))
        found = child([http.fileno(), dns.fileno()], LISTEN_FDNAMES="http:dns")
        assert found == [
            ["http", http.getsockname()[1], 3, False, False],
            ["dns", dns.getsockname()[1], 4, False, False],
        ]
        assert child([http.fileno()]) == [["", http.getsockname()[1], 3, False, False]]


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert child([sock.fileno()], pid_offset=1) == []
    assert inherited_sockets({}, os.getpid()) == []


def test_what_cannot_be_served_on_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as good,
        socket.create_connection(good.getsockname()) as connected,
        socket.socket(socket.AF_UNIX) as unix,
        open(os.devnull) as file,
    ):
        for bad, reason in (
            (connected, "the socket does not listen"),
            (unix, "not an internet socket"),
            (file, "not a socket"),
        ):
            assert child([good.fileno(), bad.fileno()]) == f"inherited descriptor 4: {reason}"
        closed = child([good.fileno()], LISTEN_FDS="2")
        assert isinstance(closed, str)
        assert closed.startswith("inherited descriptor 4: ")


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS: 'many' is no number"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS: '-1' is no number"),
        ({"LISTEN_FDS": "99999999"}, "LISTEN_FDS: '99999999' is no number"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http:dns"}, "LISTEN_FDNAMES: 2 names for 1 descriptors"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(ListenError, match=reason):
        inherited_sockets({"LISTEN_PID": str(PID), **environ}, PID)
