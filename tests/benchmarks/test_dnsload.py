"""What DNS servers are asked, what they must answer, and how dnsperf's output is read."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import dnslib
import pytest

from benchmarks.macro import dnsload, namechanges
from benchmarks.macro.dnsload import ChangesDnsLoad, DnsLoad, UnseenDnsLoad
from benchmarks.macro.load import Count
from benchmarks.macro.names import Question, Record, answer_to, foreign_questions, mixed_questions, unseen
from benchmarks.macro.peer import Running
from benchmarks.macro.processes import BenchmarkError, Program
from benchmarks.macro.site import DNS_NAMES, Site, free_ports
from tests.benchmarks.examples import HOT, SITE
from tests.support.process import wait_until

DNSPERF = """
Statistics:
  Queries sent:         1000
  Queries completed:    990 (99.00%)
  Queries lost:         10 (1.00%)
  Response codes:       NOERROR 980 (98.99%), NXDOMAIN 10 (1.01%)
  Run time (s):         2.000000
  Queries per second:   495.000000
"""

MIXED = DnsLoad("dns-mixed", "mixed", "dns", "queries", "second", mixed_questions(), edns=True)
CHANGES = ChangesDnsLoad(
    "dns-changes", "", "dns", "queries", "second", mixed_questions(), edns=True, rate=500, peers=frozenset({"consul"})
)


def test_lost_questions_and_bad_answers_are_errors_and_no_work() -> None:
    assert HOT.parse(DNSPERF) == Count(work=980.0, seconds=2.0, errors=20, p99_ms=None)


def test_dnsperf_without_statistics_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="dnsperf printed no"):
        HOT.parse("Error: unable to connect\n")


def unseen_load() -> UnseenDnsLoad:
    return UnseenDnsLoad("dns-unseen", "", "dns", "queries", "second", mixed_questions(), edns=True)


def asked(command: list[str]) -> list[str]:
    """Return the lines of the file of questions that a dnsperf command names."""
    return Path(command[command.index("-d") + 1]).read_text().splitlines()


def site(work: Path) -> Site:
    return replace(SITE, work=work)


def test_addresses_and_places_of_every_service_are_asked_for_in_turn(tmp_path: Path) -> None:
    command = MIXED.command(site(tmp_path), 5300, seconds=1)
    lines = asked(command)
    assert lines[:3] == ["svc0.service.consul A", "svc0.service.consul SRV", "svc1.service.consul A"]
    assert len(set(lines)) == len(lines) == 2 * DNS_NAMES
    assert "-e" in command
    assert "-e" not in HOT.command(site(tmp_path), 5300, seconds=1)


def test_no_unseen_question_is_asked_twice_in_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsload, "UNSEEN_RATE", 9000)
    load = unseen_load()
    lines = [" ".join(question) for question in load.samples()]
    for _ in range(3):
        command = load.command(site(tmp_path), 5300, seconds=1)
        assert command[-2:] == ["-n", "1"]  # the file is not begun anew at its end
        lines += asked(command)
    known = asked(MIXED.command(site(tmp_path), 5300, seconds=1))
    assert len({*lines, *known}) == len(lines) + len(known)
    assert {line.lower() for line in lines} == {line.lower() for line in known}


def test_letters_are_in_upper_case_where_the_pattern_has_a_bit() -> None:
    questions = [Question("a1.bc", "A")]
    names = [unseen(questions, number).name for number in range(4)]
    assert names == ["A1.bc", "a1.Bc", "A1.Bc", "a1.bC"]


def test_the_answers_are_those_of_consul_for_instances_with_addresses_of_their_own() -> None:
    assert {record.data for record in answer_to(Question("SVC1.service.consul", "SRV"))} == {
        "1 1 8080 0a010002.addr.dc1.consul.",
        "1 1 8080 0a020002.addr.dc1.consul.",
        "1 1 8080 0a030002.addr.dc1.consul.",
    }
    assert answer_to(Question("0a010002.addr.dc1.consul", "A")) == {Record("0a010002.addr.dc1.consul", "A", "10.1.0.2")}


def test_names_behind_a_recursor_are_asked_for_only_where_there_is_one() -> None:
    load = DnsLoad("f", "", "dns", "queries", "second", foreign_questions(), needs_recursor=True)
    assert "unbound" in load.needs
    assert "unbound" not in MIXED.needs


def lines_of_answers(*latencies: float) -> str:
    return "".join(f"> NOERROR svc{n}.service.consul SRV {latency:.6f}\n" for n, latency in enumerate(latencies))


def test_latencies_are_read_from_the_lines_of_answers() -> None:
    output = lines_of_answers(*(n / 1e4 for n in range(1, 101))) + "> T svc7.service.consul A\n"
    count = CHANGES.parse(output + DNSPERF)
    assert (count.p50_ms, count.p99_ms) == (5.0, 9.9)
    assert (count.work, count.errors) == (980, 20)


def test_what_was_not_asked_in_time_is_an_error() -> None:
    load = replace(CHANGES, rate=1000)  # of 2,000 questions, 1,000 were asked
    assert load.parse(lines_of_answers(0.001) + DNSPERF).errors == 20 + 900


def test_answers_without_latencies_are_an_error() -> None:
    with pytest.raises(BenchmarkError, match="no latencies"):
        CHANGES.parse(DNSPERF)


@dataclass
class Catalog:
    """A stand-in of Consul: what was registered beside what is always there, and how often that changed."""

    added: dict[str, Record] = field(default_factory=dict)
    changes: int = 0

    def change(self, path: str, body: dict[str, Any]) -> None:
        self.changes += 1
        if path == "/v1/catalog/register":
            service = body["Service"]
            assert service["ID"] not in self.added
            self.added[service["ID"]] = Record(f"{service['Service']}.service.consul", "A", service["Address"])
        else:
            del self.added[body["ServiceID"]]

    def answer(self, query: dnslib.DNSRecord) -> dnslib.DNSRecord:
        question = Question(str(query.q.qname).rstrip("."), dnslib.QTYPE[query.q.qtype])
        more = {record for record in self.added.values() if record[:2] == question}
        reply = query.reply()
        for _, kind, data in answer_to(question) | more:
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 0 IN {kind} {data}"))
        return reply


@contextmanager
def agent(catalog: Catalog) -> Iterator[int]:
    """Serve the HTTP API that changes the catalog; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            catalog.change(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def dns_server(answer: Callable[[dnslib.DNSRecord], dnslib.DNSRecord]) -> Iterator[int]:
    """Answer queries over UDP; yield the port."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while packet := sock.recvfrom(4096):
                if not packet[0]:
                    return
                sock.sendto(answer(dnslib.DNSRecord.parse(packet[0])).pack(), packet[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", sock.getsockname())
        thread.join()


def running(dns_port: int, agent_port: int | None = None) -> Running:
    return Running(cast("Program", None), {"dns": dns_port}, agent=agent_port)


def empty(query: dnslib.DNSRecord) -> dnslib.DNSRecord:
    return query.reply()


def test_only_a_server_with_the_right_answers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with dns_server(Catalog().answer) as port, MIXED.around(running(port)), unseen_load().around(running(port)):
        pass
    monkeypatch.setattr(dnsload, "PATIENCE", 0.1)
    with (
        dns_server(empty) as port,
        pytest.raises(BenchmarkError, match=r"answer to svc0\.service\.consul A"),
        MIXED.around(running(port)),
    ):
        pytest.fail("it was measured")


def test_the_catalog_changes_meanwhile_and_is_left_as_it_was() -> None:
    catalog = Catalog()
    load = replace(CHANGES, every=0.001)
    with dns_server(catalog.answer) as port, agent(catalog) as http, load.around(running(port, http)):
        wait_until(lambda: catalog.changes >= 20)
    assert catalog.changes % 2 == 0
    assert not catalog.added


def test_a_server_that_does_not_follow_the_changes_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namechanges, "PATIENCE", 0.1)
    catalog = Catalog()
    with (
        dns_server(Catalog().answer) as port,
        agent(catalog) as http,
        pytest.raises(BenchmarkError, match=r"answer to svc\d+"),
        CHANGES.around(running(port, http)),
    ):
        pass


def test_changes_that_the_agent_does_not_take_are_an_error() -> None:
    (closed,) = free_ports(1)
    with (
        dns_server(Catalog().answer) as port,
        pytest.raises(BenchmarkError, match="did not take /v1/catalog/register"),
        CHANGES.around(running(port, closed)),
    ):
        pass
