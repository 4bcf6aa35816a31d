"""Replies of recursors: what counts as one, how long it is kept, and what a client gets of it."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from dnsserver.foreign import ForeignCache
from dnsserver.message import Query, parse_query
from dnsserver.upstream import ForeignReply, foreign_key, foreign_query, is_reply, parse_reply
from dnsserver.wire import FormatError
from lb.settings import DnsSettings
from tests.support.dns import Seen, make_query, read_reply
from tests.support.recursor import answer

SETTINGS = DnsSettings()
SOA = "example. 300 IN SOA ns.example. host.example. 1 2 3 4 {minimum}"


def query(name: str = "www.example", qtype: str = "A", **options: Any) -> Query:
    parsed = parse_query(make_query(name, qtype, **options))
    assert parsed is not None
    return parsed


def reply(zone: str = "", asked: Query | None = None, **options: Any) -> ForeignReply:
    asked = asked or query()
    sent = foreign_query(asked, 99, 1232)
    return parse_reply(answer(sent, zone, **options), asked.question)


def for_client(kept: ForeignReply, asked: Query, age: int = 0, *, udp: bool = True) -> Seen:
    return read_reply(b"\0\7" + kept.for_client(asked, age, udp, SETTINGS))


@pytest.mark.parametrize(
    ("edit", "accepted"),
    [
        (lambda m: m, True),
        (lambda m: m[:12] + m[12:].replace(b"www", b"WWW", 1), True),
        (lambda m: b"\0\1" + m[2:], False),
        (lambda m: m[:2] + b"\x01" + m[3:], False),
        (lambda m: m[:2] + b"\xa1" + m[3:], False),
        (lambda m: m[:4] + b"\0\0" + m[6:], False),
        (lambda m: m.replace(b"www", b"wwx", 1), False),
        (lambda m: m.replace(b"\0\0\1\0\1", b"\0\0\x1c\0\1", 1), False),
        (lambda m: m[:11], False),
        (lambda m: m[:16], False),
    ],
)
def test_what_counts_as_a_reply(edit: object, accepted: bool) -> None:
    asked = query()
    sent = foreign_query(asked, 0x1234, 1232)
    message = edit(answer(sent, "www.example. 60 A 192.0.2.1"))  # type: ignore[operator]
    assert is_reply(message, sent, asked.question) is accepted


@pytest.mark.parametrize(
    ("zone", "options", "lifetime"),
    [
        ("www.example. 60 A 192.0.2.1\nwww.example. 30 A 192.0.2.2", {}, 30),
        ("www.example. 0 A 192.0.2.1", {}, 0),
        ("www.example. 900000 A 192.0.2.1", {}, 86400),
        ("www.example. 2147483648 A 192.0.2.1", {}, 0),
        ("", {"authority": SOA.format(minimum=60)}, 60),
        ("", {"authority": SOA.format(minimum=900)}, 300),
        ("", {"rcode": "NXDOMAIN", "authority": SOA.format(minimum=60)}, 60),
        ("", {"rcode": "NXDOMAIN", "authority": SOA.format(minimum=0)}, 0),
        ("", {"rcode": "NXDOMAIN", "authority": SOA.format(minimum=9999).replace("300", "9999")}, 3600),
        ("www.example. 40 CNAME w.example.", {"authority": SOA.format(minimum=60)}, 40),
        ("www.example. 90 CNAME w.example.", {"rcode": "NXDOMAIN", "authority": SOA.format(minimum=60)}, 60),
        ("", {"rcode": "NXDOMAIN"}, 0),
        ("", {"authority": "example. 300 IN NS ns.example."}, 0),
        ("www.example. 60 A 192.0.2.1", {"rcode": "SERVFAIL"}, 0),
        ("www.example. 60 A 192.0.2.1", {"tc": 1}, 0),
    ],
)
def test_lifetime(zone: str, options: dict[str, Any], lifetime: int) -> None:
    assert reply(zone, **options).lifetime == lifetime


def test_ttls_count_down_and_the_client_sees_its_own_spelling() -> None:
    kept = reply("www.example. 60 A 192.0.2.1")
    seen = for_client(kept, query("wWw.example"), age=25)
    assert seen.answer == (("wWw.example.", "A", 35, "192.0.2.1"),)
    assert seen.flags == {"rd", "ra"}


def test_edns_is_given_to_those_who_ask_with_it() -> None:
    asked = query(edns=4096)
    kept = reply("www.example. 60 A 192.0.2.1", asked)
    assert for_client(kept, asked).edns_size == 1232
    assert for_client(reply("www.example. 60 A 192.0.2.1"), query()).edns_size is None


@pytest.mark.parametrize(("edns", "room"), [(None, 512), (512, 512), (700, 700), (65535, 1232)])
def test_a_large_reply_is_cut_to_whole_records(edns: int | None, room: int) -> None:
    asked = query(edns=edns)
    kept = reply("\n".join(f"www.example. 60 A 192.0.2.{n}" for n in range(200)), asked)
    seen = for_client(kept, asked)
    assert room - 16 - 11 < len(seen.wire) <= room
    assert "tc" in seen.flags
    whole = for_client(kept, asked, udp=False)
    assert len(whole.answer) == 200
    assert "tc" not in whole.flags


@pytest.mark.parametrize("junk", [b"\x05ab", b"\xc0", b"\x80\0", b"\0\0\1\0\1\0\0\0\1\0\x09a"])
def test_a_broken_reply_is_an_error(junk: bytes) -> None:
    asked = query()
    head = struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0)
    with pytest.raises(FormatError):
        parse_reply(head + asked.question + junk, asked.question)


def test_questions_that_differ_in_what_matters_have_different_keys() -> None:
    same = [query(), query("WWW.example"), query(ident=5), query(edns=1232)]
    assert len({foreign_key(each) for each in same}) == 1
    different = [query(), query(qtype="AAAA"), query(cd=1), query("w.example")]
    assert len({foreign_key(each) for each in different}) == 4


def test_cache_forgets_by_age_and_by_use() -> None:
    one = reply("www.example. 60 A 192.0.2.1")
    cache = ForeignCache(one.size * 3)
    keys = [foreign_key(query(f"h{number}.example")) for number in range(4)]
    for key in keys[:3]:
        cache.put(key, one, 100.0)
    found = cache.get(keys[0], 159.5)
    assert found is not None
    assert (found.age, found.stale) == (59, False)
    cache.put(keys[3], one, 101.0)
    assert [cache.get(key, 102.0) is not None for key in keys] == [True, False, True, True]
    assert cache.bytes <= one.size * 3


def test_cache_keeps_what_is_over_for_a_day() -> None:
    cache = ForeignCache(1 << 20)
    key = foreign_key(query())
    cache.put(key, reply("www.example. 60 A 192.0.2.1"), 100.0)
    for now, stale in ((159.9, False), (160.0, True), (160 + 86399.0, True)):
        found = cache.get(key, now)
        assert found is not None
        assert found.stale is stale
        assert found.lasting
    assert cache.get(key, 160 + 86400.0) is None
    assert (len(cache), cache.bytes) == (0, 0)


def test_cache_remembers_failures_until_there_is_a_reply() -> None:
    cache = ForeignCache(1 << 20)
    key = foreign_key(query())
    cache.put(key, reply("www.example. 60 A 192.0.2.1"), 100.0)
    cache.note_failure(key, 170.0, 0)
    assert cache.failures.holds(key, 170.5, 0)
    assert cache.get(key, 170.5) is not None, "a stale reply stays"
    cache.put(key, reply("www.example. 0 A 192.0.2.1"), 170.6)
    assert not cache.failures.likely(key, 170.7, 0), "although the new reply is not kept"


def test_records_of_a_stale_reply_have_a_ttl_of_30_seconds() -> None:
    kept = reply("www.example. 60 A 192.0.2.1", authority="example. 5 NS ns.example.")
    seen = read_reply(b"\0\7" + kept.for_client(query(), 90, True, SETTINGS, stale=True))
    assert [row[2] for row in (*seen.answer, *seen.authority)] == [30, 30]


def test_cache_does_not_keep_what_has_no_lifetime() -> None:
    cache = ForeignCache(1 << 20)
    cache.put(foreign_key(query()), reply("www.example. 0 A 192.0.2.1"), 0.0)
    assert len(cache) == 0
