"""The id of a request: for the instances, in a field of their choice, and for the access log."""

from __future__ import annotations

import random
import re
import secrets

from lb.http1.head import CRLF
from lb.observe.accesslog import AccessLog

_OWN = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestIds:
    """Makes ids and writes them into heads, under the field `name` (empty: they are for the log alone)."""

    __slots__ = ("_before", "_line", "_random")

    def __init__(self, name: str) -> None:
        self._before = CRLF + name.encode() + b": " if name else b""
        self._line = re.compile(rb"^%b:([^\r\n]*)\r\n" % re.escape(name.encode()), re.IGNORECASE | re.MULTILINE)
        self._random = random.Random(secrets.randbits(128))

    def take_out(self, lines: bytes) -> tuple[bytes, bytes]:
        """Take the field out of a block of field lines; returns the others, and the client's own id or nothing.

        An id of the client is used if it is 1 to 128 letters, digits, `.`, `_` and `-`, and the only one.
        """
        if not self._before:
            return lines, b""
        found = [value.strip(b" \t") for value in self._line.findall(lines)]
        if not found:
            return lines, b""
        own = found[0] if len(found) == 1 and _OWN.fullmatch(found[0]) else b""
        return self._line.sub(b"", lines), own

    def fresh(self) -> bytes:
        """Make an id: 32 hexadecimal digits, as nginx's `$request_id`."""
        return b"%032x" % self._random.getrandbits(128)

    def line(self, identity: bytes) -> bytes:
        """What goes into a head behind the value of its last field."""
        return self._before + identity if self._before else b""


def request_ids(name: str, access_log: AccessLog | None) -> RequestIds | None:
    """Return what makes ids, or None where nobody sees them."""
    return RequestIds(name) if name or (access_log is not None and access_log.shows_ids) else None
