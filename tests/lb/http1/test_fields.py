"""Single header lines, and what they cost."""

from __future__ import annotations

import time

import pytest

from lb.errors import ProtocolError
from lb.http1.fields import Kind, parse_line, tokens


@pytest.mark.parametrize(
    ("line", "name", "value", "kind"),
    [
        (b"A: b", b"a", b"b", Kind.PLAIN),
        (b"a:", b"a", b"", Kind.PLAIN),
        (b"a: \t ", b"a", b"", Kind.PLAIN),
        (b"A!#$%&'*+-.^_`|~9: b\tc:d ", b"a!#$%&'*+-.^_`|~9", b"b\tc:d", Kind.UNDERSCORED),
        (b"a: \xff", b"a", b"\xff", Kind.PLAIN),
        (b"HOST: b", b"host", b"b", Kind.HOST),
        (b"Content-Length: 1", b"content-length", b"1", Kind.CONTENT_LENGTH),
        (b"Proxy-Connection: close", b"proxy-connection", b"close", Kind.HOP),
    ],
)
def test_a_line_is_a_name_and_a_value_without_the_space_around_it(
    line: bytes, name: bytes, value: bytes, kind: Kind
) -> None:
    assert parse_line(line) == (name, value, kind)
    assert parse_line(line) == (name, value, kind)  # as it is remembered


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_no_control_character_but_tab_is_let_through(octet: int) -> None:
    for line in (b"a: b%cc", b"a: %c", b"a:%cb", b"%ca: b", b"a%c: b"):
        with pytest.raises(ProtocolError) as refused:
            parse_line(line % octet)
        assert refused.value.status == 400


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    for line in (b"secret", b"secret : x", b" secret", b"se cret: x", b"a: secret\0"):
        with pytest.raises(ProtocolError) as refused:
            parse_line(line)
        assert "cret" not in refused.value.reason


@pytest.mark.parametrize("line", [b"a:" + b" " * 32_000 + b"\0", b"a" * 32_000, b"a:" + b"\t " * 16_000 + b"\r"])
def test_a_hostile_line_costs_no_more_than_its_length(line: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(ProtocolError):
        parse_line(line)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, Upgrade", [b"keep-alive", b"upgrade"]),
        (b" ,\ta ,,b\t, ", [b"a", b"b"]),
    ],
)
def test_a_list_has_no_empty_members(value: bytes, members: list[bytes]) -> None:
    assert tokens(value) == members
