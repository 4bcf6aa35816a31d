"""Replies of the proxy's own: to what is no request, to a request that no service gets, in place of an instance's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb.errors import ProtocolError
from lb.http1.head import CRLF, RequestBlock
from lb.http1.target import RequestLine
from lb.observe.accesslog import basic_user
from lb.proxy.pages import page

if TYPE_CHECKING:
    from lb.proxy.http_session import HttpSession


def tell_unrouted(session: HttpSession, line: RequestLine, block: RequestBlock, *, keep_alive: bool) -> None:
    """Answer a request whose host or path no service has."""
    context = session.context
    sent = tell_failed(session, line, 404, "no service is known by this name", keep_alive=keep_alive)
    context.stats.reject(404)
    if context.access_log is not None:
        context.access_log.write(
            session.remote,
            line.raw,
            404,
            sent,
            block.referer,
            block.user_agent,
            host=block.authority,
            user=basic_user(block.authorization),
        )


def tell_refused(session: HttpSession, error: ProtocolError, buffer: bytes) -> None:
    """Answer what is no request; it begins `buffer`."""
    context = session.context
    context.stats.reject(error.status)
    reply = page(error.status, error.reason, date=context.date(), close=True)
    if context.access_log is not None:
        line = buffer[: context.limits.line].partition(CRLF)[0]
        context.access_log.write(session.remote, line, error.status, len(reply.body))
    context.outbox.write(session.transport, reply.head + reply.body)


def tell_failed(session: HttpSession, line: RequestLine, status: int, reason: str, *, keep_alive: bool) -> int:
    """Answer a request with a page of our own, and return the octets of its body."""
    context = session.context
    head = line.method == b"HEAD"
    reply = page(status, reason, date=context.date(), close=not keep_alive, minor=line.minor, head=head)
    context.outbox.write(session.transport, reply.head + reply.body)
    return len(reply.body)
