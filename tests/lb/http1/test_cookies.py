"""A cookie is read apart from the block it stands in: no head may mean anything else by that."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lb.errors import ProtocolError
from lb.http1.head import CRLF, RequestBlock, parse_request_block
from lb.http1.request import read_request
from lb.http1.target import parse_request_line
from tests.lb.http1.reading import LIMITS

LINE = b"GET / HTTP/1.1"
LINES = st.sampled_from(
    [
        *(
            b"Cookie: a=b",
            b"Cookie: a=b; c=d",
            b"Cookie: ",
            b"Cookie:a=b",
            b"cookie: e=f",
            b"Cookie : a",
            b" Cookie: a",
        ),
        *(b"Cookie: a\nB: c", b"Cookie: a\rB: c", b"Cookie: \0", b"Cookie: \xff", b"Cookie: " + b"x" * 100, b"Cookie"),
        *(b"A: b", b"A: Cookie: b", b" a: b", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: b"),
        *(b"Connection: cookie", b"Connection: close, Cookie", b"Connection: close", b"Expect: 100-continue"),
    ]
)


def facts(block: RequestBlock) -> tuple[object, ...]:
    """What a block says, but for the lines that go on."""
    return (block.host, block.content_length, block.chunked, block.persistent, block.expect_continue, block.has_body)


def read_apart(fields: bytes) -> object:
    """Read with the cookie apart; a number is the status of a refusal."""
    try:
        _, block, cookie, _ = read_request(LINE, fields, LIMITS)
    except ProtocolError as error:
        return error.status
    lines = block.forward.split(CRLF)[:-1]
    return facts(block), sorted([*lines, cookie.removeprefix(CRLF)] if cookie else lines)


def read_whole(fields: bytes) -> object:
    """Read with all lines alike."""
    try:
        parse_request_line(LINE)
        block = parse_request_block(fields, LIMITS)
    except ProtocolError as error:
        return error.status
    return facts(block), sorted(block.forward.split(CRLF)[:-1])


@given(before=st.lists(LINES, max_size=5), after=st.lists(LINES, max_size=8))
@settings(max_examples=1500, derandomize=True, deadline=None)
def test_a_head_with_cookies_is_read_as_if_they_were_any_field(before: list[bytes], after: list[bytes]) -> None:
    fields = CRLF.join([*before, b"Host: a", *after])
    apart, whole = read_apart(fields), read_whole(fields)
    if isinstance(apart, int) and isinstance(whole, int):
        return  # of several faults each may see another first
    assert apart == whole
