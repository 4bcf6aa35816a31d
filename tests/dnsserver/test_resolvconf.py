from __future__ import annotations

import pytest

from dnsserver.resolvconf import parse_resolv_conf, without_own
from lb.settings import Address


def test_name_servers_in_order_without_repeats() -> None:
    text = """
# by hand
search example.org
nameserver 10.0.0.2
 nameserver\t10.0.0.1   # first
nameserver 10.0.0.2
nameserver 2001:0db8::0001
nameserver fe80::1%eth0
nameserver not-an-address
nameserver
options ndots:2
"""
    assert parse_resolv_conf(text) == (
        Address("10.0.0.2", 53),
        Address("10.0.0.1", 53),
        Address("2001:db8::1", 53),
    )


@pytest.mark.parametrize(
    ("listening", "kept"),
    [
        ("127.0.0.1", ["127.0.0.53", "10.0.0.5", "::1", "192.0.2.1"]),
        ("0.0.0.0", ["::1", "192.0.2.1"]),
        ("::", ["127.0.0.1", "127.0.0.53", "10.0.0.5", "192.0.2.1"]),
        ("10.0.0.5", ["127.0.0.1", "127.0.0.53", "::1", "192.0.2.1"]),
    ],
)
def test_ourselves_are_left_out(listening: str, kept: list[str]) -> None:
    hosts = ("127.0.0.1", "127.0.0.53", "10.0.0.5", "::1", "192.0.2.1")
    recursors = [Address(host, 53) for host in hosts]
    assert [r.host for r in without_own(recursors, [Address(listening, 53)], ["10.0.0.5"])] == kept


def test_another_port_is_another_server() -> None:
    recursor = Address("127.0.0.1", 5353)
    assert without_own([recursor], [Address("0.0.0.0", 53)]) == (recursor,)
