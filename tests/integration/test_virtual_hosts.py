"""Virtual hosts and paths of a whole node on a real Consul: by name, by wildcard, by prefix, and as they change."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until

SUFFIX = "example.org"
"""A domain that the node is not told of: names in it come from `lb_host` alone."""


class _Teller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server: Any = self.server
        body = f"{server.text} {self.requestline.split()[1]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def tellers(*names: str) -> Iterator[dict[str, int]]:
    """Run origins that answer their own name and the request target as it came; gives their ports."""
    with contextlib.ExitStack() as running:
        ports = {}
        for name in names:
            server: Any = running.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Teller))
            server.text = name
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            ports[name] = server.server_port
        yield ports


def asked(connection: http.client.HTTPConnection, host: str, target: str = "/") -> str:
    """Ask for a target of a host; return the status, unless it is 200, or who answered and to which target."""
    connection.request("GET", target, headers={"Host": host})
    response = connection.getresponse()
    body = response.read().decode()
    return body if response.status == 200 else str(response.status)


def ask(node: EdgeNode, host: str, target: str = "/") -> str:
    """The same, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
    with contextlib.closing(connection):
        return asked(connection, host, target)


def wait_for(node: EdgeNode, host: str, answer: str, target: str = "/") -> None:
    """Wait until this is answered."""
    wait_until(lambda: ask(node, host, target) == answer, what=f"{host}{target} is answered with {answer!r}")


def problems(node: EdgeNode, service: str) -> list[tuple[str, str]]:
    """What is shown to be wrong with a service: kind and reason."""
    shown = next(entry for entry in node.api("/api/services") if entry["service"] == service)
    return [(problem["kind"], problem["reason"]) for problem in shown["problems"]]


def wait_problems(node: EdgeNode, service: str, *expected: tuple[str, str]) -> None:
    """Wait until this, and no more, is shown to be wrong with a service."""

    def probe() -> bool:
        assert problems(node, service) == list(expected)
        return True

    wait_until(probe, what=f"the problems of {service} are shown")


def test_a_host_is_known_in_any_case_with_a_dot_behind_it_and_with_a_port(consul: Consul, tmp_path: Path) -> None:
    with tellers("web") as ports, running_node(tmp_path, consul.url) as node:
        consul.register("web", ports["web"], tags=["http"], meta={"lb_host": "Shop.Example.ORG., www.example.org"})
        wait_for(node, "shop.example.org", "web /")
        for host in (
            "SHOP.example.org",
            "shop.example.org.",
            "shop.example.org:8080",
            "Shop.Example.Org.:80",
            "www.example.org",
            "web.test",
            "WEB.TEST.:1",
        ):
            assert ask(node, host) == "web /", host
        for host in ("example.org", "xshop.example.org", "a.shop.example.org", "shop.example.org.test", "web", "test"):
            assert ask(node, host) == "404", host
        assert ask(node, "shop..example.org") == "404"
        assert ask(node, "shop.example.org:http") == "400"
        # The target's own host beats the field (RFC 9112 section 3.2.2); the instance gets the target as a path.
        assert ask(node, "unknown.org", "http://Shop.Example.Org:8080/a?b") == "web /a?b"
        assert ask(node, "shop.example.org", "http://unknown.org/") == "404"


def test_of_several_wildcards_the_deepest_wins_and_none_is_the_domain_itself(consul: Consul, tmp_path: Path) -> None:
    with tellers("own", "near", "far") as ports, running_node(tmp_path, consul.url) as node:
        for name, host in (("far", "*.example.org"), ("near", "*.b.example.org"), ("own", "a.b.example.org")):
            consul.register(name, ports[name], tags=["http"], meta={"lb_host": host})
        for host, name in (
            ("a.b.example.org", "own"),
            ("A.B.Example.Org.:80", "own"),
            ("c.b.example.org", "near"),
            ("c.a.b.example.org", "near"),
            ("b.example.org", "far"),
            ("c.example.org", "far"),
            ("d.c.example.org", "far"),
            ("C.EXAMPLE.ORG.", "far"),
        ):
            wait_for(node, host, f"{name} /")
        for host in ("example.org", "example.org.", "org", "b.example.com", "cexample.org"):
            assert ask(node, host) == "404", host


PATHS = {
    "/": "root",
    "/other": "root",
    "/apiary": "root",
    "/api-v2": "root",
    "/API": "root",
    "/?/api": "root",
    "/api": "api",
    "/api/": "api",
    "/api?x=/api/v2": "api",
    "/api/v20": "api",
    "/api/v2/..": "api",
    "/%61pi/v1": "api",
    "/api/v2": "v2",
    "/api/v2/x/y?z": "v2",
    "//api///v2//x": "v2",
    "/a/../api/./v2": "v2",
    "/a/%2e%2E/api%2Fv2/x": "v2",
    "/api/v2/%20": "v2",
    "/caf%C3%A9/1": "cafe",
    "/caf%c3%a9": "cafe",
    "/cafe": "root",
}


