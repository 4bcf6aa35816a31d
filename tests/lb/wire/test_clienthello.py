"""Server names in ClientHellos: of real clients, in any number of segments and records, and in bad ones."""

from __future__ import annotations

import contextlib
import ssl
from typing import SupportsIndex, overload

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb.errors import WireError
from lb.wire.clienthello import ClientHello, ClientHelloReader, parse_client_hello
from tests.lb.http1.reading import deliveries
from tests.lb.wire.hellos import (
    ALPN,
    GROUPS,
    PADDING,
    SERVER_NAME,
    body,
    client_context,
    extension,
    hello,
    message,
    messages_of,
    names,
    names_seen_by_openssl,
    read_pieces,
    real_hello,
    records,
    vector,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
EARLY_DATA = b"\x17\3\3\0\5hello"


def refusal(wire: bytes, limit: int = 16384) -> tuple[str, str]:
    """Why octets are refused: the same however they are delivered, and whatever follows them."""
    found = set()
    for pieces in (*deliveries(wire), [wire + EARLY_DATA]):
        error = read_pieces(pieces, limit)
        assert isinstance(error, WireError)
        found.add((error.kind, error.reason))
    assert len(found) == 1
    return found.pop()


# Real clients


@pytest.mark.parametrize(
    "context",
    [
        client_context(),
        client_context(V12, V12),
        client_context(V13, V13),
        client_context(V12, V12, ciphers="ECDHE-RSA-AES128-GCM-SHA256"),
        client_context(ciphers="ALL:@SECLEVEL=0"),
        client_context(alpn=["h2", "http/1.1"]),
        client_context(V12, V12, alpn=["acme-tls/1"]),
        client_context(alpn=[f"protocol-{number}" for number in range(200)]),
    ],
    ids=["default", "TLS 1.2", "TLS 1.3", "one cipher", "all ciphers", "ALPN", "TLS 1.2 and ALPN", "long ALPN"],
)
@pytest.mark.parametrize("name", ["web.example.com", "a.b", "x" * 63 + ".example", None])
def test_the_name_that_a_real_client_sends_is_found(context: ssl.SSLContext, name: str | None) -> None:
    wire = real_hello(name, context)
    expected = b"" if name is None else name.encode()
    for pieces in deliveries(wire):
        found = read_pieces(pieces)
        assert isinstance(found, ClientHello)
        assert found.server_name == expected


def test_protocols_are_told_in_the_order_of_the_client() -> None:
    found = read_pieces([real_hello("a.example", client_context(alpn=["h2", "http/1.1", "x"]))])
    assert found == ClientHello(b"a.example", (b"h2", b"http/1.1", b"x"))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 300])
def test_a_hello_may_be_spread_over_records(size: int) -> None:
    wire = records(messages_of(real_hello("web.example.com")), size)
    assert names_seen_by_openssl(wire) == ["web.example.com"]  # so it is legal
    for cut in range(0, len(wire), 7):
        assert read_pieces([wire[:cut], wire[cut:] + EARLY_DATA]) == ClientHello(b"web.example.com", ())


# Made by hand


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (hello(names(b"web.example.com")), b"web.example.com"),
        (hello(names(b"WEB.Example.COM")), b"web.example.com"),
        (hello(names(b"web.example.com.")), b"web.example.com"),
        (hello(names(b"my_service.example")), b"my_service.example"),
        (hello(names(b"localhost")), b"localhost"),
        (hello(names(b"1.2.3.4.example")), b"1.2.3.4.example"),
        (hello(names(b"xn--bcher-kva.example")), b"xn--bcher-kva.example"),
        (hello(names(b".".join([b"a" * 49] * 5) + b".bcd.")), b".".join([b"a" * 49] * 5) + b".bcd"),
        (hello(extension(GROUPS, b"\0\2\0\x1d"), names(b"a.b"), extension(PADDING, bytes(100))), b"a.b"),
        (hello(extension(GROUPS, b"\0\2\0\x1d")), b""),
        (records(message(body())), b""),
        (records(message(body(b""))), b""),
        (records(message(body(names(b"a.b"), session=b"", version=b"\3\1"))), b"a.b"),
        (records(message(body(names(b"a.b"))), version=b"\3\0"), b"a.b"),
        # A name of a kind that nobody defined yet: skipped by its length.
        (hello(extension(SERVER_NAME, vector(2, b"\7" + vector(2, b"?") + b"\0" + vector(2, b"a.b")))), b"a.b"),
        (hello(extension(SERVER_NAME, vector(2, b"\7" + vector(2, b"?")))), b""),
    ],
)
def test_names_are_made_ready_for_look_up(wire: bytes, expected: bytes) -> None:
    for pieces in (*deliveries(wire), [wire + EARLY_DATA]):
        assert read_pieces(pieces) == ClientHello(expected, ())


