"""Order of answers, and what is left out where room is short."""

from __future__ import annotations

from collections import Counter

import pytest

from lb.settings import DnsSettings
from tests.support.dns import make_query, read_reply
from tests.support.dns_catalog import ask, instance, node, respond, responder, snapshot


def test_every_instance_comes_first_equally_often() -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, 6)]))
    firsts = Counter(ask(server, "web.service.consul", edns=1232).answer[0][3] for _ in range(500))
    assert len(firsts) == 5
    assert max(firsts.values()) - min(firsts.values()) <= 2


def test_clients_that_take_turns_do_not_each_get_an_instance_of_their_own() -> None:
    server = responder(snapshot([instance("web", 1), instance("web", 2)]))
    firsts = [ask(server, "web.service.consul").answer[0][3] for _ in range(200)]
    for client in (firsts[::2], firsts[1::2]):
        assert min(Counter(client).values()) > 25


def test_each_of_many_instances_is_given_sooner_or_later() -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, 61)]))
    given = {row[3] for _ in range(20_000) for row in ask(server, "web.service.consul").answer}
    assert len(given) == 60


@pytest.mark.parametrize(("count", "answers", "cut"), [(1, 1, False), (3, 3, False), (4, 3, True), (40, 3, True)])
def test_plain_udp_takes_three_answers(count: int, answers: int, cut: bool) -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, count + 1)]))
    seen = ask(server, "web.service.consul")
    assert (len(seen.answer), "tc" in seen.flags) == (answers, cut)
    assert len(ask(server, "web.service.consul", tcp=True).answer) == count


def test_edns_of_512_counts_as_plain() -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, 6)]))
    assert len(ask(server, "web.service.consul", edns=512).answer) == 3
    assert len(ask(server, "web.service.consul", edns=513).answer) == 5


@pytest.mark.parametrize("edns", [None, 0, 512, 600, 1000, 1232, 4096, 65535])
@pytest.mark.parametrize("qtype", ["A", "SRV", "ANY"])
def test_never_larger_than_the_client_allows(qtype: str, edns: int | None) -> None:
    members = [instance("web", number, node_meta={"rack": "r" * 60}) for number in range(1, 200)]
    seen = ask(responder(snapshot(members)), "web.service.consul", qtype, edns=edns)
    assert len(seen.wire) <= max(512, min(edns or 0, 1232))
    assert "tc" in seen.flags
    assert seen.answer
    assert "TXT" not in {row[1] for row in seen.additional}
    if qtype == "SRV":
        targets = {row[3].split()[-1] for row in seen.answer}
        assert {row[0] for row in seen.additional} == targets


def test_as_many_answers_as_fit_are_given() -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, 200)]))
    seen = ask(server, "web.service.consul", edns=1232)
    assert 1232 - 16 < len(seen.wire) <= 1232


def test_one_answer_with_too_much_beside_it_loses_that_and_not_itself() -> None:
    meta = {f"key{number}": "v" * 200 for number in range(10)}
    server = responder(snapshot([instance("web", 1, node_meta=meta)]))
    seen = ask(server, "web.service.consul", "SRV")
    assert [row[1] for row in (*seen.answer, *seen.additional)] == ["SRV", "A"]
    assert "tc" not in seen.flags


def test_a_node_with_much_text_is_cut_too() -> None:
    big = node("n1", "10.0.0.1", meta={f"key{number}": "v" * 200 for number in range(10)})
    server = responder(snapshot((), [big]))
    assert ask(server, "n1.node.consul").data == ["10.0.0.1"]
    seen = ask(server, "n1.node.consul", "TXT")
    assert len(seen.wire) <= 512
    assert "tc" in seen.flags
    assert len(ask(server, "n1.node.consul", "TXT", tcp=True).answer) == 10


def test_tc_can_be_turned_off() -> None:
    server = responder(snapshot([instance("web", number) for number in range(1, 9)]), DnsSettings(truncate=False))
    seen = ask(server, "web.service.consul")
    assert len(seen.answer) == 3
    assert "tc" not in seen.flags


def test_tcp_takes_what_64_kib_hold() -> None:
    members = [
        instance("web", number, node=f"node-{number}", node_address=f"10.0.{number >> 8}.{number & 255}")
        for number in range(1, 2001)
    ]
    seen = ask(responder(snapshot(members)), "web.service.consul", "SRV", tcp=True, edns=1232)
    assert 65_000 < len(seen.wire) <= 65_535
    assert len(seen.answer) == len(seen.additional) > 800
    assert "tc" in seen.flags


def test_ids_differ_and_the_rest_comes_from_the_cache() -> None:
    server = responder(snapshot([instance("web", 1)]))
    replies = [respond(server, make_query("web.service.consul", ident=ident)) for ident in (1, 2, 65535)]
    assert [reply[:2] for reply in replies if reply] == [b"\0\1", b"\0\2", b"\xff\xff"]
    assert len({reply[2:] for reply in replies if reply}) == 1
    assert len(server.udp.local) == 1


def test_names_in_a_reply_are_compressed_but_srv_targets_are_not() -> None:
    server = responder(snapshot([instance("web", 1)]))
    seen = ask(server, "web.service.consul", "SRV")
    target = b"\x02n1\x04node\x03dc1\x06consul\x00"
    assert seen.wire.count(target) == 1
    assert read_reply(seen.wire).additional[0][0] == "n1.node.dc1.consul."
