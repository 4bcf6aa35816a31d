"""Single values of tags and meta keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import OptionError
from lb.routing import values
from lb.routing.values import (
    parse_count,
    parse_duration,
    parse_host,
    parse_path,
    parse_policy,
    parse_port,
    parse_port_suffix,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("1m", 60),
        ("1m30s", 90),
        ("1m30", 90),
        ("1h 30m", 5400),
        ("1d", 86400),
        ("2w", 1209600),
        ("0", 0),
    ],
)
def test_a_duration_is_read_as_nginx_reads_fail_timeout(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "500ms", "1.5s", "-1", "1s1m", "30S", "1 minute", "٣s", "9" * 11, "4294967296"]
)
def test_what_is_no_duration_in_whole_seconds_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="not a time in whole seconds"):
        parse_duration(text)


def test_a_count_is_a_whole_number() -> None:
    assert [parse_count(text) for text in ("0", "3", "007", "2147483647")] == [0, 3, 7, 2147483647]


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", " 1", "one", "2147483648", "9" * 5000, "٣"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="not a whole number"):
        parse_count(text)


@pytest.mark.parametrize("text", ["0", "65536", "", "http", "-80"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="not a port"):
        parse_port(text)


def test_the_port_of_a_name_is_what_follows_its_last_dash() -> None:
    assert parse_port_suffix("tcpfront-9999") == 9999
    assert parse_port_suffix("a-1-2") == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tcpfront", "does not end in -<port>"),
        ("tcpfront-99x", "does not end in -<port>"),
        ("tcpfront9999", "does not end in -<port>"),
        ("tcpfront-99999", "not a port"),
        ("tcpfront-0", "not a port"),
    ],
)
def test_a_name_without_a_port_is_refused(name: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        parse_port_suffix(name)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    assert parse_policy("least_conn") == "least_conn"
    with pytest.raises(OptionError, match="'fastest' is no policy; there are round_robin, least_conn"):
        parse_policy("fastest")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("web.example.com", "web.example.com"),
        ("WEB.Example.COM.", "web.example.com"),
        ("my_web.example.com", "my_web.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("localhost", "localhost"),
        ("a" * 63 + ".x", "a" * 63 + ".x"),
    ],
)
def test_a_host_is_brought_into_one_form(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "*",
        "*.example.com",
        "web.*.com",
        "web..com",
        ".example.com",
        "-web.com",
        "web-.com",
        "web.com:80",
        "http://web.com",
        "web com",
        "wéb.com",
        "web.com\n",
        "[::1]",
        "a" * 64,
        "a." * 128,
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="not a host name"):
        parse_host(text)


def test_a_wildcard_stands_for_the_first_labels_only_where_it_is_allowed() -> None:
    assert parse_host("*.Example.com", wildcard=True) == "*.example.com"
    for text in ("*", "*.", "*.*.com", "a.*.com", "*a.com", "**.com"):
        with pytest.raises(OptionError):
            parse_host(text, wildcard=True)


@pytest.mark.parametrize(
    ("text", "path"),
    [("/", "/"), ("//", "/"), ("/api", "/api"), ("/api/", "/api"), ("/a.b/.c", "/a.b/.c"), ("/é", "/é")],
)
def test_a_path_is_brought_into_one_form(text: str, path: str) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with /"),
        ("api", "does not begin with /"),
        ("/a//b", "empty or a dot segment"),
        ("/a/../b", "empty or a dot segment"),
        ("/./b", "empty or a dot segment"),
        ("/a?b", "one of"),
        ("/a#b", "one of"),
        ("/a%20b", "one of"),
        ("/a b", "a space"),
        ("/a\r\nb", "a control character"),
        ("/\ud800", "a control character"),
        ("/" + "a" * 1024, "longer than 1024"),
    ],
)
def test_what_is_no_path_is_refused(text: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        parse_path(text)


@pytest.mark.parametrize(
    "parse", [parse_count, parse_duration, parse_port, parse_port_suffix, parse_policy, parse_host, parse_path]
)
@given(st.text())
def test_any_text_is_taken_or_refused_with_a_short_reason(parse: Callable[[str], object], text: str) -> None:
    reason = ""
    try:
        parse(text)
    except OptionError as error:
        reason = str(error)
    assert reason.isprintable()
    assert len(reason) < 500


def test_a_long_value_is_cut_in_the_reason() -> None:
    assert len(values.shown("x" * 10_000)) < 100