def test_more_is_needed_until_the_last_octet() -> None:
    wire = hello(names(b"web.example.com"))
    for cut in range(len(wire)):
        assert read_pieces([wire[:cut]]) is None


class CountingBuffer(bytearray):
    """Counts the octets that are read from it."""

    octets_read = 0

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytearray: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | bytearray:
        found = super().__getitem__(key)
        self.octets_read += len(found) if isinstance(found, bytearray) else 1
        return found


@pytest.mark.parametrize("size", [16384, 10])
def test_a_client_that_sends_single_octets_is_not_read_again_and_again(size: int) -> None:
    wire = records(message(body(names(b"web.example.com"), extension(PADDING, bytes(8000)))), size)
    reader, buffer = ClientHelloReader(limit=16384), CountingBuffer()
    results = []
    for octet in wire:
        buffer.append(octet)
        results.append(reader.read(buffer))
    assert results[-1] == ClientHello(b"web.example.com", ())
    assert set(results[:-1]) == {None}
    assert buffer.octets_read < 2 * len(wire)


# Limits


@pytest.mark.parametrize("size", [16384, 50])
def test_a_hello_has_to_end_within_its_limit(size: int) -> None:
    wire = records(message(body(names(b"web.example.com"), extension(PADDING, bytes(200)))), size)
    for pieces in deliveries(wire):
        assert read_pieces(pieces, limit=len(wire)) == ClientHello(b"web.example.com", ())
    assert refusal(wire, limit=len(wire) - 1) == (
        "hello_too_large",
        f"a ClientHello that does not end within {len(wire) - 1} octets",
    )


def test_a_hello_over_its_limit_is_refused_by_its_length_alone() -> None:
    wire = records(message(body(extension(PADDING, bytes(16000)))))
    assert read_pieces([wire[:8]], limit=16000) is None
    error = read_pieces([wire[:9]], limit=16000)
    assert isinstance(error, WireError)
    assert error.kind == "hello_too_large"


# Bad ones


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "plain text, such as an HTTP request, where TLS was expected"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n", "plain text, such as an HTTP request, where TLS was expected"),
        (b"\x80\x2e\1\0\2\0\x15\0\0\0\x10", "a hello of SSLv2, or no TLS at all"),
        (b"\0\0\0\1", "something other than TLS"),
        (records(b"\2\x28", kind=21), "a TLS record that is no handshake, before the ClientHello was whole"),
        (EARLY_DATA, "a TLS record that is no handshake, before the ClientHello was whole"),
        (records(b"\1\0\0\0", version=b"\2\0"), "a record of an unknown TLS version"),
        (b"\x16\3\1\0\0", "an empty TLS record"),
        (b"\x16\3\1\x40\1", "a TLS record of more than 16384 octets"),
    ],
)
def test_what_is_not_tls_is_told_so(wire: bytes, reason: str) -> None:
    assert refusal(wire) == ("not_tls", reason)


def test_the_first_octet_is_enough_to_refuse_what_is_not_tls() -> None:
    for octet in range(256):
        found = read_pieces([bytes([octet])])
        assert (found is None) == (octet == 22)


