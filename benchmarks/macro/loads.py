"""What is asked of peers.

To add a load: an entry in `LOADS` (and a mode in load.lua, for one that wrk drives).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from benchmarks.macro.dnsload import ChangesDnsLoad, DnsLoad, UnseenDnsLoad
from benchmarks.macro.httpload import PacedLoad, WrkLoad
from benchmarks.macro.load import Load
from benchmarks.macro.names import address_questions, foreign_questions, mixed_questions
from benchmarks.macro.peer import Kind
from benchmarks.macro.site import BULK_BYTES, DNS_NAMES

MEGABYTE = 1_000_000


def _bulk(name: str, about: str, kind: Kind, mode: str) -> WrkLoad:
    return WrkLoad(
        name, about, kind, unit="MB", per="CPU second", mode=mode, connections=16, work=BULK_BYTES / MEGABYTE
    )


def _by_workers(name: str, about: str, per: Literal["second", "CPU second"]) -> DnsLoad:
    # The kernel spreads clients over workers, not questions; and with few questions under way workers wait by turns.
    return DnsLoad(name, about, "dns-workers", "queries", per, address_questions(1), clients=64, outstanding=1000)


SMALL = WrkLoad("http-small", "GET, small reply, 64 kept connections", "http", "requests", "second", "small")

PACEMAKER = "nginx-tuned"
"""The peer whose rate under `SMALL` sets the pace of paced loads: half of it."""

LOADS: Sequence[Load] = (
    SMALL,
    WrkLoad("http-browser", "the same with 13 headers of a browser", "http", "requests", "second", "browser"),
    WrkLoad(
        "http-unique", "the same with a path and a cookie never seen before", "http", "requests", "second", "unique"
    ),
    WrkLoad("http-connect", "GET, a new connection for each request", "http", "requests", "CPU second", "connect"),
    _bulk("http-bulk", "GET, replies of 1 MiB", "http", "bulk"),
    _bulk("http-upload", "POST, bodies of 1 MiB", "http", "upload"),
    PacedLoad(
        "http-paced",
        f"the requests of http-small at a constant rate, half of what {PACEMAKER} makes of them",
        "http",
        "requests",
        "second",
        rate=0,
        peers=frozenset({"consul-edge", "nginx-tuned", "haproxy"}),
    ),
    WrkLoad("tcp-small", "small request and reply, 64 kept connections", "tcp", "requests", "second", "small"),
    WrkLoad("tcp-connect", "a new connection for each request", "tcp", "requests", "CPU second", "connect"),
    _bulk("tcp-bulk", "1 MiB to the client", "tcp", "bulk"),
    _bulk("tcp-upload", "1 MiB from the client", "tcp", "upload"),
    WrkLoad("http-workers", "http-small on all cores", "http-workers", "requests", "second", "small"),
    WrkLoad("http-workers-cpu", "the same", "http-workers", "requests", "CPU second", "small"),
    DnsLoad("dns-hot", "A of one name, three addresses", "dns", "queries", "second", address_questions(1)),
    DnsLoad("dns-names", f"A of {DNS_NAMES:,} names in turn", "dns", "queries", "second", address_questions(DNS_NAMES)),
    DnsLoad(
        "dns-mixed",
        f"A and SRV of {DNS_NAMES:,} names in turn, with EDNS",
        "dns",
        "queries",
        "second",
        mixed_questions(),
        edns=True,
    ),
    UnseenDnsLoad(
        "dns-unseen",
        "the same with names in an ever new pattern of upper and lower case",
        "dns",
        "queries",
        "second",
        mixed_questions(),
        edns=True,
    ),
    DnsLoad(
        "dns-forwarded",
        f"A of {DNS_NAMES:,} foreign names in turn, known from a recursor",
        "dns",
        "queries",
        "second",
        foreign_questions(),
        needs_recursor=True,
    ),
    ChangesDnsLoad(
        "dns-changes",
        "the questions of dns-mixed at a constant rate, while an instance comes or goes each 100 ms",
        "dns",
        "queries",
        "second",
        mixed_questions(),
        edns=True,
        outstanding=4000,  # a server that is slow for some 100 ms shall not hold up the rate
        peers=frozenset({"consul-edge", "consul"}),
    ),
    _by_workers("dns-workers", "dns-hot on all cores, by many clients", "second"),
    _by_workers("dns-workers-cpu", "the same", "CPU second"),
)
