"""Every bad form of a request with the status it gets, and the odd forms that HTTP allows: raw octets.

A bad form asks for `/bad` where it can be told what it asks for, so that no octet of it goes unnoticed elsewhere.
"""

from __future__ import annotations

from tests.support.edge import chunked

LIMITS = {"max_body": 1000, "max_header": 4096, "max_header_line": 1024, "max_headers": 20}
"""HTTP settings that make the table's oversize forms short."""

HOST = b"Host: web.test"
CHUNKED = b"Transfer-Encoding: chunked"
WORLD = chunked(b"world")


def head(first: bytes, *lines: bytes) -> bytes:
    """A head of these lines."""
    return b"\r\n".join((first, *lines, b"", b""))


def get(*lines: bytes) -> bytes:
    """A GET with these field lines behind its Host."""
    return head(b"GET /bad HTTP/1.1", HOST, *lines)


def post(*lines: bytes) -> bytes:
    """The head of a POST with these field lines behind its Host."""
    return head(b"POST /bad HTTP/1.1", HOST, *lines)


def at(host: bytes) -> bytes:
    """A GET with this Host."""
    return head(b"GET /bad HTTP/1.1", b"Host: " + host)


def line(first: bytes) -> bytes:
    """A request with this request line."""
    return head(first, HOST)


# Line ends, and characters that have no place in a head (RFC 9112 section 2.2, RFC 9110 section 5.5)
CHARACTERS: dict[str, tuple[int, bytes]] = {
    "bare LF ends every line": (400, b"GET /bad HTTP/1.1\nHost: web.test\n\n"),
    "bare LF behind the request line": (400, b"GET /bad HTTP/1.1\nHost: web.test\r\n\r\n"),
    "bare LF behind a field": (400, b"GET /bad HTTP/1.1\r\nHost: web.test\nX: 1\r\n\r\n"),
    "bare LF ends the head": (400, b"GET /bad HTTP/1.1\r\nHost: web.test\r\n\n"),
    "bare LF in front of the end": (400, b"GET /bad HTTP/1.1\r\nHost: web.test\n\r\n"),
    "bare LF before the request line": (400, b"\n" + get()),
    "bare LF hides a length": (400, get(b"X: 1\nContent-Length: 5")),
    "bare CR ends every line": (400, b"GET /bad HTTP/1.1\rHost: web.test\r\r"),
    "bare CR behind the request line": (400, b"GET /bad HTTP/1.1\rHost: web.test\r\n\r\n"),
    "bare CR before the request line": (400, b"\r" + get()),
    "bare CR in a value": (400, get(b"X: a\rb")),
    "bare CR at a value's end": (400, get(b"X: a\r", b"Y: b")),
    "bare CR in a name": (400, get(b"X\r: a")),
    "bare CR hides a length": (400, get(b"X: 1\rContent-Length: 5")),
    "CR CR LF ends the head": (400, b"GET /bad HTTP/1.1\r\nHost: web.test\r\n\r\r\n"),
    "NUL before the request line": (400, b"\0" + get()),
    "NUL in the method": (400, line(b"G\0T /bad HTTP/1.1")),
    "NUL in the target": (400, line(b"GET /bad\0 HTTP/1.1")),
    "NUL in the version": (400, line(b"GET /bad HTTP/1.1\0")),
    "NUL in a name": (400, get(b"X\0: 1")),
    "NUL in a value": (400, get(b"X: a\0b")),
    "NUL in the Host": (400, at(b"web.test\0.evil.test")),
    "NUL in the length": (400, post(b"Content-Length: 5\0") + b"hello"),
    "tabs in the request line": (400, line(b"GET\t/bad\tHTTP/1.1")),
    "vertical tabs in the request line": (400, line(b"GET\x0b/bad\x0bHTTP/1.1")),
    "TLS on a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    **{
        f"octet {octet:#04x} in a value": (400, get(b"X: a%cb" % octet))
        for octet in (1, 7, 8, 0x0B, 0x0C, 0x0E, 0x1B, 0x1F, 0x7F)
    },
}

