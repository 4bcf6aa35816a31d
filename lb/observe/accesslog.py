"""The access log: one line for each request, as nginx's `combined` format or as JSON.

Combined, as nginx prints it::

    127.0.0.1 - - [23/Nov/2026:04:43:59 +0000] "GET / HTTP/1.1" 200 12 "http://referer/" "curl/7.88.1"

JSON lines hold what combined has and what a balancer adds. Times are the wall clock's; durations are seconds.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from typing import TypeVar

from lb.observe.linewriter import LineWriter
from lb.settings import AccessLogSettings

FLAG = "--access-log"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REQUEST_LINE_PARTS = 3

# nginx writes as \xHH (ngx_http_log_escape): controls, DEL and all above it, the quote, the backslash.
_ESCAPES = [chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}" for byte in range(256)]

_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]

_REMEMBERED = 1024  # values
_LONGEST = 512  # characters of a text that is remembered

_quote = json.JSONEncoder().encode

V = TypeVar("V")


class _Shown(dict[V, str]):
    """Values as the log shows them: clients repeat theirs, and escaping one takes ten times as long as finding it.

    It forgets all when it is full, and never keeps a long text, so that strangers cannot fill the memory.
    """

    def __init__(self, show: Callable[[V], str]) -> None:
        super().__init__()
        self._show = show

    def __missing__(self, value: V) -> str:
        text = self._show(value)
        if len(text) <= _LONGEST:  # no text is shorter than its value
            if len(self) >= _REMEMBERED:
                self.clear()
            self[value] = text
        return text


class AccessLog:
    """Formats requests and hands the lines to a writer thread; `write` never blocks.

    `clock` gives seconds since the epoch. Raises SettingsError if the file cannot be opened.
    """

    def __init__(self, settings: AccessLogSettings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._as_json = settings.format == "json"
        self._format_time = _utc if self._as_json else _local
        self._second = -1
        self._time = ""  # of that second
        self._fields = _Shown(_quote_bytes if self._as_json else escape)
        self._lines = _Shown(_line_members if self._as_json else _line_text)
        self._names = _Shown(_quote)
        self._writer = LineWriter(settings.path, flag=FLAG)

    @property
    def shows_ids(self) -> bool:
        """Whether a line tells the id of its request."""
        return self._as_json

    @property
    def written(self) -> int:
        """Lines written."""
        return self._writer.written

    @property
    def dropped(self) -> int:
        """Lines lost."""
        return self._writer.dropped

    def write(
        self,
        remote: str,
        request_line: bytes,
        status: int,
        sent: int,
        referer: bytes | None = None,
        agent: bytes | None = None,
        *,
        seconds: float = 0.0,
        service: str = "",
        endpoint: str = "",
        tries: int = 0,
        upstream_seconds: float | None = None,
        host: bytes = b"",
        user: bytes | None = None,
        request_id: str = "",
    ) -> None:
        """Log one request.

        `request_line` is what the client sent, without its line end; empty if it sent none. `sent` counts
        the bytes of the response's body. `referer`, `agent` and `user` are None where the client named
        none. `service` is empty for a request that reached none, `tries` counts attempts on instances,
        `endpoint` is the last one of them, `upstream_seconds` the time spent with it. `request_id` is empty
        where none was made; combined does not show it.
        """
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second, self._time = second, self._format_time(second)
        show = self._fields
        if self._as_json:
            names = self._names
            identity = _quote(request_id) if request_id else "null"
            upstream = "null" if upstream_seconds is None else f"{upstream_seconds:.6f}"
            # Written out: a third of the time that encoding a dictionary takes.
            line = (
                f'{{"time":"{self._time}{_MILLISECONDS[int(now * 1000) % 1000]}"'
                f',"remote_addr":{names[remote]},"user":{show[user]}'
                f',{self._lines[request_line]},"status":{status},"bytes_sent":{sent}'
                f',"duration":{seconds:.6f},"host":{show[host]}'
                f',"service":{names[service]},"endpoint":{names[endpoint]},"tries":{tries}'
                f',"upstream_seconds":{upstream},"request_id":{identity}'
                f',"referer":{show[referer]},"user_agent":{show[agent]}}}'
            )
        else:
            line = (
                f'{remote} - {show[user]} [{self._time}] "{self._lines[request_line]}"'
                f' {status} {sent} "{show[referer]}" "{show[agent]}"'
            )
        self._writer.add(f"{line}\n".encode())

    def reopen(self) -> None:
        """Open the file anew (SIGUSR1: it was rotated)."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is buffered and end."""
        self._writer.close()


def open_log(settings: AccessLogSettings) -> AccessLog | None:
    """Open the access log, or give None where it is off."""
    return None if settings.path == "off" else AccessLog(settings)


def escape(value: bytes | None) -> str:
    r"""Write a value as nginx's log does: `\xHH` for what is not plain, `-` for what is not there."""
    if value is None:
        return "-"
    text = value.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join([_ESCAPES[byte] for byte in value])


def basic_user(authorization: bytes) -> bytes | None:
    """Give the user name of a Basic `Authorization` field (RFC 7617), nginx's `$remote_user`, or None."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, _ = base64.b64decode(credentials.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user if colon else None


def _local(second: int) -> str:
    """The time as nginx's `$time_local`; months are English in any locale."""
    moment = time.localtime(second)
    sign, minutes = ("-" if moment.tm_gmtoff < 0 else "+"), abs(moment.tm_gmtoff) // 60
    return (
        f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year}"
        f":{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
        f" {sign}{minutes // 60:02d}{minutes % 60:02d}"
    )


def _utc(second: int) -> str:
    """The second as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _line_text(request_line: bytes) -> str:
    return escape(request_line or None)


def _line_members(request_line: bytes) -> str:
    """Method, target and protocol as members of a JSON object; a line without these three parts is all target."""
    text = _quote_bytes(request_line)[1:-1]
    parts = text.split(" ")
    method, target, protocol = parts if len(parts) == _REQUEST_LINE_PARTS else ("", text, "")
    return f'"method":"{method}","target":"{target}","protocol":"{protocol}"'


def _quote_bytes(value: bytes | None) -> str:
    r"""Write UTF-8 as a JSON string; other bytes become `\xhh` in it, so that nothing is lost."""
    return "null" if value is None else _quote(value.decode("utf-8", "backslashreplace"))
