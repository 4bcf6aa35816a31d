"""The access log, beside a running nginx where it must print the same."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.observe.accesslog import AccessLog, basic_user, escape, open_log
from lb.settings import AccessLogSettings
from tests.support.nginx import http_block, running_nginx
from tests.support.process import free_port, wait_until

MOMENT = 1795409039.123  # 2026-11-23T04:43:59.123Z

ODD_VALUES = [
    b"curl/7.88.1",
    b'"quoted" \\ and \\x22',
    b"\xc3\xa9t\xc3\xa9 \xff\x80",
    b"tab\there",
    b"del\x7f",
    b"",
    None,
]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_zone(monkeypatch, "UTC")


def in_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def written(path: Path, format_name: Any, *args: Any, **fields: Any) -> str:
    """Write one request at a fixed time and return its line."""
    log = AccessLog(AccessLogSettings(str(path), format_name), clock=lambda: MOMENT)
    log.write(*args, **fields)
    log.close()
    return path.read_text()


@pytest.mark.usefixtures("utc")
def test_combined(tmp_path: Path) -> None:
    line = written(
        tmp_path / "log", "combined", "192.0.2.7", b"GET /a?b HTTP/1.1", 200, 12, b"http://r/", b"curl/8", user=b"joe"
    )
    assert line == ('192.0.2.7 - joe [23/Nov/2026:04:43:59 +0000] "GET /a?b HTTP/1.1" 200 12 "http://r/" "curl/8"\n')


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("<-0330>3:30", "23/Nov/2026:01:13:59 -0330"),
        ("<+0545>-5:45", "23/Nov/2026:10:28:59 +0545"),
    ],
)
def test_the_time_is_local_with_its_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, shown: str
) -> None:
    for _ in in_zone(monkeypatch, zone):
        assert f"[{shown}]" in written(tmp_path / "log", "combined", "::1", b"GET / HTTP/1.1", 200, 0)


def test_the_time_goes_on(tmp_path: Path) -> None:
    moments = iter([MOMENT, MOMENT + 0.5, MOMENT + 1])
    log = AccessLog(AccessLogSettings(str(tmp_path / "log")), clock=lambda: next(moments))
    for _ in range(3):
        log.write("::1", b"GET / HTTP/1.1", 200, 0)
    log.close()
    seconds = re.findall(r":(\d\d) [+-]\d{4}\]", (tmp_path / "log").read_text())
    assert seconds == ["59", "59", "00"]


@pytest.mark.usefixtures("utc")
def test_a_client_that_sent_nothing(tmp_path: Path) -> None:
    line = written(tmp_path / "log", "combined", "192.0.2.7", b"", 408, 0)
    assert line == '192.0.2.7 - - [23/Nov/2026:04:43:59 +0000] "-" 408 0 "-" "-"\n'


def test_json(tmp_path: Path) -> None:
    line = written(
        tmp_path / "log",
        "json",
        "192.0.2.7",
        b"GET /a?b HTTP/1.1",
        200,
        12,
        b"http://r/",
        b'x"\xff\n',
        seconds=0.0123456789,
        service="web",
        endpoint="10.0.0.1:80",
        tries=2,
        upstream_seconds=0.01,
        host=b"web.example.com",
        user=b"joe",
    )
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2026-11-23T04:43:59.123Z",
        "remote_addr": "192.0.2.7",
        "user": "joe",
        "method": "GET",
        "target": "/a?b",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_sent": 12,
        "duration": 0.012346,
        "host": "web.example.com",
        "service": "web",
        "endpoint": "10.0.0.1:80",
        "tries": 2,
        "upstream_seconds": 0.01,
        "referer": "http://r/",
        "user_agent": 'x"\\xff\n',
    }


@pytest.mark.parametrize("request_line", [b"", b"GET", b"GET / HTTP/1.1 x", b"\x16\x03\x01"])
def test_a_broken_request_line_is_all_target_in_json(tmp_path: Path, request_line: bytes) -> None:
    entry = json.loads(written(tmp_path / "log", "json", "192.0.2.7", request_line, 400, 150))
    assert (entry["method"], entry["target"], entry["protocol"]) == ("", request_line.decode(), "")
    assert (entry["referer"], entry["user_agent"], entry["upstream_seconds"]) == (None, None, None)


def test_every_byte_is_printed_or_escaped() -> None:
    shown = {byte: escape(bytes([byte])) for byte in range(256)}
    plain = {byte for byte, text in shown.items() if text == chr(byte)}
    assert plain == set(range(0x20, 0x7F)) - set(b'"\\')
    assert all(shown[byte] == f"\\x{byte:02X}" for byte in set(range(256)) - plain)


@pytest.mark.parametrize(
    ("field", "user"),
    [
        (b"", None),
        (b"Basic " + base64.b64encode(b"joe:secret"), b"joe"),
        (b"bAsIc  " + base64.b64encode(b":secret"), b""),
        (b"Basic " + base64.b64encode(b"no colon"), None),
        (b"Basic !!!!", None),
        (b"Bearer " + base64.b64encode(b"joe:secret"), None),
    ],
)
def test_the_user_of_basic_authorization(field: bytes, user: bytes | None) -> None:
    assert basic_user(field) == user


def test_off_opens_nothing() -> None:
    assert open_log(AccessLogSettings("off")) is None


def test_counts_and_reopen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(AccessLogSettings(str(path)))
    assert log is not None
    log.write("::1", b"GET /1 HTTP/1.1", 200, 0)
    wait_until(lambda: log.written == 1, what="the first line")
    path.rename(tmp_path / "log.1")
    log.reopen()
    wait_until(path.exists, what="the new file")
    log.write("::1", b"GET /2 HTTP/1.1", 200, 0)
    log.close()
    assert "/2" in path.read_text()
    assert (log.written, log.dropped) == (2, 0)


def test_combined_is_what_nginx_prints(tmp_path: Path) -> None:
    """The same requests, of which nginx logs what it saw: quotes, controls, bytes above ASCII, absent and empty."""
    port = free_port()
    theirs = tmp_path / "nginx-access.log"
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello'; }} }}"
    body = http_block(tmp_path, server).replace("access_log off;", f"access_log {theirs} combined;")
    request_line = b'GET /a"b\\c?\xc3\xa9 HTTP/1.1'
    cases = list(zip(ODD_VALUES, reversed(ODD_VALUES), strict=True))
    ours = AccessLog(AccessLogSettings(str(tmp_path / "ours")))
    basic = b"Basic " + base64.b64encode(b'jo"e\xe9:secret')
    with running_nginx(tmp_path / "nginx", body):
        for referer, agent in cases:
            ask(port, request_line, referer, agent, basic)
            ours.write("127.0.0.1", request_line, 200, 5, referer, agent, user=basic_user(basic))
        wait_until(lambda: theirs.read_bytes().count(b"\n") >= len(cases), what="nginx's log")
    ours.close()
    assert [timeless(line) for line in (tmp_path / "ours").read_bytes().splitlines()] == [
        timeless(line) for line in theirs.read_bytes().splitlines()
    ]


def ask(port: int, request_line: bytes, referer: bytes | None, agent: bytes | None, basic: bytes) -> None:
    """Send one request as these bytes and wait for the end of the answer."""
    fields = [(b"Host", b"x"), (b"Connection", b"close"), (b"Authorization", basic)]
    fields += [(name, value) for name, value in ((b"Referer", referer), (b"User-Agent", agent)) if value is not None]
    head = b"\r\n".join([request_line, *(name + b": " + value for name, value in fields), b"", b""])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(head)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer


def timeless(line: bytes) -> bytes:
    """Replace digits of the time, keep its form."""
    time_field = re.search(rb"\[[^]]+\]", line)
    assert time_field is not None
    return line.replace(time_field[0], re.sub(rb"\d", b"0", time_field[0]).replace(b"-", b"+"))