# Field lines (RFC 9112 section 5)
FIELDS: dict[str, tuple[int, bytes]] = {
    "obs-fold with a space": (400, get(b"X: a", b" b")),
    "obs-fold with a tab": (400, get(b"X: a", b"\tb")),
    "obs-fold with nothing in it": (400, get(b"X: a", b" ")),
    "obs-fold of the Host": (400, head(b"GET /bad HTTP/1.1", b"Host:", b" web.test")),
    "obs-fold of the length": (400, post(b"Content-Length:", b" 5") + b"hello"),
    "obs-fold of the coding": (400, post(b"Transfer-Encoding:", b" chunked") + WORLD),
    "white space before the first field": (400, head(b"GET /bad HTTP/1.1", b" X: 1", HOST)),
    "white space before the Host": (400, head(b"GET /bad HTTP/1.1", b" Host: web.test")),
    "space before the colon": (400, get(b"X : 1")),
    "tab before the colon": (400, get(b"X\t: 1")),
    "space before the colon of the Host": (400, head(b"GET /bad HTTP/1.1", b"Host : web.test")),
    "space before the colon of the length": (400, post(b"Content-Length : 5") + b"hello"),
    "tab before the colon of the length": (400, post(b"Content-Length\t: 5") + b"hello"),
    "space before the colon of the coding": (400, post(b"Transfer-Encoding : chunked") + WORLD),
    "vertical tab before the colon of the coding": (400, post(b"Transfer-Encoding\x0b: chunked") + WORLD),
    "no colon": (400, get(b"X")),
    "request line in place of a field": (400, get(b"GET /x HTTP/1.1")),
    "empty name": (400, get(b": 1")),
    "name of a space": (400, get(b"X: 1", b" : 1")),
    "space in a name": (400, get(b"X Y: 1")),
    **{f"{octet:c} in a name": (400, get(b"X%cY: 1" % octet)) for octet in b'"(),/;<=>?@[\\]{}'},
    **{f"octet {octet:#04x} in a name": (400, get(b"X%cY: 1" % octet)) for octet in (0x0B, 0x7F, 0x80, 0xE4)},
}

# Cookies, which are read apart from other fields
COOKIES: dict[str, tuple[int, bytes]] = {
    "bare LF in a cookie": (400, get(b"Cookie: a=b\nX: 1")),
    "bare CR in a cookie": (400, get(b"Cookie: a=b\rX: 1", b"Y: 1")),
    "NUL in a cookie": (400, get(b"Cookie: a=b\0")),
    "length in a cookie's bare LF": (400, post(b"Cookie: a=b\nContent-Length: 5") + b"hello"),
    "obs-fold of a cookie": (400, get(b"Cookie: a=b;", b" c=d")),
    "obs-fold before a cookie": (400, get(b"X: 1", b" ", b"Cookie: a=b")),
    "obs-fold that ends in a cookie": (400, get(b"X: 1", b" Cookie: a=b")),
    "space before a cookie's colon": (400, get(b"Cookie : a=b")),
    "DEL in a second cookie": (400, get(b"Cookie: a=b", b"Cookie: c\x7f")),
    "length behind a cookie twice": (400, post(b"Cookie: a=b", b"Content-Length: 5", b"Content-Length: 5") + b"hello"),
    "cookie over the limit": (431, get(b"Cookie: " + b"x" * 1100)),
    "too many lines and a cookie": (400, get(*(b"X-%d: 1" % n for n in range(19)), b"Cookie: a=b")),
}

