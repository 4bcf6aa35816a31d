"""Connecting: exactly one of made, failed and cancelled, and failures that name no address."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path

import pytest

from lb.errors import UpstreamError
from lb.upstream.connection import Nobody, UpstreamConnection
from lb.upstream.dial import Dial, connect_error, connect_timeout
from tests.support.edge import eventually, scenario
from tests.support.process import free_port
from tests.support.scripted import Connection, Instance, stalled


class Caller(Nobody):
    """Dials, and notes what comes of it."""

    def __init__(self) -> None:
        self.made: list[UpstreamConnection] = []
        self.errors: list[UpstreamError] = []
        self.heard = b""
        self.lost = 0

    def dial(self, port: int, host: str = "127.0.0.1") -> Dial:
        return Dial(asyncio.get_running_loop(), host, port, self, self.made.append, self.errors.append)

    def upstream_data(self, connection: UpstreamConnection, data: bytes) -> None:
        assert self.made == [connection]  # the first word never comes before the connection
        self.heard += data

    def upstream_lost(self, connection: UpstreamConnection, error: Exception | None) -> None:
        self.lost += 1


def sockets() -> int:
    """How many sockets this process has open."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the others
            names.append(link.readlink().name)
    return sum(name.startswith("socket:") for name in names)


@scenario
async def test_instance_that_speaks_first_is_heard_from_its_first_octet() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(b"220 ready\r\n")
        await connection.rest()

    instance, caller = Instance(script), Caller()
    await instance.start()
    caller.dial(instance.port)
    await eventually(lambda: caller.heard == b"220 ready\r\n", "it is heard")
    assert caller.errors == []
    caller.made[0].abort()
    await eventually(lambda: caller.lost == 1, "it is closed")
    await instance.stop()


@pytest.mark.parametrize(
    ("host", "kind"),
    [("127.0.0.1", "connect_refused"), ("no.such.name.invalid", "connect_error"), ("a" * 70, "connect_error")],
)
@scenario
async def test_failure_is_told_once_and_names_no_address(host: str, kind: str) -> None:
    caller, port = Caller(), free_port()
    caller.dial(port, host)
    await eventually(lambda: caller.errors, "it fails")
    (error,) = caller.errors
    assert (error.kind, error.status) == (kind, 502)
    assert host not in str(error)
    assert str(port) not in str(error)
    assert caller.made == []


@scenario
async def test_cancelled_dial_tells_nothing() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    with stalled() as silent:
        caller, before = Caller(), sockets()
        dial = caller.dial(silent.port)
        await asyncio.sleep(0.05)
        assert sockets() > before
        dial.cancel()
        await asyncio.sleep(0.05)
        assert (caller.made, caller.errors) == ([], [])
        assert sockets() == before
    assert errors == []


@scenario
async def test_dial_that_cannot_begin_fails_after_it_was_given_out() -> None:
    caller = Caller()
    dial = caller.dial(80, "a" * 70)
    assert caller.errors == []
    dial.cancel()
    await asyncio.sleep(0.05)
    assert (caller.made, caller.errors) == ([], [])


@pytest.mark.parametrize("turns", range(6))
@scenario
async def test_dial_cancelled_at_any_turn_leaves_no_connection(turns: int) -> None:
    instance, caller = Instance(), Caller()
    await instance.start()
    dial = caller.dial(instance.port)
    for _ in range(turns):
        await asyncio.sleep(0)
    made_before = list(caller.made)
    dial.cancel()
    await asyncio.sleep(0.05)
    assert (caller.made, caller.errors) == (made_before, [])
    for connection in made_before:
        connection.abort()
    await eventually(lambda: instance.open == 0, "nothing is left open")
    await instance.stop()


def test_errors_are_named() -> None:
    assert connect_error(ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 80)")).kind == "connect_refused"
    other = connect_error(OSError(113, "Connect call failed ('10.0.0.1', 80)"))
    assert (other.kind, str(other)) == ("connect_error", "no connection to the instance: No route to host")
    assert "resolved" in str(connect_error(socket.gaierror(-2, "Name or service not known")))
    assert "10.0.0.1" not in str(connect_error(OSError("Multiple exceptions: ('10.0.0.1', 80)")))
    assert connect_timeout().status == 504


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_shortage_of_our_own_is_no_bad_gateway(number: int) -> None:
    error = connect_error(OSError(number, "Too many open files"))
    assert (error.kind, error.status) == ("descriptors", 503)
    assert "instance" not in str(error)
