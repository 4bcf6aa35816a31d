"""What an exchange comes to: its lease goes back, and the counters and the access log learn of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.endpoint import Endpoint
from lb.balance.group import Outcome
from lb.observe.accesslog import basic_user
from lb.proxy.http_request import Request

if TYPE_CHECKING:
    from lb.proxy.http_exchange import HttpExchange
    from lb.proxy.http_session import HttpSession


def account(exchange: HttpExchange, status: int, outcome: Outcome = Outcome.NEUTRAL) -> None:
    """Close the books on an exchange that ends with `status`; `outcome` judges the endpoint that was asked last."""
    request, attempts = exchange.request, exchange.attempts
    stats = request.target.stats
    now = exchange.context.time()
    endpoint = attempts.last
    attempts.release(outcome, now)
    stats.active -= 1
    if attempts.count > 1:
        stats.retries += attempts.count - 1
    sent = exchange.sent
    if exchange.reply is not None:
        sent -= exchange.reply.head_octets
    seconds = now - exchange.started
    stats.record(status, seconds, exchange.outgoing.received, sent)
    if exchange.context.access_log is not None:
        upstream_seconds = None if exchange.asked is None else now - exchange.asked
        log_request(
            exchange.session,
            request,
            status,
            sent,
            seconds,
            request_id=exchange.request_id,
            endpoint=endpoint,
            tries=attempts.count,
            upstream_seconds=upstream_seconds,
        )


def log_request(
    session: HttpSession,
    request: Request,
    status: int,
    sent: int,
    seconds: float,
    *,
    request_id: bytes,
    endpoint: Endpoint | None,
    tries: int,
    upstream_seconds: float | None,
) -> None:
    """Write a request that was routed to the access log; see `AccessLog.write`."""
    log = session.context.access_log
    block = request.block
    if log is not None:
        log.write(
            session.remote,
            request.line.raw,
            status,
            sent,
            block.referer,
            block.user_agent,
            seconds=seconds,
            service=request.target.route.service,
            endpoint=endpoint.name if endpoint is not None else "",
            tries=tries,
            upstream_seconds=upstream_seconds,
            host=block.authority,
            user=basic_user(block.authorization) if block.authorization else None,
            request_id=request_id.decode(),
        )
