"""Header fields: one line at a time, strictly (RFC 9110 section 5, RFC 9112 section 5).

A line that was valid once is valid always, so parsed lines are remembered: of a block that was never seen
(a new cookie, say) most lines were.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from lb.errors import ProtocolError
from lb.http1.memo import Memo

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
"""Any number of the octets that a field value (RFC 9110 section 5.5) and a reason phrase may have."""
# White space around the value is stripped later: matching it here would take quadratic time on a line full of it.
_LINE = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")")
_TOKEN = re.compile(TOKEN)


class Kind(IntEnum):
    """What a field means to the proxy. The order counts: of the first ones all pass, of the last ones none."""

    PLAIN = 0
    # Looked at, and passed on.
    REFERER = 1
    USER_AGENT = 2
    AUTHORIZATION = 3
    DATE = 4
    # Of meaning in a request, where the proxy writes its own or leaves it out; passed on in a response.
    HOST = 5
    EXPECT = 6
    FORWARDED_FOR = 7
    FORWARDED = 8  # X-Forwarded-Proto and X-Forwarded-Host
    # An application behind CGI cannot tell it from a name with hyphens (nginx: underscores_in_headers off).
    UNDERSCORED = 9
    # About one connection or the framing on it (RFC 9110 section 7.6.1): they end here.
    HOP = 10
    CONNECTION = 11
    UPGRADE = 12
    CONTENT_LENGTH = 13
    TRANSFER_ENCODING = 14

    __hash__ = int.__hash__  # many times faster than that of Enum, which is written in Python


_KINDS: dict[bytes, Kind] = {
    b"referer": Kind.REFERER,
    b"user-agent": Kind.USER_AGENT,
    b"authorization": Kind.AUTHORIZATION,
    b"date": Kind.DATE,
    b"host": Kind.HOST,
    b"expect": Kind.EXPECT,
    b"x-forwarded-for": Kind.FORWARDED_FOR,
    b"x-forwarded-proto": Kind.FORWARDED,
    b"x-forwarded-host": Kind.FORWARDED,
    b"keep-alive": Kind.HOP,
    b"proxy-connection": Kind.HOP,
    b"te": Kind.HOP,
    b"connection": Kind.CONNECTION,
    b"upgrade": Kind.UPGRADE,
    b"content-length": Kind.CONTENT_LENGTH,
    b"transfer-encoding": Kind.TRANSFER_ENCODING,
}


class Field(NamedTuple):
    """One field line: lower-case name, value without surrounding white space, and its kind."""

    name: bytes
    value: bytes
    kind: Kind


seen_lines: Memo[Field] = Memo(entries=2048, octets=256 << 10, longest=512)


def parse_line(line: bytes) -> Field:
    """Parse one field line, without its CRLF.

    Raises ProtocolError (400) for anything outside RFC 9112: no colon, white space before it, obs-fold, bare CR, LF
    or NUL and other control characters.
    """
    field = seen_lines.get(line)
    if field is None:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, _why(line))
        name = match[1].lower()
        kind = _KINDS.get(name) or (Kind.UNDERSCORED if b"_" in name else Kind.PLAIN)
        field = Field(name, match[2].strip(b" \t"), kind)
        seen_lines.put(line, field)
    return field


def _why(line: bytes) -> str:
    """Say what is wrong with a line, without repeating what a stranger sent."""
    if line[:1] in (b" ", b"\t"):
        return "obsolete line folding in the header"
    name, colon, value = line.partition(b":")
    if not colon:
        return "a header line without a colon"
    if not _TOKEN.fullmatch(name):
        spaced = _TOKEN.fullmatch(name.rstrip(b" \t"))
        return "white space before the colon of a header line" if spaced else "an illegal header field name"
    for byte, text in ((b"\r", "bare CR"), (b"\n", "bare LF"), (b"\0", "NUL")):
        if byte in value:
            return f"{text} in a header field value"
    return "a control character in a header field value"


def tokens(value: bytes) -> list[bytes]:
    """Split a comma list (RFC 9110 section 5.6.1) into lower-case members; empty members are left out."""
    return [token for member in value.lower().split(b",") if (token := member.strip(b" \t"))]
