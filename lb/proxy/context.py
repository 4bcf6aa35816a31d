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


class HttpContext:
    """Settings, balancer, counters and the open sessions of one listener.

    `keepalive_requests` is how many requests a connection may carry: as set, and none while draining.
    """

    __slots__ = (
        "_date",
        "_date_until",
        "access_log",
        "balancer",
        "basin",
        "deadlines",
        "draining",
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
        self.keepalive_timeout = settings.keepalive_timeout
        self.read_timeout = upstream.read_timeout
        self.draining = False
        self.sessions: set[HttpSession | Intake] = set()
        self._date = b""
        self._date_until = 0.0

    def drain(self) -> None:
        """From now on every client's present request is its last."""
        self.draining = True
        self.keepalive_requests = 0

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
