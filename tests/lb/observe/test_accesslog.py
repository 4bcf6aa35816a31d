"""The access log, beside a running nginx where it must print the same."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.observe.accesslog import AccessLog, basic_user, escape, open_log
from lb.settings import AccessLogSettings
from tests.support.edge import chunked, eventually, get, put, reply, scenario, web
from tests.support.nginx import http_block, running_nginx
from tests.support.process import free_port, wait_until
from tests.support.scripted import Connection

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
        request_id="7f0c",
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
        "request_id": "7f0c",
        "referer": "http://r/",
        "user_agent": 'x"\\xff\n',
    }


@pytest.mark.parametrize("request_line", [b"", b"GET", b"GET / HTTP/1.1 x", b"\x16\x03\x01"])
def test_a_broken_request_line_is_all_target_in_json(tmp_path: Path, request_line: bytes) -> None:
    entry = json.loads(written(tmp_path / "log", "json", "192.0.2.7", request_line, 400, 150))
    assert (entry["method"], entry["target"], entry["protocol"]) == ("", request_line.decode(), "")
    assert [entry[name] for name in ("referer", "user_agent", "upstream_seconds", "request_id")] == [None] * 4


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


@pytest.mark.parametrize("format_name", ["combined", "json"])
def test_values_never_seen_before_are_all_written_and_take_up_little_memory(tmp_path: Path, format_name: Any) -> None:
    path, lines, long_ones = tmp_path / "log", 8_000, 30
    log = AccessLog(AccessLogSettings(str(path), format_name))
    tracemalloc.start()
    try:
        for number in range(lines):
            referer, agent = b"http://r/%d" % number, b"agent \xc3\xa9 %d %b" % (number, b"x" * (number % 200))
            log.write(f"::{number:x}", b"GET /%d HTTP/1.1" % number, 200, 0, referer, agent, host=b"h%d" % number)
        for number in range(long_ones):
            log.write("::1", b"GET /%d?%b HTTP/1.1" % (number, b"x" * 100_000), 200, 0)
        wait_until(lambda: log.written == lines + long_ones, what="all is written")
        assert tracemalloc.get_traced_memory()[0] < 3 << 20
    finally:
        tracemalloc.stop()
        log.close()
    written = path.read_text().splitlines()
    assert all("x" * 100_000 in line for line in written[lines:])
    for number, line in enumerate(written[:lines]):
        assert f"GET /{number} HTTP/1.1" in line or f'"target":"/{number}","protocol":"HTTP/1.1"' in line
        assert f'"http://r/{number}"' in line
        assert f' {number} {"x" * (number % 200)}"' in line


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


REQUESTS = {
    "plain": get("/a?b=c", "User-Agent: curl/8", "Referer: http://r/"),
    "absent": get("/"),
    "empty": get("/", "User-Agent:", "Referer: "),
    "odd": b'GET /a"b\\c?\xc3\xa9|{} HTTP/1.1\r\nHost: web.test\r\nUser-Agent: "\xff\t\\\r\n\r\n',
    "user": get("/", "Authorization: Basic " + base64.b64encode(b"joe:secret").decode()),
    "HEAD": get(method="HEAD"),
    "HTTP/1.0": get(version="1.0"),
    "POST": put(b"hello", method="POST"),
    "no content": get("/204"),
    "not modified": get("/304"),
    "chunked": get("/chunked"),
    "until close": get("/close", version="1.0"),
    "not found": get("/404"),
    "no host": get(host=""),
    "nonsense": b"nonsense\r\n\r\n",
    "binary": b"\x16\x03\x01\x02\r\n\r\n",
    "nothing that fits": b"GET / HTTP/1.1 x\r\nHost: web.test\r\n\r\n",
}


async def _answer(connection: Connection) -> None:
    """Answer as the path says."""
    while request := await connection.request():
        match request.split()[1]:
            case b"/204":
                await connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            case b"/304":
                await connection.send(b"HTTP/1.1 304 Not Modified\r\n\r\n")
            case b"/404":
                await connection.send(reply(b"gone", status="404 Not Found"))
            case b"/chunked":
                await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"))
            case b"/close":
                await connection.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
                return
            case _ if request.startswith(b"HEAD "):
                await connection.send(reply(b"hello")[:-5])
            case _:
                await connection.send(reply(b"hello"))


@pytest.mark.parametrize("name", REQUESTS)
@scenario
async def test_the_proxy_logs_a_request_as_nginx_before_the_same_instance(tmp_path: Path, name: str) -> None:
    theirs, ours, port = tmp_path / "theirs", tmp_path / "ours", free_port()
    log = AccessLog(AccessLogSettings(str(ours)))
    async with web(_answer) as (edge_, [instance]):
        assert edge_.plane._http is not None
        edge_.plane._http._contexts[0].access_log = log
        server = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{instance.port}; }} }}"
        body = http_block(tmp_path, server).replace("access_log off;", f"access_log {theirs} combined;")
        with running_nginx(tmp_path / "nginx", body):
            for proxy in (port, edge_.port):
                client = await edge_.client(proxy)
                await client.send(REQUESTS[name])
                await client.until(b"\r\n\r\n")
                client.eof()
                await client.left()
            await eventually(theirs.read_bytes, "nginx's line")
        await eventually(ours.read_bytes, "our line")
    log.close()
    assert _comparable(ours.read_bytes()) == _comparable(theirs.read_bytes())


def _comparable(line: bytes) -> bytes:
    """Leave out the time, and how long an error page of the proxy's own is."""
    return re.sub(rb'" 400 \d+ "', b'" 400 - "', timeless(line))


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