# Content-Length (RFC 9110 section 8.6, RFC 9112 section 6.3)
LENGTHS: dict[str, tuple[int, bytes]] = {
    "one length twice": (400, post(b"Content-Length: 5", b"Content-Length: 5") + b"hello"),
    "two lengths": (400, post(b"Content-Length: 5", b"Content-Length: 0") + b"hello"),
    "two lengths, the other first": (400, post(b"Content-Length: 0", b"Content-Length: 5") + b"hello"),
    "two lengths in two cases": (400, post(b"Content-Length: 5", b"CONTENT-LENGTH: 6") + b"hello"),
    "length and an empty one": (400, post(b"Content-Length: 5", b"Content-Length:") + b"hello"),
    **{
        f"length {value!r}": (400, post(b"Content-Length: " + value.encode()) + b"hello")
        for value in (
            *("", ",", "5, 5", "5,5", "5, 6", "5,", ",5", "5;", "5;q=1", "5 5", "5 0", "+5", "-5", "-0", "0x5", "5h"),
            *("5.0", "5e0", "1_0", "1'0", '"5"', "five", "\u0665", "\u00b2", "5\x0b", "\x0c5", "9" * 19, "9" * 400),
        )
    },
    "length over the limit": (413, post(b"Content-Length: 1001")),
    "length of 18 digits": (413, post(b"Content-Length: " + b"9" * 18)),
    "length over the limit with an expectation": (413, post(b"Content-Length: 1001", b"Expect: 100-continue")),
}

