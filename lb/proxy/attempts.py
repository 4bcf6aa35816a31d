"""The attempts of one request or session on the endpoints of a group: nginx's tried set, accounting, connect phase."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group, Outcome
from lb.errors import UpstreamError
from lb.observe.log import fields
from lb.proxy.ceiling import Seldom, descriptor_limit
from lb.proxy.targets import HttpTarget, TcpTarget, no_live_upstream
from lb.upstream.connection import UpstreamConnection, User
from lb.upstream.dial import SHORTAGE, Dial
from lb.upstream.idle import IdlePool

_REPORT_EVERY = 1.0  # seconds: a dead service must not fill the log; the counters have every failure

log = logging.getLogger(__name__)
_shortage = Seldom()


class Attempting(User, Protocol):
    """Who makes attempts."""

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection was made."""

    def connect_failed(self, error: UpstreamError) -> None:
        """The present attempt could not connect; `next` may be called."""

    def exhausted(self, error: UpstreamError) -> None:
        """No endpoint is left to ask."""


class Attempts:
    """Picks an endpoint, connects to it, and accounts for how that went.

    At most one attempt is under way: `endpoint` is the lease held for it, None when there is none. `count` is how many
    there were, `tried` holds the endpoints that failed. The user is told to each call rather than kept: the two would
    hold one another in memory until the garbage collector comes.
    """

    __slots__ = (
        "_client",
        "_dial",
        "_failed",
        "_group",
        "_last",
        "_loop",
        "_target",
        "count",
        "endpoint",
        "tried",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, target: HttpTarget | TcpTarget, client: str) -> None:
        self._loop = loop
        self._target = target
        self._group: Group = target.group
        self._client = client
        self._dial: Dial | None = None
        self._failed: Endpoint | None = None
        self._last: UpstreamError | None = None
        self.endpoint: Endpoint | None = None
        self.tried: set[Endpoint] | tuple[()] = ()
        self.count = 0

    @property
    def dialing(self) -> bool:
        """Whether a connection is being made."""
        return self._dial is not None

    @property
    def last(self) -> Endpoint | None:
        """The endpoint of the present attempt, else of the last that failed."""
        return self.endpoint or self._failed

    @property
    def pool(self) -> IdlePool:
        """The idle connections of the present attempt's endpoint."""
        assert self.endpoint is not None
        pool: IdlePool = self.endpoint.pool
        return pool

    def next(self, user: Attempting) -> UpstreamConnection | None:
        """Ask the next endpoint that may be asked. None is, once this process was found to have no descriptor left.

        Returns a connection to it that was kept alive, and may have gone stale. Without one, None is returned and one
        of `connected`, `connect_failed` and `exhausted` is called, the last one at once.
        """
        if self._last is not None and self._last.kind == SHORTAGE:
            user.exhausted(self._last)
            return None
        return self.ask(self._group.acquire(self.tried, self._loop.time(), self._client), user)

    def ask(self, endpoint: Endpoint | None, user: Attempting) -> UpstreamConnection | None:
        """As `next`, for the endpoint that the group has given."""
        if endpoint is None:
            user.exhausted(self._verdict())
            return None
        self.hold(endpoint)
        connection: UpstreamConnection | None = endpoint.pool.take()
        if connection is None:
            self._connect(endpoint, user)
        else:
            connection.user = user
        return connection

    def hold(self, endpoint: Endpoint) -> None:
        """Take over an attempt that is under way: its lease, and what there was to be done for it so far."""
        self.endpoint = endpoint
        self.count += 1

    def redial(self, user: Attempting) -> None:
        """Ask the same endpoint again over a fresh connection: a stale one says nothing about it."""
        assert self.endpoint is not None
        self._connect(self.endpoint, user)

    def fail(self, error: UpstreamError) -> None:
        """The present attempt failed: by the endpoint's fault, but for a shortage of our own."""
        self.cancel_dial()
        self._last = error
        if error.kind == SHORTAGE:
            self.release(Outcome.NEUTRAL, self._loop.time())
            _report_shortage(self._loop.time())
            return
        endpoint = self._failed = self.endpoint
        if endpoint is not None:
            self._report(endpoint, error)
            if not self.tried:
                self.tried = set()
            assert isinstance(self.tried, set)
            self.tried.add(endpoint)
            self.release(Outcome.FAILURE, self._loop.time())

    def release(self, outcome: Outcome, now: float) -> None:
        """End the present attempt and give the lease back, at loop time `now`."""
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            self._group.release(endpoint, outcome, now)

    def succeeded(self) -> None:
        """Credit the endpoint now; the lease goes on until `cancel`."""
        assert self.endpoint is not None
        self._group.credit(self.endpoint)

    def cancel(self) -> None:
        """Nobody waits any more: end the attempt, with no judgement of the endpoint."""
        self.cancel_dial()
        self.release(Outcome.NEUTRAL, self._loop.time())

    def cancel_dial(self) -> None:
        """Stop connecting, if that is what goes on."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None

    def _report(self, endpoint: Endpoint, error: UpstreamError) -> None:
        target, now = self._target, self._loop.time()
        if now >= target.quiet_until:
            target.quiet_until = now + _REPORT_EVERY
            service, name = target.route.service, endpoint.name
            log.warning(
                "an attempt failed", extra=fields(service=service, endpoint=name, kind=error.kind, reason=error)
            )

    def _connect(self, endpoint: Endpoint, user: Attempting) -> None:
        def made(connection: UpstreamConnection) -> None:
            self._dial = None
            user.connected(connection)

        def failed(error: UpstreamError) -> None:
            self._dial = None
            if error.kind == SHORTAGE and endpoint.pool.make_room():
                self._connect(endpoint, user)  # again, with what idle connections have given away
            else:
                user.connect_failed(error)

        self._dial = Dial(self._loop, endpoint.host, endpoint.port, user, made, failed)

    def _verdict(self) -> UpstreamError:
        """What the client is told: the last failure if all were asked, else that none is usable (nginx's 502)."""
        if self._last is not None and len(self.tried) >= sum(e.weight > 0 for e in self._group.endpoints):
            return self._last
        return no_live_upstream(self._target)


def _report_shortage(now: float) -> None:
    if _shortage.due(now):
        log.error("no file descriptor is left to connect to instances", extra=fields(limit=descriptor_limit()))
