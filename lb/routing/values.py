"""The values that tags and meta keys may have: text -> value, or OptionError with the reason."""

from __future__ import annotations

import re

from lb.errors import OptionError

POLICIES = ("round_robin", "least_conn", "random", "ip_hash")
"""What `lb_policy` may name; `lb.balance` implements them."""

PROXY_PROTOCOLS = ("v1", "v2")
"""What `lb_proxy_protocol` may name; `lb.wire.proxyprotocol` writes them."""

MAX_COUNT = 2**31 - 1
"""The largest count or number of seconds, as in nginx on any platform."""

MAX_HOST = 253
"""The longest host name, in octets (RFC 1035 section 2.3.4, without the final dot)."""

MAX_PATH = 1024
"""The longest path prefix, in octets."""

_DIGITS = re.compile(r"[0-9]{1,10}")
_DURATION = re.compile(
    r"(?:(?P<w>[0-9]{1,10})w)? ?(?:(?P<d>[0-9]{1,10})d)? ?(?:(?P<h>[0-9]{1,10})h)? ?"
    r"(?:(?P<m>[0-9]{1,10})m)? ?(?:(?P<s>[0-9]{1,10})s?)?"
)
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # the underscore is no host name's, but in daily use
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NOT_IN_PATH = frozenset(" ?#%")
_PORT_SUFFIX = re.compile(r"-([0-9]{1,5})\Z")


def shown(value: str) -> str:
    """Return a value as it is quoted in a reason: escaped, and not too long."""
    return repr(value if len(value) <= 80 else f"{value[:77]}...")


def parse_policy(text: str) -> str:
    """Return the name of a balancing policy."""
    if text not in POLICIES:
        raise OptionError(f"{shown(text)} is no policy; there are {', '.join(POLICIES)}")
    return text


def parse_proxy_protocol(text: str) -> str:
    """Return a version of the PROXY protocol."""
    if text not in PROXY_PROTOCOLS:
        raise OptionError(f"{shown(text)} is no version of the PROXY protocol; there are {', '.join(PROXY_PROTOCOLS)}")
    return text


def parse_count(text: str) -> int:
    """Return a whole number from 0 up."""
    if _DIGITS.fullmatch(text) is None or int(text) > MAX_COUNT:
        raise OptionError(f"{shown(text)} is not a whole number from 0 to {MAX_COUNT}")
    return int(text)


def parse_duration(text: str) -> int:
    """Return a number of whole seconds: `30`, `30s`, `1m`, `1h30m`, `1d`, `2w`, as nginx's `fail_timeout`.

    The clock of that rule has whole seconds, so this refuses `ms`, like nginx. (nginx's months and years are
    not taken.)
    """
    match = _DURATION.fullmatch(text)
    seconds = sum(int(n) * _SECONDS[unit] for unit, n in match.groupdict("0").items()) if match else 0
    if match is None or not text.strip() or seconds > MAX_COUNT:
        raise OptionError(f"{shown(text)} is not a time in whole seconds, such as 30s, 1m or 90")
    return seconds


def parse_port(text: str) -> int:
    """Return a TCP port."""
    if _DIGITS.fullmatch(text) is None or not 0 < int(text) < 65536:
        raise OptionError(f"{shown(text)} is not a port from 1 to 65535")
    return int(text)


def parse_port_suffix(name: str) -> int:
    """Return the port that a service's name ends in: 9999 of `tcpfront-9999`."""
    match = _PORT_SUFFIX.search(name)
    if match is None:
        raise OptionError("the name does not end in -<port>")
    return parse_port(match[1])


def parse_host(text: str, *, wildcard: bool = False) -> str:
    """Return a host name, lower case and without a trailing dot.

    With `wildcard`, `*.` may stand before it, for any subdomain.
    """
    host = text.lower().removesuffix(".")
    name = host.removeprefix("*.") if wildcard else host
    if _HOST.fullmatch(name) is None or len(host) > MAX_HOST:
        raise OptionError(f"{shown(text)} is not a host name")
    return host


def parse_path(text: str) -> str:
    """Return a path prefix in its one form: `/`, or segments each after a slash, with none at the end.

    Requests are compared after their escapes were decoded, so a prefix is written decoded. A space or a
    control character in it is refused, as it is a slip more likely than a wish.
    """
    path = text.rstrip("/") or "/"
    if not text.startswith("/"):
        raise OptionError(f"{shown(text)} is not a path: it does not begin with /")
    if not path.isprintable() or not _NOT_IN_PATH.isdisjoint(path):
        raise OptionError(f"{shown(text)} has a space, a control character, or one of ? # %")
    if len(path.encode()) > MAX_PATH:
        raise OptionError(f"the path is longer than {MAX_PATH} octets")
    if path != "/" and not {"", ".", ".."}.isdisjoint(path.split("/")[1:]):
        raise OptionError(f"{shown(text)} has an empty or a dot segment")
    return path
