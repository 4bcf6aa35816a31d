"""The tables of `consul-edge status` and `consul-edge routes`, and the errors of asking."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lb.errors import EdgeError
from lb.observe.tables import duration, fetch, plain, routes_text, status_text, table
from lb.observe.views import CatalogView, endpoint_views, route_json
from lb.settings import Address
from tests.lb.observe.samples import FakeEndpoint, FakeRoute, a_status, a_worker
from tests.support.process import free_port


def test_status() -> None:
    assert status_text(a_status()) == (
        "version  1.2.3\n"
        "process  4711\n"
        "uptime   1d 2h\n"
        "ready    yes\n"
        "consul   http://127.0.0.1:8500 (connected, last answer 1.2 s ago)\n"
        "catalog  dc1: 1 services, instances: 1 passing\n"
        "routes   1 http, 0 tcp, 0 tls\n"
        "traffic  0 requests (0 active, 0 errors, 0 retries), 0 TCP sessions (0 active), 0 TLS sessions (0 active)\n"
        "dns      127.0.0.1:53, [::1]:53 (12 replies)\n"
        "\n"
        "LISTENER          STATE                         ACCEPTED  ACTIVE  REJECTED\n"
        "http 0.0.0.0:80   up                                   0       0  2 404, 1 no_proxy_header\n"
        "tcp 0.0.0.0:9999  down: address already in use         0       0  -\n"
        "\n"
        "PROBLEM  OF                         REASON\n"
        "option   web/web-1@n1 lb_max_fails  not a number: 'x'\n"
    )


def test_status_shows_workers() -> None:
    text = status_text(a_status(workers=[a_worker(0), a_worker(1)]))
    assert (
        "WORKER  PROCESS  UPTIME  MEMORY    DESCRIPTORS\n"
        "     0      100  1d 2h   45.0 MiB           60\n"
        "     1      101  1d 2h   45.0 MiB           61\n"
    ) in text


def test_status_tells_of_upgrades_that_failed() -> None:
    assert "upgrade" not in status_text(a_status())
    assert "upgrade  failed: the new program has ended\n" in status_text(a_status("the new program has ended"))
    assert "upgrade  failed: second (2 have failed)\n" in status_text(a_status("first", "second"))


def test_status_without_dns() -> None:
    assert "dns      off\n" in status_text(a_status(dns=None))


def test_status_tells_of_the_registrator_and_what_keeps_it() -> None:
    side = {"engine": "unix:///d.sock", "agent": "http://127.0.0.1:8500", "connected": True, "error": ""}
    registrator = {"docker": side, "consul": side, "containers": 3, "services": 4, "failure": ""}
    well = "registrator  unix:///d.sock: 3 containers, 4 services"
    assert "registrator" not in status_text(a_status())
    assert f"{well}\n" in status_text(a_status() | {"registrator": registrator})
    lost = registrator | {"consul": side | {"connected": False, "error": "refused"}}
    assert f"{well}; Consul: refused\n" in status_text(a_status() | {"registrator": lost})
    over = registrator | {"failure": "Docker is not reached in 2 attempts"}
    assert f"{well}; given up: Docker is not reached in 2 attempts\n" in status_text(a_status() | {"registrator": over})


def test_status_before_the_first_catalog() -> None:
    text = status_text(
        a_status(
            ready=False,
            reasons=("no catalog yet",),
            catalog=CatalogView("http://127.0.0.1:8500", last_error="connection refused"),
            problems=(),
        )
    )
    assert "ready    no: no catalog yet\n" in text
    assert "(not connected, no answer yet; connection refused)\n" in text
    assert "catalog  none yet\n" in text
    assert "PROBLEM" not in text


def test_a_catalog_from_disk_is_named_so() -> None:
    text = status_text(a_status(catalog=CatalogView(generation=1, fresh=False, age=None)))
    assert "from disk, not yet confirmed" in text


def test_routes() -> None:
    group = [FakeEndpoint(active=12), FakeEndpoint(name="10.0.0.2:80", fails=3, suspended_until=9)]
    routes = [
        route_json(FakeRoute(hosts=("a.test", "*.b"), path="/x"), endpoint_views("web", "http", group, now=1)),
        route_json(FakeRoute("redis-6379", "tcp", "least_conn", (), "", 6379), ()),
        route_json(FakeRoute("mail", "tls", "least_conn", ("c.test", "*.d")), ()),
    ]
    assert routes_text(routes) == (
        "ROUTE                 SERVICE     POLICY       ENDPOINT             WEIGHT  ACTIVE  FAILS  STATE\n"
        "http a.test/x, *.b/x  web         round_robin  10.0.0.1:80               1      12      0  up\n"
        "                                               10.0.0.2:80               1       0      3  suspended\n"
        "tcp :6379             redis-6379  least_conn   no passing instance\n"
        "tls c.test, *.d       mail        least_conn   no passing instance\n"
    )


def test_no_routes() -> None:
    assert routes_text([]) == "no routes\n"


def test_a_table_aligns_and_leaves_no_blanks_at_line_ends() -> None:
    assert table(("A", "N"), [("long", 1), ("x", 10), ("y", "")]) == "A      N\nlong   1\nx     10\ny"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h"), (86400, "1d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_name_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert "\x1b" not in routes_text([route_json(FakeRoute(service="\x1b[2J"), ())])


def test_nothing_listens() -> None:
    admin = Address("127.0.0.1", free_port())
    with pytest.raises(EdgeError) as caught:
        fetch(admin, "/api/status")
    assert str(caught.value) == (f"no consul-edge answers on {admin}: is it running? (--admin names another address)")


@contextmanager
def answering(reply: bytes | None) -> Iterator[Address]:
    """Answer one connection with these bytes; with None, never."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                if reply is None:
                    done.wait(10)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", server.getsockname()[1])
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "answers 404 for /api/status: is that the admin address"),
        (b"HTTP/1.0 200 OK\r\nServer: other\r\n\r\n{}", "is not consul-edge's admin server"),
        (b"HTTP/1.0 200 OK\r\nServer: consul-edge\r\n\r\n<html>", "does not speak as consul-edge's admin server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak as consul-edge's admin server"),
        (b"", "no answer from|does not speak"),
        (None, "no answer from .*timed out"),
    ],
)
def test_something_else_listens(reply: bytes | None, error: str) -> None:
    with answering(reply) as admin, pytest.raises(EdgeError, match=error):
        fetch(admin, "/api/status", timeout=0.2)


def test_an_answer_is_read_though_a_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering(b'HTTP/1.0 200 OK\r\nServer: consul-edge\r\n\r\n{"a": 1}') as admin:
        assert fetch(admin, "/api/status") == {"a": 1}