# Transfer-Encoding (RFC 9112 section 6.1)
CODINGS: dict[str, tuple[int, bytes]] = {
    "length and chunked": (400, post(b"Content-Length: 5", CHUNKED) + WORLD),
    "chunked and length": (400, post(CHUNKED, b"Content-Length: 5") + WORLD),
    "chunked and length of 0": (400, post(CHUNKED, b"Content-Length: 0") + WORLD),
    "length and an unknown coding": (400, post(b"Content-Length: 5", b"Transfer-Encoding: x") + b"hello"),
    "length and identity": (400, post(b"Content-Length: 5", b"Transfer-Encoding: identity") + b"hello"),
    "chunked on two lines": (400, post(CHUNKED, CHUNKED) + WORLD),
    "chunked, then another line": (400, post(CHUNKED, b"Transfer-Encoding: x") + WORLD),
    "another line, then chunked": (400, post(b"Transfer-Encoding: x", CHUNKED) + WORLD),
    "chunked, then an empty line of codings": (400, post(CHUNKED, b"Transfer-Encoding:") + WORLD),
    "chunked to HTTP/1.0": (400, head(b"POST /bad HTTP/1.0", HOST, CHUNKED) + WORLD),
    "chunked to HTTP/1.0 that keeps alive": (
        400,
        head(b"POST /bad HTTP/1.0", HOST, b"Connection: keep-alive", CHUNKED) + WORLD,
    ),
    **{
        f"coding {value!r}": (status, post(b"Transfer-Encoding: " + value.encode("latin-1")) + WORLD)
        for status, values in {
            400: ("chunked, chunked", "chunked,chunked", "chunked, gzip", "chunked, identity", "Chunked, x, y"),
            501: (
                *("", ",", "gzip", "deflate", "compress", "identity", "x", "gzip, chunked", "identity, chunked"),
                *("xchunked", "chunkedx", "chunk", "x-chunked", '"chunked"', "'chunked'", "chunked;", "chunked;a=b"),
                *(", chunked", "chunked,", "chunked chunked", "chu nked", "chunke\xe4", "\xa0chunked"),
            ),
        }.items()
        for value in values
    },
    **{
        f"octet {octet:#04x} {where} the coding": (400, post(b"Transfer-Encoding: " + value % octet) + WORLD)
        for octet in (0, 8, 0x0B, 0x0C, 0x0D)
        for where, value in (("before", b"%cchunked"), ("in", b"chun%cked"), ("behind", b"chunked%c"))
    },
    "unknown expectation": (417, post(b"Expect: tea", b"Content-Length: 5")),
    "expectation among others": (417, post(b"Expect: 100-continue, tea", b"Content-Length: 5")),
    "expectation behind a word": (417, post(b"Expect: y 100-continue", b"Content-Length: 5")),
    "expectation twice": (417, post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5")),
    "empty expectation": (417, post(b"Expect:", b"Content-Length: 5")),
}

# Host (RFC 9112 section 3.2, RFC 3986 section 3.2.2)
HOSTS: dict[str, tuple[int, bytes]] = {
    "no Host": (400, head(b"GET /bad HTTP/1.1")),
    "no Host beside an absolute URI": (400, head(b"GET http://web.test/bad HTTP/1.1")),
    "one Host twice": (400, get(HOST)),
    "two Hosts": (400, get(b"Host: evil.test")),
    "two Hosts, the other first": (400, head(b"GET /bad HTTP/1.1", b"Host: evil.test", HOST)),
    "Host and an empty one": (400, get(b"Host:")),
    "two Hosts in HTTP/1.0": (400, head(b"GET /bad HTTP/1.0", HOST, b"Host: evil.test")),
    "illegal Host beside an absolute URI": (400, head(b"GET http://web.test/bad HTTP/1.1", b"Host: a b")),
    **{
        f"Host {value!r}": (400, at(value.encode("latin-1")))
        for value in (
            *("", ".", ":80", "web.test/", "web.test/x", "web.test?x", "web.test#x", "u@web.test", "u:p@web.test"),
            *("web.test evil.test", "web.test, evil.test", "web\ttest"),
            *("web.test:80:80", "web.test:x", "web.test:+80", "web.test:-1", "web.test:65536", "web.test:999999"),
            *("http://web.test", "web.test\\", "web.t\xe4st", "%", "%zz", "<web.test>", '"web.test"', "{web}", "a|b"),
            *("[::1", "::1]", "::1", "[]", "[::g]", "[1.2.3.4]", "[::1]x", "[::1%25lo]", "[v1.a]", "[::1]:x"),
        )
    },
}

# Request lines and targets (RFC 9112 section 3), methods that are not served (nginx's 405), versions
REQUEST_LINES: dict[str, tuple[int, bytes]] = {
    "HTTP/0.9 request": (400, b"GET /bad\r\n\r\n"),
    "HTTP/0.9 request of one line": (400, b"GET /bad\r\n"),
    "HTTP/0.9 request with a Host": (400, line(b"GET /bad")),
    "request line of a method": (400, line(b"GET")),
    "request line of white space": (400, line(b" ")),
    "request line of a field": (400, b"Host: web.test\r\n\r\n"),
    "leading space": (400, line(b" GET /bad HTTP/1.1")),
    "leading tab": (400, line(b"\tGET /bad HTTP/1.1")),
    "trailing space": (400, line(b"GET /bad HTTP/1.1 ")),
    "two spaces behind the method": (400, line(b"GET  /bad HTTP/1.1")),
    "two spaces behind the target": (400, line(b"GET /bad  HTTP/1.1")),
    "space in the target": (400, line(b"GET /bad /x HTTP/1.1")),
    "version twice": (400, line(b"GET /bad HTTP/1.1 HTTP/1.1")),
    "no method": (400, line(b"/bad HTTP/1.1")),
    "no target": (400, line(b"GET HTTP/1.1")),
    "empty target": (400, line(b"GET  HTTP/1.1")),
    "delimiter in the method": (400, line(b"GE(T /bad HTTP/1.1")),
    "colon in the method": (400, line(b"GET: /bad HTTP/1.1")),
    "method outside ASCII": (400, line(b"G\xcbT /bad HTTP/1.1")),
    "fragment": (400, line(b"GET /bad#x HTTP/1.1")),
    "control character in the target": (400, line(b"GET /bad\x01 HTTP/1.1")),
    "DEL in the target": (400, line(b"GET /bad\x7f HTTP/1.1")),
    "path without a slash": (400, line(b"GET bad HTTP/1.1")),
    "query alone": (400, line(b"GET ?bad HTTP/1.1")),
    "backslash path": (400, line(b"GET \\bad HTTP/1.1")),
    "path above the root": (400, line(b"GET /../bad HTTP/1.1")),
    "path above the root in escapes": (400, line(b"GET /a/%2e%2e/%2E./bad HTTP/1.1")),
    "path above the root behind empty segments": (400, line(b"GET //../bad HTTP/1.1")),
    "bad escape": (400, line(b"GET /bad%zz HTTP/1.1")),
    "cut escape": (400, line(b"GET /bad%2 HTTP/1.1")),
    "escaped NUL": (400, line(b"GET /bad%00 HTTP/1.1")),
    "authority-form of GET": (400, line(b"GET web.test:80 HTTP/1.1")),
    "asterisk-form of GET": (400, line(b"GET * HTTP/1.1")),
    "asterisk and more": (400, line(b"OPTIONS *bad HTTP/1.1")),
    "absolute-form of another scheme": (400, line(b"GET ftp://web.test/bad HTTP/1.1")),
    "absolute-form without a scheme": (400, line(b"GET ://web.test/bad HTTP/1.1")),
    "absolute-form without slashes": (400, line(b"GET http:web.test/bad HTTP/1.1")),
    "absolute-form without a host": (400, line(b"GET http:///bad HTTP/1.1")),
    "absolute-form with a user": (400, line(b"GET http://u@web.test/bad HTTP/1.1")),
    "absolute-form with an illegal host": (400, line(b"GET http://web|test/bad HTTP/1.1")),
    "absolute-form with an illegal port": (400, line(b"GET http://web.test:65536/bad HTTP/1.1")),
    "absolute-form with a fragment": (400, line(b"GET http://web.test/bad#x HTTP/1.1")),
    "CONNECT": (405, head(b"CONNECT web.test:443 HTTP/1.1", b"Host: web.test:443")),
    "CONNECT of a path": (405, line(b"CONNECT /bad HTTP/1.1")),
    "CONNECT with a body": (405, head(b"CONNECT web.test:443 HTTP/1.1", HOST, CHUNKED) + WORLD),
    "TRACE": (405, line(b"TRACE /bad HTTP/1.1")),
    "TRACE of everything": (405, head(b"TRACE * HTTP/1.1", HOST, b"Max-Forwards: 0")),
    "version in small letters": (400, line(b"GET /bad http/1.1")),
    "version of another protocol": (400, line(b"GET /bad HTTPS/1.1")),
    "SIP": (400, line(b"OPTIONS sip:nm SIP/2.0")),
    "version without a name": (400, line(b"GET /bad /1.1")),
    "version without a minor": (400, line(b"GET /bad HTTP/1")),
    "version without digits": (400, line(b"GET /bad HTTP/")),
    "version with an empty minor": (400, line(b"GET /bad HTTP/1.")),
    "version of two digits": (400, line(b"GET /bad HTTP/1.10")),
    "version with a zero in front": (400, line(b"GET /bad HTTP/01.1")),
    "version with a sign": (400, line(b"GET /bad HTTP/+1.1")),
    "version with a comma": (400, line(b"GET /bad HTTP/1,1")),
    "version of letters": (400, line(b"GET /bad HTTP/x.y")),
    "HTTP/0.9 in so many words": (505, line(b"GET /bad HTTP/0.9")),
    "HTTP/0.0": (505, line(b"GET /bad HTTP/0.0")),
    "HTTP/2.0": (505, line(b"GET /bad HTTP/2.0")),
    "HTTP/9.9": (505, line(b"GET /bad HTTP/9.9")),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
}

# Limits, as `LIMITS` sets them (nginx: 414, and 400 where the standard has 431)
SIZES: dict[str, tuple[int, bytes]] = {
    "request line over the limit": (414, line(b"GET /bad" + b"x" * 1100 + b" HTTP/1.1")),
    "request line without an end": (414, b"GET /bad" + b"x" * 5000),
    "method without an end": (414, b"G" * 5000),
    "header line over the limit": (431, get(b"X: " + b"x" * 1100)),
    "header line without an end": (431, get()[:-2] + b"X: " + b"x" * 5000),
    "name over the limit": (431, get(b"X" * 1100 + b": 1")),
    "Host over the limit": (431, at(b"x" * 1100)),
    "header over the limit": (431, get(*(b"X-%d: " % n + b"x" * 900 for n in range(5)))),
    "header without an end": (431, get(*(b"X-%d: " % n + b"x" * 900 for n in range(5)))[:-4]),
    "too many lines": (400, get(*(b"X-%d: 1" % n for n in range(20)))),
    "the same line too often": (400, get(*(b"X: 1" for _ in range(20)))),
}

# Chunked bodies (RFC 9112 section 7.1); where the fault is, the framing of what follows is in doubt
CHUNKS: dict[str, tuple[int, bytes]] = {
    **{
        f"chunk size {size!r}": (400, size.encode() + b"\r\nhello\r\n0\r\n\r\n")
        for size in (
            *("", " ", " 5", "\t5", "+5", "-5", "-0", "0x5", "0X5", "x5", "5h", "h", "5_0", "5,", "5 5", "5.0", '"5"'),
            *("5\0", "5\r", "5\x0b", "\u0665", "0" * 15 + "5", "f" * 16, "8000000000000005", "1" + "0" * 16 + "5"),
        )
    },
    **{
        f"chunk extension {extension!r}": (400, b"5" + extension.encode() + b"\r\nhello\r\n0\r\n\r\n")
        for extension in (
            *(";", ";;", ";a;", ";=", ";=b", ";a=", ";a==b", ";a b", ";a=b c", ';a="b', ';a="b"c', ";a=b,c", ";a=\r"),
            *(";a\0", ";\x0b", ';a="\x01"', ";a=\nb", ";\n", ";a\r", ";a=b\rc"),
        )
    },
    "chunk line without an end": (400, b"5;" + b"a" * 2000),
    "chunk size without an end": (400, b"0" * 2000),
    "many extensions": (400, (b"1;" + b"a" * 900 + b"\r\nx\r\n") * 20),
    "bare LF behind a chunk size": (400, b"5\nhello\r\n0\r\n\r\n"),
    "bare LF behind a chunk": (400, b"5\r\nhello\n0\r\n\r\n"),
    "bare CR behind a chunk": (400, b"5\r\nhello\r0\r\n\r\n"),
    "nothing behind a chunk": (400, b"5\r\nhello0\r\n\r\n"),
    "two octets behind a chunk": (400, b"5\r\nhelloXX0\r\n\r\n"),
    "LF CR behind a chunk": (400, b"5\r\nhello\n\r0\r\n\r\n"),
    "chunk longer than its size": (400, b"4\r\nhello\r\n0\r\n\r\n"),
    "empty line between chunks": (400, b"5\r\nhello\r\n\r\n0\r\n\r\n"),
    "bare LF behind the last chunk": (400, b"0\n\r\n"),
    "bare LF ends the body": (400, b"0\r\n\n"),
    "bare CR ends the body": (400, b"0\r\n\rX\r\n"),
    "bare LFs alone": (400, b"0\n\n"),
    "request line in place of a trailer": (400, b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "obs-fold in a trailer": (400, b"0\r\nX: a\r\n b\r\n\r\n"),
    "space before the colon in a trailer": (400, b"0\r\nX : a\r\n\r\n"),
    "empty name in a trailer": (400, b"0\r\n: a\r\n\r\n"),
    "NUL in a trailer": (400, b"0\r\nX: a\0\r\n\r\n"),
    "bare LF in a trailer": (400, b"0\r\nX: a\nY: b\r\n\r\n"),
    "bare CR in a trailer": (400, b"0\r\nX: a\rY: b\r\n\r\n"),
    **{
        f"{name} in a trailer": (400, b"0\r\n%b: 5\r\n\r\n" % name.encode())
        for name in (
            *("Content-Length", "content-length", "Transfer-Encoding", "Host", "Connection", "Keep-Alive", "TE"),
            *("Proxy-Connection", "Upgrade", "Expect", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"),
        )
    },
    "trailer without an end": (400, b"0\r\nX: " + b"a" * 10_000),
    "trailers without an end": (400, b"0\r\n" + b"X: a\r\n" * 2000),
    "one chunk over the limit": (413, b"%x\r\n" % 1001 + b"x" * 1001 + b"\r\n0\r\n\r\n"),
    "endless chunk over the limit": (413, b"fffffffff\r\n" + b"x" * 1001),
    "chunks over the limit": (413, b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n"),
}

BAD_HEADS = CHARACTERS | FIELDS | COOKIES | LENGTHS | CODINGS | HOSTS | REQUEST_LINES | SIZES
"""Requests whose fault is in the head: name -> (status, octets)."""

BAD_BODIES = CHUNKS
"""Chunked bodies behind a good head: name -> (status, octets)."""
