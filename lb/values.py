"""Reading what a person writes on a command line or in a variable: durations, sizes, addresses.

Each function takes text and raises ValueError with the reason, in a clause; who knows the flag's name adds it.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv6Network
from urllib.parse import urlsplit

from lb.settings import Address, ForwardRule, Network

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)?")
_SIZE = re.compile(r"([0-9]{1,15})([kKmMgG]?)")
_COUNT = re.compile(r"[0-9]{1,9}")
_PORT = re.compile(r"[0-9]{1,5}")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_OCTETS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MACHINE = re.compile(r"[A-Za-z0-9._-]{1,253}")
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def duration(text: str) -> float:
    """`30s`, `1m`, `500ms`, `1.5h`, or plain seconds -> seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration (30s, 1m, 500ms, or seconds)")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def positive_duration(text: str) -> float:
    """A duration that must not be 0."""
    seconds = duration(text)
    if not seconds:
        raise ValueError("must be more than 0")
    return seconds


def ttl(text: str) -> int:
    """A duration of whole seconds, as DNS records have them (RFC 2181 section 8) -> seconds."""
    seconds = duration(text)
    if seconds != int(seconds) or seconds >= 1 << 31:
        raise ValueError(f"{text!r} is not a TTL: whole seconds, fewer than 2^31")
    return int(seconds)


def service_ttl(text: str) -> tuple[str, int]:
    """`TIME`, `NAME=TIME` or `PREFIX*=TIME` -> the name in lower case, "" if there is none, and seconds."""
    name, sign, time = text.rpartition("=")
    if sign and (not name or "*" in name[:-1] or not name.isprintable()):
        raise ValueError(f"{name!r} is neither the name of a service nor PREFIX*")
    return name.lower(), ttl(time)


def size(text: str) -> int:
    """`32k`, `1m`, or plain octets -> octets."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size (8k, 1m, or octets)")
    return int(match[1]) * _OCTETS[match[2].lower()]


def positive_size(text: str) -> int:
    """A size that must not be 0."""
    octets = size(text)
    if not octets:
        raise ValueError("must be more than 0")
    return octets


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def positive_count(text: str) -> int:
    """A whole number, 1 or more."""
    number = count(text)
    if not number:
        raise ValueError("must be more than 0")
    return number


def boolean(text: str) -> bool:
    """`on`/`off`, `true`/`false`, `1`/`0`, `yes`/`no`."""
    lower = text.lower()
    if lower in ("on", "true", "1", "yes", "t"):
        return True
    if lower in ("off", "false", "0", "no", "f"):
        return False
    raise ValueError(f"{text!r} is neither on nor off")


def host(text: str) -> str:
    """An IP literal to listen on; brackets around IPv6 may be given, `localhost` is 127.0.0.1."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def address(text: str, default_port: int | None = None) -> Address:
    """`ADDR:PORT`, `[V6]:PORT`, `:PORT` (all IPv4 addresses); with `default_port` the port may be left out."""
    head, colon, tail = text.rpartition(":")
    if not colon or (":" in head and not head.endswith("]")) or text.endswith("]"):
        if default_port is None:
            raise ValueError(f"{text!r} is not ADDR:PORT")
        return Address(host(text), default_port)
    if not _PORT.fullmatch(tail) or int(tail) > 65535:
        raise ValueError(f"{tail!r} is not a port")
    return Address(host(head) if head else "0.0.0.0", int(tail))


def advertised(text: str) -> Address | None:
    """What others are told to connect to: `on`, `ADDR`, `:PORT`, `ADDR:PORT`, or `off` -> None.

    Of what is not given the host is empty, the port 0.
    """
    if text in ("on", "off"):
        return Address("", 0) if text == "on" else None
    found = address(text, default_port=0)
    if not found.port and text.endswith(":0"):
        raise ValueError("nobody can reach port 0")
    if text.startswith(":"):
        return Address("", found.port)
    if ipaddress.ip_address(found.host).is_unspecified:
        raise ValueError(f"nobody can reach {found.host}")
    return found


def resolver(text: str) -> Address:
    """`ADDR[:PORT]` of a DNS server; the port is 53 unless given."""
    return address(text, default_port=53)


def forward_rule(text: str) -> ForwardRule:
    """`SUFFIX=ADDR[:PORT]`: who is asked for names under a suffix."""
    suffix, sign, recursor = text.partition("=")
    if not sign:
        raise ValueError(f"{text!r} is not SUFFIX=ADDR[:PORT]")
    return ForwardRule(domain(suffix), resolver(recursor))


def network(text: str) -> Network:
    """`ADDR/PREFIX`, or one address: a network of IPv4 or IPv6."""
    try:
        found = ipaddress.ip_network(text, strict=False)
        given = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise ValueError(f"{text!r} is not a network (192.0.2.0/24 or 2001:db8::/32)") from None
    if given != found.network_address:
        raise ValueError(f"{text!r} is not a network, but within {found}")
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped:
        raise ValueError(f"{text!r} maps IPv4: give the network of IPv4 itself")
    return found


def token(text: str) -> str:
    """An ACL token, as it goes into a header; the reason against it does not repeat it."""
    if not text.isprintable():
        raise ValueError("an ACL token is one line of printable text")
    return text


def domain(text: str) -> str:
    """A domain name -> lower case, without dots at its ends."""
    name = text.strip(".").lower()
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{text!r} is not a domain name")
    return name


def agent_url(text: str) -> str:
    """The base URL of a Consul agent; as Consul's own tools do, `host:port` alone is taken, too."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if "@" in parts.netloc:
        raise ValueError("an agent's URL holds no user and no password")  # and neither does this text
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{text!r}: only http and https can be spoken to an agent")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{text!r} has a port that is none") from None
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not the URL of an agent (http://host:port)")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}:{port or (443 if parts.scheme == 'https' else 8500)}"


def engine_url(text: str) -> str:
    """The address of a Docker engine, as DOCKER_HOST has it: `unix:///path` or `tcp://host:port`."""
    scheme, sign, rest = text.partition("://")
    if not sign or scheme not in ("unix", "tcp"):
        raise ValueError(f"{text!r} is neither unix:///path nor tcp://host:port")
    if scheme == "unix":
        if not rest.startswith("/") or not rest.isprintable():
            raise ValueError(f"{text!r} is not the path of a socket (unix:///var/run/docker.sock)")
        return text
    host_, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or not host_ or not set("/@ ").isdisjoint(host_):
        raise ValueError(f"{text!r} is not tcp://host:port")
    if not _PORT.fullmatch(port) or not 0 < int(port) <= 65535:
        raise ValueError(f"{port!r} is not a port")
    return f"tcp://{host_}:{port}"


def attempts(text: str) -> int:
    """How often something is tried again, -1 for ever -> how many attempts that are, 0 for any number."""
    return 0 if text == "-1" else count(text) + 1


def registered_address(text: str) -> str:
    """An IP literal that others can connect to."""
    found = host(text)
    if ipaddress.ip_address(found).is_unspecified:
        raise ValueError(f"{text!r} is no address that others can connect to")
    return found


def machine_name(text: str) -> str:
    """The name of a machine, as it stands in service IDs: letters, digits, `.`, `_` and `-`."""
    if not _MACHINE.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a machine (letters, digits, . _ -)")
    return text


def comma_list(text: str) -> tuple[str, ...]:
    r"""`a, b\,c` -> `a`, `b,c`: parts without spaces at their ends, none of them empty; `\,` is a comma in a part."""
    parts = (part.replace("\\,", ",").strip() for part in _UNESCAPED_COMMA.split(text))
    return tuple(part for part in parts if part)
