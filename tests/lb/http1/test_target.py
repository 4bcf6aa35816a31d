"""Hosts, and the path that routes are compared with."""

from __future__ import annotations

import contextlib
import time

import pytest

from lb.errors import ProtocolError
from lb.http1.target import parse_host, routing_path

HOSTS = [
    (b"a", b"a"),
    (b"A.B-c_D", b"a.b-c_d"),
    (b"a.b.", b"a.b"),
    (b"a:", b"a"),
    (b"a:0", b"a"),
    (b"a.b.:65535", b"a.b"),
    (b"127.0.0.1:80", b"127.0.0.1"),
    (b"[::1]", b"[::1]"),
    (b"[FE80::1]:80", b"[fe80::1]"),
    (b"[::ffff:1.2.3.4]", b"[::ffff:1.2.3.4]"),
    (b"a%2Fb", b"a%2fb"),
    (b"a!$&'()*+,;=~", b"a!$&'()*+,;=~"),
]

NO_HOSTS = [
    *(b"", b".", b":80", b".:80", b"a:b", b"a:1:2", b"a:65536", b"a:000080", b"a:-1", b"a: 80"),
    *(b"a b", b"a/b", b"a@b", b"a#b", b"a?b", b"a\\b", b'a"', b"a<b>", b"a|b", b"a\tb", b"a\xc3\xa4"),
    *(b"a%", b"a%2", b"a%zz", b"http://a"),
    *(b"::1", b"[::1", b"::1]", b"[]", b"[a]", b"[1.2.3.4]", b"[::1]a", b"[::g]", b"[:::]", b"[1::2::3]"),
    *(b"[fe80::1%eth0]", b"[fe80::1%25eth0]", b"[1:2:3:4:5:6:7:8:9]", b"[v1.a]"),
]


@pytest.mark.parametrize(("value", "host"), HOSTS)
def test_hosts_are_looked_up_without_port_and_in_lower_case(value: bytes, host: bytes) -> None:
    assert parse_host(value) == host


@pytest.mark.parametrize("value", NO_HOSTS)
def test_what_is_no_host_is_refused(value: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"Host$") as refused:
        parse_host(value)
    assert refused.value.status == 400


PATHS = [
    (b"/", b"/"),
    (b"/a/b", b"/a/b"),
    (b"/a/b/", b"/a/b/"),
    (b"/a?b=/../c", b"/a"),
    (b"/?", b"/"),
    (b"//", b"/"),
    (b"//a///b//", b"/a/b/"),
    (b"/./a/./b", b"/a/b"),
    (b"/a/.", b"/a/"),
    (b"/a/..", b"/"),
    (b"/a/b/..", b"/a/"),
    (b"/a/../b", b"/b"),
    (b"/a/b/../../c", b"/c"),
    (b"/a//../b", b"/b"),
    (b"/.a/..b/...", b"/.a/..b/..."),
    (b"/a..", b"/a.."),
    (b"/%61", b"/a"),
    (b"/%2e/a", b"/a"),
    (b"/a/%2E%2e/b", b"/b"),
    (b"/a/.%2e/b", b"/b"),
    (b"/a%2Fb", b"/a/b"),
    (b"/a/%2e%2e%2fb", b"/b"),
    (b"/a%2f%2e%2e%2fb", b"/b"),
    (b"/%252e%252e/a", b"/%2e%2e/a"),
    (b"/a%3Fb", b"/a?b"),
    (b"/a%23b", b"/a#b"),
    (b"/a%0Ab", b"/a\nb"),
    (b"/%c3%a4", b"/\xc3\xa4"),
    (b"/\xc3\xa4//", b"/\xc3\xa4/"),
    (b"/a\\..\\b", b"/a\\..\\b"),
    (b"/a;b/..;/c", b"/a;b/..;/c"),
]


@pytest.mark.parametrize(("target", "path"), PATHS)
def test_paths_are_normalised_as_nginx_does_for_locations(target: bytes, path: bytes) -> None:
    assert routing_path(target) == path


CLIMBING = [
    b"/..",
    b"/../a",
    b"/a/../..",
    b"/a/../../b",
    b"/%2e%2e/a",
    b"/..%2fa",
    b"/./../a",
    b"//../a",
    b"/a//../../b",
]


@pytest.mark.parametrize("target", CLIMBING)
def test_a_path_above_the_root_is_refused(target: bytes) -> None:
    with pytest.raises(ProtocolError, match="climbs above its root") as refused:
        routing_path(target)
    assert refused.value.status == 400


@pytest.mark.parametrize("target", [b"/%", b"/%2", b"/%zz", b"/%+1", b"/a%0", b"/%00", b"/a%00b", b"/%2%65"])
def test_a_bad_escape_is_refused(target: bytes) -> None:
    with pytest.raises(ProtocolError, match="a bad escape in the path") as refused:
        routing_path(target)
    assert refused.value.status == 400


def test_a_bad_escape_behind_the_path_is_none_of_ours() -> None:
    assert routing_path(b"/a?b=%zz%00") == b"/a"


@pytest.mark.parametrize("part", [b"/..", b"/a/..", b"%2e", b"//", b"/.", b"%2f%2e%2e"])
def test_a_hostile_path_costs_no_more_than_its_length(part: bytes) -> None:
    target = b"/" + part * (32_000 // len(part))
    start = time.perf_counter()
    with contextlib.suppress(ProtocolError):
        routing_path(target)
    assert time.perf_counter() - start < 0.5
