"""What a client is told and how often each peer is asked, by nginx and by consul-edge: equal, but for what is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.support.edge import get, put, reply
from tests.support.scripted import (
    OK,
    Connection,
    Script,
    closing_asked,
    hanging,
    replying,
    resetting,
    sending,
)

KEPT = 64 << 10
"""Octets of a request that consul-edge keeps for another try."""


class Leave(NamedTuple):
    """A step: the client sends octets, waits until the first peer is asked, and leaves so."""

    octets: bytes
    how: Literal["reset", "half-close"]


class Slowly(NamedTuple):
    """A step: the client pauses for a moment between two parts of a request."""

    first: bytes
    rest: bytes


class Outcome(NamedTuple):
    """What came of a case.

    `told` has a word for each step: a status, `STATUS-cut` for a reply that is not whole, `raw` for octets without a
    head, `closed` where there was nothing, `left` for a client that left. `asked` counts the requests that came to
    each peer, `logged` has the statuses of the access log (009 is nginx's for a reply without a head).
    """

    told: str
    asked: tuple[int, ...] = (0,)
    logged: str = ""


@dataclass(frozen=True)
class Case:
    """Peers, steps, and the outcome with nginx.

    Where consul-edge differs on purpose `edge` is its outcome, and `why` the reason. `directives` are for nginx's
    location.
    """

    peers: tuple[Script | Literal["refused", "stalled"], ...]
    steps: tuple[bytes | Leave | Slowly, ...]
    nginx: Outcome
    edge: Outcome | None = None
    why: str = ""
    max_fails: int = 3
    directives: str = ""


async def stale(connection: Connection) -> None:
    """Answer one request on a connection; take another, and close without a word."""
    await connection.request()
    await connection.send(OK)
    await connection.request()


GOOD = replying(OK)
BAD_FIELD = sending(b"HTTP/1.1 200 OK\r\nX\0: 1\r\nContent-Length: 2\r\n\r\nok")
HALF_A_HEAD = sending(b"HTTP/1.1 200 OK\r\nContent-Le")
ENDLESS_HEAD = sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000)
CUT_BODY = sending(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
NO_HEAD = sending(b"<html>hello</html>\n")

GET = get()
POST = put(b"abc", method="POST")
CHUNKED = "Transfer-Encoding: chunked"

# How a peer fails, the status when nobody else can be asked, and whether others are asked (proxy_next_upstream)
FAILURES: dict[str, tuple[Script | Literal["refused", "stalled"], int, bool]] = {
    "refused": ("refused", 502, True),
    "not accepted in time": ("stalled", 504, True),
    "reset before a head": (resetting, 502, True),
    "closed before a head": (closing_asked, 502, True),
    "closed in a head": (HALF_A_HEAD, 502, True),
    "silent": (hanging, 504, True),
    "illegal field": (BAD_FIELD, 502, False),
    "head over the limit": (ENDLESS_HEAD, 502, False),
}


def _failures() -> dict[str, Case]:
    """Each failure alone, before a good peer, and twice."""
    cases = {}
    for name, (bad, status, retried) in FAILURES.items():
        reached = 0 if isinstance(bad, str) else 1
        final = Outcome(f"{status}", (reached, 0))
        cases[f"{name}, no other"] = Case((bad,), (GET,), Outcome(f"{status}", (reached,)))
        for method in ("GET", "PUT", "DELETE"):
            step = GET if method == "GET" else put(b"abc", method=method)
            cases[f"{name}, {method}"] = Case((bad, GOOD), (step,), Outcome("200", (reached, 1)) if retried else final)
        for method in ("POST", "PATCH", "LOCK"):
            step = put(b"abc", method=method)
            cases[f"{name}, {method}"] = Case((bad, GOOD), (step,), final if reached else Outcome("200", (0, 1)))
        twice = Outcome(f"{status}", (reached, reached if retried else 0))
        cases[f"{name}, at the last try"] = Case((bad, bad), (GET,), twice)
    return cases


RETRIES: dict[str, Case] = {
    "no head at all": Case(
        (NO_HEAD,),
        (GET,),
        Outcome("raw", (1,), "009"),
        Outcome("502", (1,)),
        "nginx takes it for an HTTP/0.9 reply, and its client gets octets without a head",
    ),
    "body that is kept": Case((closing_asked, GOOD), (put(b"x" * (KEPT - 2000)),), Outcome("200", (1, 1))),
    "body beyond what is kept, streamed": Case(
        (closing_asked, GOOD),
        (put(b"x" * (KEPT + 2000)),),
        Outcome("502", (1, 0)),
        directives="proxy_request_buffering off;",
    ),
    "body beyond what is kept, buffered": Case(
        (closing_asked, GOOD),
        (put(b"x" * (KEPT + 2000)),),
        Outcome("200", (1, 1)),
        Outcome("502", (1, 0)),
        "nginx writes bodies to files before it asks anybody; here they stream, and 64 KiB are kept",
    ),
    "stale connection, GET": Case((stale,), (GET, GET, GET), Outcome("200 200 200", (5,))),
    "stale connection, PUT": Case((stale,), (GET, put(b"abc")), Outcome("200 200", (3,))),
    "stale connection, POST": Case((stale,), (GET, POST), Outcome("200 502", (2,))),
    "stale connection is no failure": Case((stale,), (GET,) * 4, Outcome("200 200 200 200", (7,)), max_fails=1),
    "reply that is cut": Case((CUT_BODY, GOOD), (GET,), Outcome("200-cut", (1, 0))),
}

ACCOUNTING: dict[str, Case] = {
    "suspended after one failure": Case(
        (closing_asked, GOOD), (GET,) * 5, Outcome("200 200 200 200 200", (1, 5)), max_fails=1
    ),
    "suspended after three failures": Case(
        (closing_asked, GOOD), (GET,) * 9, Outcome(" ".join(["200"] * 9), (3, 9)), max_fails=3
    ),
    "all suspended": Case((closing_asked, closing_asked), (GET, GET), Outcome("502 502", (1, 1)), max_fails=1),
    "one peer alone is never suspended": Case(
        (closing_asked,), (GET, GET, GET), Outcome("502 502 502", (3,)), max_fails=1
    ),
    "silence suspends": Case((hanging, GOOD), (GET,) * 3, Outcome("200 200 200", (1, 3)), max_fails=1),
    "illegal head suspends": Case((BAD_FIELD, GOOD), (POST,) * 3, Outcome("502 200 200", (1, 2)), max_fails=1),
    "failed POST suspends": Case((closing_asked, GOOD), (POST,) * 3, Outcome("502 200 200", (1, 2)), max_fails=1),
    **{
        f"{status} is no failure": Case(
            (replying(reply(b"no", status=f"{status} No")), GOOD),
            (GET,) * 4,
            Outcome(f"{status} 200 {status} 200", (2, 2)),
            max_fails=1,
        )
        for status in (403, 404, 429, 500, 502, 503, 504)
    },
    "cut reply is no failure": Case(
        (CUT_BODY, GOOD), (GET,) * 4, Outcome("200-cut 200 200-cut 200", (2, 2)), max_fails=1
    ),
    "client that leaves is no failure": Case(
        (hanging, GOOD), (Leave(GET, "reset"), GET, GET), Outcome("left 200 200", (2, 2), "499 200 200"), max_fails=1
    ),
}

_TOLD = "nginx closes without a word; RFC 9110 section 15.5.9 has a status for it"
_STREAMED = "bodies stream: the peer is asked before the whole body is here"
HALF_A_BODY = get("/", "Content-Length: 10", method="POST") + b"hello"

CLIENTS: dict[str, Case] = {
    "client leaves, reset": Case((hanging,), (Leave(GET, "reset"),), Outcome("left", (1,), "499")),
    "client leaves, half-close": Case((hanging,), (Leave(GET, "half-close"),), Outcome("left", (1,), "499")),
    "client leaves, POST": Case((hanging,), (Leave(POST, "reset"),), Outcome("left", (1,), "499")),
    "client leaves in its body": Case(
        (hanging,),
        (Leave(HALF_A_BODY, "reset"),),
        Outcome("left", (1,), "400"),
        Outcome("left", (1,), "499"),
        "nginx logs a request cut short as a bad one; 499 is for clients that leave, whenever they do",
        directives="proxy_request_buffering off;",
    ),
    "silent client": Case((GOOD,), (b"",), Outcome("closed")),
    "slow request line": Case((GOOD,), (b"GET /",), Outcome("closed", logged="408"), Outcome("408"), _TOLD),
    "slow head": Case((GOOD,), (GET[:-2],), Outcome("closed", logged="408"), Outcome("408"), _TOLD),
    "slow body": Case(
        (hanging,), (HALF_A_BODY,), Outcome("closed", (0,), "408"), Outcome("408", (1,)), f"{_TOLD}; {_STREAMED}"
    ),
    "length over the limit": Case((GOOD,), (get("/", "Content-Length: 1048577", method="PUT"),), Outcome("413")),
    "length at the limit": Case((GOOD,), (put(b"x" * 1048576),), Outcome("200", (1,))),
    "chunks over the limit": Case(
        (hanging,),
        (Slowly(get("/", CHUNKED, method="PUT"), (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17),),
        Outcome("413"),
        Outcome("413", (1,)),
        _STREAMED,
    ),
}

_STANDARD = "431 is the standard's status for it (RFC 6585 section 5)"

HEADS: dict[str, Case] = {
    "request line over the limit": Case((GOOD,), (get("/" + "x" * 9000),), Outcome("414")),
    "header line over the limit": Case(
        (GOOD,), (get("/", "X: " + "x" * 9000),), Outcome("400"), Outcome("431"), _STANDARD
    ),
    "header over the limit": Case(
        (GOOD,), (get("/", *(f"X-{n}: " + "x" * 8000 for n in range(5))),), Outcome("400"), Outcome("431"), _STANDARD
    ),
    "more than 1000 lines": Case(
        (GOOD,),
        (get("/", *["X: 1"] * 1000),),
        Outcome("400"),
    ),
    "codings that end in chunked twice": Case(
        (GOOD,),
        (get("/", "Transfer-Encoding: chunked, chunked"),),
        Outcome("501"),
        Outcome("400"),
        "it is not unknown but illegal (RFC 9112 section 6.1)",
    ),
    "bare LF": Case(
        (GOOD,),
        (GET.replace(b"\r\n", b"\n"),),
        Outcome("200", (1,)),
        Outcome("400"),
        "two readers that disagree about line ends can be played off against one another",
    ),
    "CONNECT": Case(
        (GOOD,),
        (b"CONNECT web.test:80 HTTP/1.1\r\nHost: web.test\r\n\r\n",),
        Outcome("400"),
        Outcome("405"),
        "later versions of nginx read its target, and say 405 as for TRACE",
    ),
    "HTTP/2 preface": Case(
        (GOOD,),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
        Outcome("400"),
        Outcome("505"),
        "of its faults nginx sees the target first; the version is what its client should know of",
    ),
    "HTTP/1.9": Case((GOOD,), (get(version="1.9"),), Outcome("200", (1,))),
    **{
        name: Case((GOOD,), (step,), Outcome(f"{status}"))
        for status, steps in {
            400: {
                "no Host": get(host=""),
                "no Host in the field": get(host=" "),
                "two Hosts": get("/", "Host: other.test"),
                "illegal Host": get(host="a/b"),
                "length and chunked": get("/", "Content-Length: 5", CHUNKED) + b"0\r\n\r\n",
                "chunked in HTTP/1.0": get("/", CHUNKED, version="1.0") + b"0\r\n\r\n",
                "signed length": get("/", "Content-Length: +5") + b"hello",
                "empty length": get("/", "Content-Length:"),
                "two lengths": get("/", "Content-Length: 5", "Content-Length: 5") + b"hello",
                "two codings": get("/", CHUNKED, CHUNKED) + b"0\r\n\r\n",
                "bad chunk size": get("/", CHUNKED, method="PUT") + b"zz\r\n",
                "path above the root": get("/../x"),
                "bad escape": get("/%zz"),
                "escaped NUL": get("/%00"),
                "NUL in a value": get("/", "X: a\0b"),
                "no version": b"GET / FTP/1.1\r\n\r\n",
                "illegal method": b"G(T / HTTP/1.1\r\nHost: web.test\r\n\r\n",
                "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
            },
            405: {"TRACE": get(method="TRACE"), "CONNECT of a path": get(method="CONNECT")},
            501: {"gzip": get("/", "Transfer-Encoding: gzip"), "identity": get("/", "Transfer-Encoding: identity")},
            505: {"HTTP/2.0": get(version="2.0"), "HTTP/9.9": get(version="9.9")},
        }.items()
        for name, step in steps.items()
    },
}

CASES = _failures() | RETRIES | ACCOUNTING | CLIENTS | HEADS
