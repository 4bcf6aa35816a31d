"""What an exchange comes to: its lease goes back, and the counters and the access log learn of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.balance.group import Outcome
from lb.observe.accesslog import basic_user

if TYPE_CHECKING:
    from lb.proxy.http_exchange import HttpExchange


def account(exchange: HttpExchange, status: int, outcome: Outcome = Outcome.NEUTRAL) -> None:
    """Close the books on an exchange that ends with `status`; `outcome` judges the endpoint that was asked last."""
    context, attempts, stats = exchange.context, exchange.attempts, exchange.target.stats
    now = context.loop.time()
    log = context.access_log
    endpoint = attempts.last if log is not None else None
    attempts.release(outcome, now)
    stats.active -= 1
    if attempts.count > 1:
        stats.retries += attempts.count - 1
    sent = exchange.sent
    if exchange.reply is not None:
        sent -= exchange.reply.head_octets
    seconds = now - exchange.started
    stats.record(status, seconds, exchange.received, sent)
    if log is not None:
        block = exchange.block
        log.write(
            exchange.session.remote,
            exchange.line.raw,
            status,
            sent,
            block.referer or None,
            block.user_agent or None,
            seconds=seconds,
            service=exchange.target.route.service,
            endpoint=endpoint.name if endpoint is not None else "",
            tries=attempts.count,
            upstream_seconds=None if exchange.asked is None else now - exchange.asked,
            host=block.authority,
            user=basic_user(block.authorization),
        )
