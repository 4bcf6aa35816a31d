"""What all sessions of one listener share."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, TypeAlias

from lb.deadlines import Deadlines
from lb.http1.head import Limits
from lb.observe.accesslog import AccessLog
from lb.observe.stats import ListenerStats
from lb.proxy.balancer import Balancer
from lb.proxy.bulk import Basin
from lb.proxy.outbox import Outbox
from lb.proxy.request_id import request_ids
from lb.settings import HttpSettings, UpstreamSettings

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession
    from lb.proxy.intake import Intake
    from lb.proxy.tcp_session import TcpSession

TcpSessions: TypeAlias = "set[TcpSession | Intake]"
"""Connections that are relayed, or whose beginning is being read."""


_MOST_PATIENCE = 2.0


def patience(grace: float) -> float:
    """How long (seconds) a client may be silent before a drain of `grace` seconds closes its connection.

    A close crosses the request of a client that asks again just now, and that request is lost. So whoever has asked
    a short while ago is waited for: the next reply tells that it is the last.
    """
    return min(_MOST_PATIENCE, grace / 2)


class HttpContext:
    """Settings, balancer, counters and the open sessions of one listener.

    `keepalive_requests` is how many requests a connection may carry: as set, and none while draining. For so many
    seconds it may be silent: `first_timeout` before its first request, `keepalive_timeout` between two.
    """

    __slots__ = (
        "_date",
        "_date_until",
        "access_log",
        "balancer",
        "basin",
        "deadlines",
        "draining",
        "first_timeout",
        "ids",
        "keepalive_requests",
        "keepalive_timeout",
        "limits",
        "loop",
        "outbox",
        "read_timeout",
        "sessions",
        "settings",
        "stats",
        "time",
        "upstream",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        balancer: Balancer,
        settings: HttpSettings,
        upstream: UpstreamSettings,
        stats: ListenerStats,
        access_log: AccessLog | None,
    ) -> None:
        self.loop = loop
        self.time = loop.time
        self.deadlines = deadlines
        self.balancer = balancer
        self.settings = settings
        self.upstream = upstream
        self.stats = stats
        self.access_log = access_log
        self.limits = Limits(settings.max_header_line, settings.max_header, settings.max_headers)
        self.basin = Basin()
        self.ids = request_ids(settings.request_id, access_log)
        self.outbox = Outbox(loop)
        self.keepalive_requests = settings.keepalive_requests
        self.first_timeout = settings.header_timeout
        self.keepalive_timeout = settings.keepalive_timeout
        self.read_timeout = upstream.read_timeout
        self.draining = False
        self.sessions: set[HttpSession | Intake] = set()
        self._date = b""
        self._date_until = 0.0

    def drain(self, patience: float) -> None:
        """From now on every client's next reply is its last, and who is silent for `patience` seconds is closed."""
        self.draining = True
        self.keepalive_requests = 0
        self.first_timeout = min(self.first_timeout, patience)
        self.keepalive_timeout = min(self.keepalive_timeout, patience)

    def date(self) -> bytes:
        """The Date field's value, at most a second old (RFC 9110 section 6.6.1)."""
        now = self.loop.time()
        if now >= self._date_until:
            seconds = time.time()
            self._date = formatdate(seconds, usegmt=True).encode()
            self._date_until = now + 1 - seconds % 1
        return self._date


class TcpContext:
    """What the sessions of one TCP or TLS listener share; `sessions` outlives it, as they do."""

    __slots__ = ("deadlines", "idle_timeout", "loop", "sessions", "stats", "upstream")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        idle_timeout: float,
        upstream: UpstreamSettings,
        stats: ListenerStats,
        sessions: TcpSessions,
    ) -> None:
        self.loop = loop
        self.deadlines = deadlines
        self.idle_timeout = idle_timeout
        self.upstream = upstream
        self.stats = stats
        self.sessions = sessions
