"""What HTTP allows though it looks odd: an instance gets it to the octet as it is told here."""

from __future__ import annotations

import pytest

from tests.support.edge import chunked, scenario, web
from tests.support.edge import get as plain_get

HOST = b"Host: web.test"
NEXT = plain_get("/next")


def head(first: bytes, *lines: bytes) -> bytes:
    """A head of these lines."""
    return b"\r\n".join((first, *lines, b"", b""))


def get(*lines: bytes) -> bytes:
    """A GET with these field lines behind its Host."""
    return head(b"GET / HTTP/1.1", HOST, *lines)


def put(*lines: bytes) -> bytes:
    """The head of a PUT with these field lines behind its Host."""
    return head(b"PUT / HTTP/1.1", HOST, *lines)


def seen(*lines: bytes, first: bytes = b"GET /", host: bytes = b"web.test", client: bytes = b"127.0.0.1") -> bytes:
    """The head that an instance gets, with these field lines between Host and the proxy's own."""
    forwarded = (b"X-Forwarded-For: " + client, b"X-Forwarded-Proto: http", b"X-Forwarded-Host: " + host)
    return head(first + b" HTTP/1.1", b"Host: " + host, *lines, *forwarded)


CHUNKED = b"Transfer-Encoding: chunked"
WORLD = chunked(b"world")

# Where the target stands and how it is written (RFC 9112 section 3.2)
TARGETS: dict[str, tuple[bytes, bytes]] = {
    "absolute-form": (head(b"GET http://web.test/a?b HTTP/1.1", HOST), seen(first=b"GET /a?b")),
    "absolute-form over another Host": (head(b"GET http://web.test/ HTTP/1.1", b"Host: evil.test"), seen()),
    "absolute-form of https": (head(b"GET https://web.test/ HTTP/1.1", HOST), seen()),
    "absolute-form in capitals": (head(b"GET HTTP://WEB.test/ HTTP/1.1", HOST), seen(host=b"WEB.test")),
    "absolute-form with a port": (head(b"GET http://web.test:81/ HTTP/1.1", HOST), seen(host=b"web.test:81")),
    "absolute-form without a path": (head(b"GET http://web.test HTTP/1.1", HOST), seen()),
    "absolute-form of a query": (head(b"GET http://web.test?a HTTP/1.1", HOST), seen(first=b"GET /?a")),
    "absolute-form of HTTP/1.0": (head(b"GET http://web.test/ HTTP/1.0"), seen()),
    "asterisk-form": (head(b"OPTIONS * HTTP/1.1", HOST), seen(first=b"OPTIONS *")),
    "asterisk as absolute URI": (head(b"OPTIONS http://web.test HTTP/1.1", HOST), seen(first=b"OPTIONS *")),
    "OPTIONS of the root": (head(b"OPTIONS http://web.test/ HTTP/1.1", HOST), seen(first=b"OPTIONS /")),
    "HTTP/1.2": (head(b"GET / HTTP/1.2", HOST), seen()),
    "HTTP/1.9": (head(b"GET / HTTP/1.9", HOST), seen()),
    "HTTP/1.0": (head(b"GET / HTTP/1.0", HOST), seen()),
    "empty line in front": (b"\r\n" + get(), seen()),
    "empty lines in front": (b"\r\n\r\n\r\n" + get(), seen()),
    "method in small letters": (head(b"get / HTTP/1.1", HOST), seen(first=b"get /")),
    "method of odd characters": (head(b"M-$'_`| / HTTP/1.1", HOST), seen(first=b"M-$'_`| /")),
    "dot segments": (head(b"GET /a/../b/./ HTTP/1.1", HOST), seen(first=b"GET /a/../b/./")),
    "empty segments": (head(b"GET //a///b HTTP/1.1", HOST), seen(first=b"GET //a///b")),
    "escapes": (head(b"GET /%2e%2F%41%0d%0a HTTP/1.1", HOST), seen(first=b"GET /%2e%2F%41%0d%0a")),
    "bad escape in the query": (head(b"GET /?%zz%00 HTTP/1.1", HOST), seen(first=b"GET /?%zz%00")),
    "characters no URI has": (head(b'GET /{|}\\^`"<> HTTP/1.1', HOST), seen(first=b'GET /{|}\\^`"<>')),
    "octets beyond ASCII": (head(b"GET /\xe4?\xff HTTP/1.1", HOST), seen(first=b"GET /\xe4?\xff")),
    "URI in a path": (head(b"GET /http://evil.test/ HTTP/1.1", HOST), seen(first=b"GET /http://evil.test/")),
    "Host in capitals": (head(b"GET / HTTP/1.1", b"HOST: WEB.TEST"), seen(host=b"WEB.TEST")),
    "Host with a trailing dot": (head(b"GET / HTTP/1.1", b"Host: web.test."), seen(host=b"web.test.")),
    "Host with an empty port": (head(b"GET / HTTP/1.1", b"Host: web.test:"), seen(host=b"web.test:")),
    "Host behind other fields": (head(b"GET / HTTP/1.1", b"A: b", HOST), seen(b"A: b")),
}