def test_the_longest_path_on_a_segments_border_wins_and_the_target_goes_on_as_written(
    consul: Consul, tmp_path: Path
) -> None:
    prefixes = {"root": None, "api": "/api", "v2": "/api/v2/", "cafe": "/café"}
    with tellers(*prefixes) as ports, running_node(tmp_path, consul.url) as node:
        for name, path in prefixes.items():
            meta = {"lb_host": SUFFIX} | ({"lb_path": path} if path else {})
            consul.register(name, ports[name], tags=["http"], meta=meta)
        for target in ("/", "/api", "/api/v2", "/caf%C3%A9/1"):
            wait_for(node, SUFFIX, f"{PATHS[target]} {target}", target)
        for target, name in PATHS.items():
            assert ask(node, SUFFIX, target) == f"{name} {target}"
        for target in ("/..", "/api/../..", "/%2e%2e/api", "/api%", "/api%00", "/%zz"):
            assert ask(node, SUFFIX, target) == "400", target
        # The prefix holds for the service's own name, too.
        assert ask(node, "api.test") == "404"
        assert ask(node, "api.test", "/api/1") == "api /api/1"
        # What the longest prefix had goes to the next longest when its service leaves.
        consul.deregister(f"v2-{ports['v2']}")
        wait_for(node, SUFFIX, "api /api/v2", "/api/v2")


def test_services_that_share_a_host_share_its_connections(consul: Consul, tmp_path: Path) -> None:
    with tellers("a", "b") as ports, running_node(tmp_path, consul.url) as node:
        for name in ports:
            meta = {"lb_host": f"*.{SUFFIX}", "lb_path": f"/{name}"}
            consul.register(name, ports[name], tags=["http"], meta=meta)
            wait_for(node, f"x.{SUFFIX}", f"{name} /{name}", f"/{name}")
        connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
        with contextlib.closing(connection):
            for number in range(10):
                for name in ports:
                    assert asked(connection, f"{number}.{SUFFIX}", f"/{name}/{number}") == f"{name} /{name}/{number}"
            assert asked(connection, f"x.{SUFFIX}", "/c") == "404"


def test_of_instances_that_disagree_the_newest_wins_and_it_is_shown(consul: Consul, tmp_path: Path) -> None:
    with tellers("old", "new") as ports, running_node(tmp_path, consul.url) as node:
        consul.register("web", ports["old"], tags=["http"], meta={"lb_host": "old.org", "lb_path": "/a"})
        wait_for(node, "old.org", "old /a", "/a")
        wait_problems(node, "web")
        consul.register("web", ports["new"], tags=["http"], meta={"lb_host": "new.org", "lb_path": "/a"})
        wait_until(lambda: {ask(node, "new.org", "/a") for _ in range(4)} == {"old /a", "new /a"}, what="both serve it")
        assert ask(node, "old.org", "/a") == "404"
        newest = f"the newest registration, web-{ports['new']}@{consul.node}, has 'new.org'"
        wait_problems(node, "web", ("option", f"'old.org' is not used: {newest}"))
        assert node.metrics()['lb_problems{kind="option"}'] == 1
        consul.deregister(f"web-{ports['new']}")
        wait_for(node, "old.org", "old /a", "/a")
        assert ask(node, "new.org", "/a") == "404"
        wait_problems(node, "web")


def test_a_host_claimed_twice_stays_with_the_first_and_moves_when_that_lets_go(consul: Consul, tmp_path: Path) -> None:
    with tellers("a", "b") as ports, running_node(tmp_path, consul.url) as node:
        consul.register("b", ports["b"], tags=["http"], meta={"lb_host": SUFFIX})
        wait_for(node, SUFFIX, "b /")
        consul.register("a", ports["a"], tags=["http"], meta={"lb_host": SUFFIX.upper()})
        wait_for(node, SUFFIX, "a /")
        wait_problems(node, "a")
        wait_problems(node, "b", ("route", f"{SUFFIX}/ is taken by service a"))
        assert ask(node, "b.test") == "b /"
        consul.register("a", ports["a"], tags=["http"])
        wait_for(node, SUFFIX, "b /")
        wait_problems(node, "b")
        assert ask(node, "a.test") == "a /"


def test_a_change_of_meta_moves_traffic_under_a_connection_that_is_kept(consul: Consul, tmp_path: Path) -> None:
    def register(**meta: str) -> None:
        consul.register("web", ports["web"], tags=["http"], meta=meta)

    with tellers("web") as ports, running_node(tmp_path, consul.url) as node:
        connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
        with contextlib.closing(connection):
            register(lb_host="one.org")
            wait_for(node, "one.org", "web /")
            assert asked(connection, "one.org") == "web /"
            register(lb_host="two.org, *.two.org")
            wait_for(node, "two.org", "web /")
            assert [asked(connection, host) for host in ("one.org", "a.two.org", "web.test")] == ["404", *["web /"] * 2]
            register(lb_host="two.org", lb_path="/new")
            wait_for(node, "two.org", "404")
            assert asked(connection, "two.org", "/new") == "web /new"
            assert [asked(connection, host) for host in ("two.org", "a.two.org", "web.test")] == ["404"] * 3
            register()
            wait_for(node, "web.test", "web /")
            assert [asked(connection, host) for host in ("web.test", "two.org")] == ["web /", "404"]
            assert connection.sock is not None


def test_a_name_that_cannot_be_is_shown_and_takes_nothing_else_with_it(consul: Consul, tmp_path: Path) -> None:
    with tellers("web") as ports, running_node(tmp_path, consul.url) as node:
        meta = {"lb_host": "good.org, bad host, *, a.*.org", "lb_path": "no-slash"}
        consul.register("web", ports["web"], tags=["http"], meta=meta)
        wait_for(node, "good.org", "web /")
        reasons = [reason for _, reason in problems(node, "web")]
        for word in ("'bad host'", "'*'", "'a.*.org'", "'no-slash'"):
            assert any(reason.startswith(word) for reason in reasons), word
        assert ask(node, "web.test", "/any") == "web /any"
