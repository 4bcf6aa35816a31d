"""What a person writes on a command line, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from lb import values
from lb.settings import Address

GOOD: list[tuple[Callable[[str], Any], str, Any]] = [
    (values.duration, "30s", 30.0),
    (values.duration, "1m", 60.0),
    (values.duration, "1.5h", 5400.0),
    (values.duration, "500ms", 0.5),
    (values.duration, "2d", 172_800.0),
    (values.duration, "0.25", 0.25),
    (values.duration, "0", 0.0),
    (values.positive_duration, "1ms", 0.001),
    (values.ttl, "0", 0),
    (values.ttl, "1.5m", 90),
    (values.service_ttl, "30", ("", 30)),
    (values.service_ttl, "Web=1m", ("web", 60)),
    (values.service_ttl, "we*=1m", ("we*", 60)),
    (values.service_ttl, "*=1m", ("*", 60)),
    (values.size, "0", 0),
    (values.size, "512", 512),
    (values.size, "8k", 8192),
    (values.size, "1M", 1 << 20),
    (values.size, "2g", 2 << 30),
    (values.positive_size, "1", 1),
    (values.count, "0", 0),
    (values.count, "1000", 1000),
    *((values.boolean, text, True) for text in ("on", "true", "TRUE", "1", "yes", "t")),
    *((values.boolean, text, False) for text in ("off", "false", "False", "0", "no", "f")),
    (values.host, "10.0.0.1", "10.0.0.1"),
    (values.host, "localhost", "127.0.0.1"),
    (values.host, "::1", "::1"),
    (values.host, "[0::1]", "::1"),
    (values.address, "10.0.0.1:80", Address("10.0.0.1", 80)),
    (values.address, ":80", Address("0.0.0.0", 80)),
    (values.address, "[::]:65535", Address("::", 65535)),
    (values.address, "localhost:0", Address("127.0.0.1", 0)),
    (values.resolver, "10.0.0.1", Address("10.0.0.1", 53)),
    (values.resolver, "10.0.0.1:5353", Address("10.0.0.1", 5353)),
    (values.resolver, "::1", Address("::1", 53)),
    (values.resolver, "[::1]", Address("::1", 53)),
    (values.resolver, "[::1]:54", Address("::1", 54)),
    *((values.network, text, ip_network(text)) for text in ("10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::/0")),
    (values.network, "192.0.2.1", ip_network("192.0.2.1/32")),
    (values.network, "2001:db8::1", ip_network("2001:db8::1/128")),
    (values.domain, "Example.COM", "example.com"),
    (values.domain, ".a_b.c-d.", "a_b.c-d"),
    (values.agent_url, "http://127.0.0.1:8500", "http://127.0.0.1:8500"),
    (values.agent_url, "consul.example:8501", "http://consul.example:8501"),
    (values.agent_url, "127.0.0.1", "http://127.0.0.1:8500"),
    (values.agent_url, "https://consul.example", "https://consul.example:443"),
    (values.agent_url, "http://[::1]:8500/", "http://[::1]:8500"),
    (values.engine_url, "unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
    (values.engine_url, "tcp://10.0.0.1:2375/", "tcp://10.0.0.1:2375"),
    (values.engine_url, "tcp://[::1]:2375", "tcp://[::1]:2375"),
    (values.attempts, "-1", 0),
    (values.attempts, "0", 1),
    (values.attempts, "5", 6),
    (values.registered_address, "[2001:db8::1]", "2001:db8::1"),
    (values.machine_name, "consul-1.example", "consul-1.example"),
    (values.comma_list, "", ()),
    (values.comma_list, ",,", ()),
    (values.comma_list, "b, a ,b", ("b", "a", "b")),
    (values.comma_list, r"/(;\,:-_)/,x\,", ("/(;,:-_)/", "x,")),
]

BAD: list[tuple[Callable[[str], Any], str, str]] = [
    *((values.duration, text, "is not a duration") for text in ("", "s", "-1", "1 s", "1w", "1.", ".5", "1e3", "inf")),
    *((values.duration, text, "is not a duration") for text in ("1" * 10, "\u0661s", "1s\n")),
    (values.positive_duration, "0ms", "must be more than 0"),
    *((values.ttl, text, "is not a TTL") for text in ("500ms", "1.5", "100000d")),
    *((values.service_ttl, text, "is neither the name of a service nor PREFIX*") for text in ("=5", "a*b=5", "**=5")),
    (values.service_ttl, "web=1.5", "is not a TTL"),
    *((values.size, text, "is not a size") for text in ("", "k", "-1", "1kb", "1.5m", "1 k", "٣", "1" * 16)),
    (values.positive_size, "0k", "must be more than 0"),
    *((values.count, text, "is not a whole number") for text in ("", "-1", "1.0", "²", "1" * 10)),
    *((values.boolean, text, "is neither on nor off") for text in ("", "2", "maybe")),
    *((values.host, text, "is not an IP address") for text in ("", "example.com", "1.2.3", "1.2.3.256", "[::1", "*")),
    *((values.address, text, "is not ADDR:PORT") for text in ("", "80", "10.0.0.1", "::1", "[::1]", "[::1:80")),
    *((values.address, text, "is not a port") for text in ("10.0.0.1:", "10.0.0.1:x", ":65536", ":-1", ":²")),
    *((values.address, text, "is not an IP address") for text in ("example.com:80", "[x]:80")),
    (values.resolver, "dns.example", "is not an IP address"),
    *((values.network, text, "is not a network") for text in ("", "10.0.0.0/33", "10.0.0/8", "a/8", "10.0.0.0/8/8")),
    (values.network, "10.1.2.3/8", r"is not a network, but within 10\.0\.0\.0/8"),
    (values.network, "2001:db8::1/32", "is not a network, but within 2001:db8::/32"),
    (values.network, "::ffff:192.0.2.0/120", "maps IPv4"),
    *((values.domain, text, "is not a domain name") for text in ("", ".", "a..b", "-a", "a-.b", "a b", "ä.example")),
    *((values.domain, text, "is not a domain name") for text in ("a" * 64, ".".join(["a" * 60] * 5))),
    (values.agent_url, "unix:///run/consul.sock", "only http and https"),
    (values.agent_url, "http://a:http", "has a port that is none"),
    (values.agent_url, "http://a:65536", "has a port that is none"),
    *((values.agent_url, text, "is not the URL of an agent") for text in ("", "http://", "http://a/v1", "http://a?b")),
    *(
        (values.engine_url, text, "is neither unix")
        for text in ("", "/run/docker.sock", "ssh://a", "npipe:////./pipe/d")
    ),
    *((values.engine_url, text, "is not the path of a socket") for text in ("unix://", "unix://docker.sock")),
    *((values.engine_url, text, "is not tcp://host:port") for text in ("tcp://", "tcp://a", "tcp://:1", "tcp://u@a:1")),
    *((values.engine_url, text, "is not a port") for text in ("tcp://a:0", "tcp://a:x", "tcp://a:65536")),
    *((values.attempts, text, "is not a whole number") for text in ("", "-2", "1.5")),
    *((values.registered_address, text, "others can connect to") for text in ("0.0.0.0", "::", "[::]")),
    *((values.machine_name, text, "is not the name of a machine") for text in ("", "a:b", "a b", "\u00e4", "a" * 254)),
]


@pytest.mark.parametrize(("read", "text", "value"), GOOD)
def test_good_values(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text", "reason"), BAD)
def test_bad_values_get_a_reason(read: Callable[[str], Any], text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(text)


@pytest.mark.parametrize("url", ["http://user:secret@host", "http://:secret@host", "user:secret@host:8500"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="holds no user and no password") as refused:
        values.agent_url(url)
    assert "secret" not in str(refused.value)