# White space, names and values (RFC 9110 sections 5.5 and 5.6)
FIELDS: dict[str, tuple[bytes, bytes]] = {
    "no white space behind the colon": (head(b"GET / HTTP/1.1", b"Host:web.test", b"A:b"), seen(b"A:b")),
    "white space around values": (head(b"GET / HTTP/1.1", b"Host: \tweb.test\t ", b"A:\t b \t"), seen(b"A:\t b \t")),
    "tab in a value": (get(b"A: b\tc"), seen(b"A: b\tc")),
    "empty value": (get(b"A:", b"B: "), seen(b"A:", b"B: ")),
    "colon in a value": (get(b"A:: b:c"), seen(b"A:: b:c")),
    "value beyond ASCII": (get(b"A: \x80\xff"), seen(b"A: \x80\xff")),
    "request line as a value": (get(b"A: GET /x HTTP/1.1"), seen(b"A: GET /x HTTP/1.1")),
    "name of odd characters": (get(b"!#$%&'*+-.^`|~: a"), seen(b"!#$%&'*+-.^`|~: a")),
    "name of one digit": (get(b"1: a"), seen(b"1: a")),
    "one name twice": (get(b"A: b", b"a: c"), seen(b"A: b", b"a: c")),
    "empty list members": (get(b"A: b", b"Connection: , ,a ,\t,"), seen()),
    "empty Connection": (get(b"Connection:", b"Connection: ,"), seen()),
    "Connection names the framing": (
        put(b"Connection: content-length, transfer-encoding, host", b"Content-Length: 1") + b"x",
        seen(b"Content-Length: 1", first=b"PUT /") + b"x",
    ),
    "Connection names the coding": (
        put(b"Connection: transfer-encoding", CHUNKED) + WORLD,
        seen(CHUNKED, first=b"PUT /") + WORLD,
    ),
    "Connection names what the proxy adds": (get(b"Connection: x-forwarded-for, x-forwarded-host"), seen()),
    "fields of one hop": (get(b"TE: trailers", b"Keep-Alive: x", b"Proxy-Connection: x", b"A: b"), seen(b"A: b")),
    "Upgrade that Connection does not name": (get(b"Upgrade: websocket"), seen()),
    "Upgrade to h2c": (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"), seen()),
    "Upgrade of HTTP/1.0": (head(b"GET / HTTP/1.0", HOST, b"Connection: upgrade", b"Upgrade: websocket"), seen()),
    "forwarded by a stranger": (
        get(b"X-Forwarded-For: 10.0.0.1", b"x-forwarded-host: evil.test", b"X-FORWARDED-PROTO: https"),
        seen(client=b"10.0.0.1, 127.0.0.1"),
    ),
    "cookie in front": (head(b"GET / HTTP/1.1", b"Cookie: a=b", HOST), seen(b"Cookie: a=b")),
    "empty cookie": (get(b"Cookie: "), seen(b"Cookie: ")),
    "cookie that looks like a line": (get(b"A: \\r\\nCookie: b"), seen(b"A: \\r\\nCookie: b")),
    "cookie that Connection names": (get(b"Cookie: a=b", b"Connection: cookie"), seen()),
    "framing with an underscore": (get(b"Content_Length: 5", b"Transfer_Encoding: chunked"), seen()),
}

# Framing (RFC 9112 sections 6 and 7)
BODIES: dict[str, tuple[bytes, bytes]] = {
    "GET with a body": (get(b"Content-Length: 1") + b"x", seen(b"Content-Length: 1") + b"x"),
    "GET with a chunked body": (get(CHUNKED) + WORLD, seen(CHUNKED) + WORLD),
    "length of 0": (put(b"Content-Length: 0"), seen(b"Content-Length: 0", first=b"PUT /")),
    "no length": (put(), seen(first=b"PUT /")),
    "zeros in front of a length": (
        put(b"Content-Length: 0005") + b"hello",
        seen(b"Content-Length: 5", first=b"PUT /") + b"hello",
    ),
    "white space around a length": (
        put(b"content-length:\t5 \t") + b"hello",
        seen(b"Content-Length: 5", first=b"PUT /") + b"hello",
    ),
    "white space around a coding": (
        put(b"transfer-encoding: \tChunked\t ") + WORLD,
        seen(CHUNKED, first=b"PUT /") + WORLD,
    ),
    "body of HTTP/1.0": (
        head(b"PUT / HTTP/1.0", HOST, b"Content-Length: 5") + b"hello",
        seen(b"Content-Length: 5", first=b"PUT /") + b"hello",
    ),
    "expectation met by the body": (
        put(b"Expect: 100-Continue", b"Content-Length: 5") + b"hello",
        seen(b"Content-Length: 5", first=b"PUT /") + b"hello",
    ),
    **{
        f"chunked body {body!r}": (put(CHUNKED) + body, seen(CHUNKED, first=b"PUT /") + body)
        for body in (
            b"0\r\n\r\n",
            b"0000\r\n\r\n",
            b"A\r\n0123456789\r\n0\r\n\r\n",
            b"00000000000000a\r\n0123456789\r\n0\r\n\r\n",
            b"5 \t\r\nhello\r\n0\r\n\r\n",
            b'5;a;b=c;d="e;f"\r\nhello\r\n0;g\r\n\r\n',
            b"5 ; a = b\r\nhello\r\n0\r\n\r\n",
            b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
            b"0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        )
    },
}

ODD = TARGETS | FIELDS | BODIES


@pytest.mark.parametrize("name", ODD)
@scenario
async def test_odd_form_reaches_its_instance_so(name: str) -> None:
    octets, expected = ODD[name]
    async with web() as (edge_, [instance]):
        answer = await edge_.ask(octets)
        assert (answer.status, answer.body) == (200, b"ok")
        assert (await edge_.ask(NEXT)).body == b"ok"
        assert instance.requests == [expected + seen(first=b"GET /next")]


@pytest.mark.parametrize(("surplus", "first"), [(b"d", b"dGET"), (b"--", b"--GET")])
@scenario
async def test_octets_behind_a_message_belong_to_the_next(surplus: bytes, first: bytes) -> None:
    async with web() as (edge_, [instance]):
        client = await edge_.client()
        await client.send(put(b"Content-Length: 3") + b"abc" + surplus + NEXT)
        assert [(await client.reply()).body for _ in range(2)] == [b"ok", b"ok"]
        body = seen(b"Content-Length: 3", first=b"PUT /") + b"abc"
        assert instance.requests == [body + seen(first=first + b" /next")]
