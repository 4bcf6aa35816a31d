"""Request lines and request targets (RFC 9112 section 3), hosts (RFC 3986 section 3.2.2)."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from lb.errors import ProtocolError
from lb.http1.fields import TOKEN
from lb.http1.memo import Memo

# As nginx, and unlike RFC 3986, a target may hold any visible octet but #: browsers send | and { } as they are.
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?@]+)((?:[/?].*)?)")
_HOST = re.compile(
    rb"(?P<host>(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{0,5}))?"
)
# What a path holds that needs normalising: an escape, an empty segment, one that may be a dot segment.
_UNUSUAL = re.compile(rb"%|//|/\.")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")


class RequestLine(NamedTuple):
    """`target` is in origin-form or `*`; `authority` is set when the client used absolute-form.

    `path` is what routes are compared with (see `routing_path`), `raw` the line as received, `forward` the line as
    it goes on, with its CRLF.
    """

    method: bytes
    target: bytes
    minor: int
    authority: bytes
    path: bytes
    raw: bytes
    forward: bytes


seen_request_lines: Memo[RequestLine] = Memo(entries=2048, octets=256 << 10, longest=256)


def parse_request_line(line: bytes) -> RequestLine:
    """Parse a request line without its CRLF; lines are remembered.

    Raises ProtocolError: 400 for a bad line or path, 405 for CONNECT and TRACE (nginx's answer), 505 for another
    version.
    """
    parsed = seen_request_lines.get(line)
    if parsed is None:
        parsed = _parse_request_line(line)
        seen_request_lines.put(line, parsed)
    return parsed


def _parse_request_line(line: bytes) -> RequestLine:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(400, "a malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise ProtocolError(505, "an HTTP version other than 1.0 and 1.1")
    if method in (b"CONNECT", b"TRACE"):
        raise ProtocolError(405, f"method {method.decode()} is not served")
    authority = b""
    if target[0] != 0x2F:
        target, authority = _other_form(method, target)
    path = b"/" if target == b"*" else routing_path(target)
    forward = b"%b %b HTTP/1.1\r\n" % (method, target)
    return RequestLine(method, target, 0 if minor == b"0" else 1, authority, path, line, forward)


def _other_form(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """Return origin-form (or `*`) and the authority, which is legal, of a target in another form."""
    if target == b"*":
        if method != b"OPTIONS":
            raise ProtocolError(400, "the target * goes with OPTIONS only")
        return target, b""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise ProtocolError(400, "a request target that is neither a path nor an absolute URI")
    authority, rest = match.groups()
    parse_host(authority)
    if rest[:1] != b"/":
        # RFC 9112 section 3.2.4: OPTIONS on a server as a whole.
        rest = b"*" if method == b"OPTIONS" and not rest else b"/" + rest
    return rest, authority


_hosts: Memo[bytes] = Memo(entries=1024, octets=64 << 10, longest=256)


def parse_host(value: bytes) -> bytes:
    """Return the host of a Host field or authority: lower case, no port, no trailing dot; hosts are remembered.

    Raises ProtocolError (400) when it is not `uri-host [ ":" port ]`.
    """
    host = _hosts.get(value)
    if host is None:
        host = _parse_host(value)
        _hosts.put(value, host)
    return host


def _parse_host(value: bytes) -> bytes:
    match = _HOST.fullmatch(value)
    if match is None:
        raise ProtocolError(400, "an illegal Host")
    if match["port"] and int(match["port"]) > 65535:
        raise ProtocolError(400, "an illegal port in Host")
    if match["v6"]:
        _check_ipv6(match["v6"])
    host = match["host"].lower()
    if host[-1:] == b".":
        host = host[:-1]
    if not host:
        raise ProtocolError(400, "an illegal Host")
    return host


def _check_ipv6(text: bytes) -> None:
    try:
        IPv6Address(text.decode("ascii"))
    except AddressValueError:
        raise ProtocolError(400, "an illegal IPv6 address in Host") from None


def routing_path(target: bytes) -> bytes:
    """Return the path that routes are compared with, normalised as nginx does for `location`.

    Escapes are decoded, empty segments merged, dot segments resolved; the query is cut off. What is sent on is
    always the target as the client wrote it. Raises ProtocolError (400) for a path that climbs above the root,
    a bad escape or NUL.
    """
    path = target.partition(b"?")[0]
    if _UNUSUAL.search(path) is None:
        return path
    return _normalise(path)


def _normalise(path: bytes) -> bytes:
    if _BAD_ESCAPE.search(path):
        raise ProtocolError(400, "a bad escape in the path")
    segments: list[bytes] = []
    parts = unquote_to_bytes(path).split(b"/")[1:]
    for part in parts:
        if part == b"..":
            if not segments:
                raise ProtocolError(400, "a path that climbs above its root")
            segments.pop()
        elif part not in (b"", b"."):
            segments.append(part)
    normal = b"/" + b"/".join(segments)
    if segments and parts[-1] in (b"", b".", b".."):
        normal += b"/"
    return normal