HALF = message(body(names(b"a.b")))[:20]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (records(HALF) + EARLY_DATA, "a TLS record that is no handshake, before the ClientHello was whole"),
        (records(HALF) + b"GET / ", "a TLS record that is no handshake, before the ClientHello was whole"),
        (records(HALF) + b"\x16\3\1\0\0", "an empty TLS record"),
        (records(HALF) + b"\x16\3\1\xff\xff", "a TLS record of more than 16384 octets"),
        (records(HALF) + b"\x16\2\0\0\1", "a record of an unknown TLS version"),
        (records(message(b"", kind=0)), "a handshake that does not begin with a ClientHello"),
        (records(message(body(), kind=2)), "a handshake that does not begin with a ClientHello"),
        (records(message(b"")), "a ClientHello whose version is cut short"),
        (records(message(b"\3\3")), "a ClientHello whose random is cut short"),
        (records(message(body(version=b"\2\0"))), "a ClientHello of an unknown TLS version"),
        (records(message(body(session=bytes(33)))), "a session ID of more than 32 octets"),
        (records(message(body(ciphers=b""))), "a list of cipher suites that is empty or cut short"),
        (records(message(body(ciphers=b"\x13\1\x13"))), "a list of cipher suites that is empty or cut short"),
        (records(message(body(compressions=b""))), "no compression method, not even none"),
        (records(message(body() + b"\0")), "a ClientHello whose list of extensions is cut short"),
        (records(message(body() + b"\0\4\0\0\0")), "a ClientHello whose list of extensions is cut short"),
        (
            records(message(body(names(b"a.b")) + b"?")),
            "a ClientHello with octets behind its list of extensions",
        ),
        (hello(b"\0"), "a ClientHello whose list of extensions is cut short"),
        (hello(b"\0\x0a\0"), "a ClientHello whose extension 10 is cut short"),
        (hello(b"\0\x0a\0\2\0"), "a ClientHello whose extension 10 is cut short"),
        (hello(names(b"a.b"), names(b"a.b")), "two extensions of type 0"),
        (hello(extension(GROUPS, b""), extension(GROUPS, b"")), "two extensions of type 10"),
        (hello(extension(SERVER_NAME, b"")), "a ClientHello whose list of server names is cut short"),
        (hello(names()), "an empty list of server names"),
        (
            hello(extension(SERVER_NAME, vector(2, b"\0" + vector(2, b"a.b")) + b"?")),
            "a ClientHello with octets behind its list of server names",
        ),
        (
            hello(extension(SERVER_NAME, vector(2, b"\0\0\4a.b"))),
            "a ClientHello whose server name is cut short",
        ),
        (hello(extension(ALPN, vector(2, b""))), "an empty list of application protocols"),
        (hello(extension(ALPN, vector(2, b"\0"))), "an application protocol without a name"),
        (
            hello(extension(ALPN, vector(2, b"\3h2"))),
            "a ClientHello whose name of an application protocol is cut short",
        ),
    ],
)
def test_a_malformed_hello_is_refused(wire: bytes, reason: str) -> None:
    assert refusal(wire) == ("bad_hello", reason)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a.b..",
        b"-a.example",
        b"a-.example",
        b"*.example",
        b"a b.example",
        b"a.example\0.evil",
        b"a.example\n",
        b"a.example:443",
        b"a/b",
        "bücher.example".encode(),
        b"x" * 64 + b".example",
        b".".join([b"a" * 49] * 5) + b".bcde",
        b"::1",
        b"[::1]",
    ],
)
def test_a_name_that_is_no_host_name_is_refused(name: bytes) -> None:
    assert refusal(hello(names(name))) == ("bad_server_name", "a server name that is not a host name")


@pytest.mark.parametrize("name", [b"127.0.0.1", b"10.0.0.1.", b"999.1.1.1"])
def test_an_address_is_no_server_name(name: bytes) -> None:
    assert refusal(hello(names(name))) == ("bad_server_name", "an IP address instead of a server name")


def test_two_names_are_refused() -> None:
    assert refusal(hello(names(b"a.example", b"b.example"))) == ("bad_server_name", "two server names")
    assert refusal(hello(names(b"a.example", b"a.example"))) == ("bad_server_name", "two server names")


# Whatever comes


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=300))
def test_nothing_but_our_error_is_raised(octets: bytes) -> None:
    read_pieces([octets])
    read_pieces([b"\x16\3\1\1\0\1\0\0\xfc" + octets])
    with contextlib.suppress(WireError):
        parse_client_hello(octets)


HELLO_13 = real_hello("web.example.com", client_context(V13, V13, alpn=["h2"]))
HELLO_12 = real_hello("web.example.com", client_context(V12, V12))
HELLO_SHORT = hello(names(b"web.example.com"), extension(GROUPS, b"\0\2\0\x1d"))

NEAR_THE_NAME = st.integers(-12, 20)  # the lengths before it, and what follows
ANYWHERE = st.integers(0, 600)


# The ssl module hands a name that is not ASCII to nobody, and warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from([HELLO_12, HELLO_13, HELLO_SHORT]),
    st.lists(st.tuples(NEAR_THE_NAME | ANYWHERE, st.integers(0, 255)), min_size=1, max_size=3),
)
@example(HELLO_12, [(0, 0)])
@example(HELLO_12, [(0, ord("W"))])
@example(HELLO_12, [(-1, 3)])
@example(HELLO_12, [(-3, 1)])
def test_a_server_never_finds_another_name(wire: bytes, changes: list[tuple[int, int]]) -> None:
    start = wire.index(b"web.example.com")
    mutated = bytearray(wire)
    for position, octet in changes:
        mutated[(start + position) % len(wire)] = octet
    found = read_pieces([bytes(mutated)])
    seen = names_seen_by_openssl(bytes(mutated))
    if isinstance(found, ClientHello) and seen:
        assert found.server_name == (seen[0] or "").lower().removesuffix(".").encode()
