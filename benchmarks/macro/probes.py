"""Questions with known answers: a peer is measured only once it gives them."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping

import dnslib

from benchmarks.macro.names import Question, Record, answer_to
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import DNS_NAMES, HOST, SMALL_REPLY, dns_name

TIMEOUT = 2.0
"""Seconds for one question."""

EDNS_SIZE = 4096
"""Octets of a reply that a question with EDNS allows, as dnsperf's do."""


def http_reply(port: int, host: str = HOST, text: str = SMALL_REPLY) -> bool:
    """Tell whether the service of that host name answers `text` on the port; raise OSError when nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and answer.read().decode() == text
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def dns_names(port: int) -> bool:
    """Tell whether the first and the last name get their addresses; raise OSError when nothing listens."""
    questions = [Question(dns_name(index), "A") for index in (0, DNS_NAMES - 1)]
    return all(dns_answer(port, question) == answer_to(question) for question in questions)


def expect_answers(port: int, expected: Mapping[Question, frozenset[Record]], *, edns: bool, patience: float) -> None:
    """Return once each question gets the records that are expected; raise `BenchmarkError` after `patience` seconds."""
    end = time.monotonic() + patience
    for question, records in expected.items():
        while (answer := _answer_or_error(port, question, edns)) != records:
            if time.monotonic() > end:
                raise BenchmarkError(f"the answer to {question.name} {question.kind} is {answer}, and not {records}")
            time.sleep(0.01)


def _answer_or_error(port: int, question: Question, edns: bool) -> frozenset[Record] | OSError:
    try:
        return dns_answer(port, question, edns=edns)
    except OSError as error:
        return error


def dns_answer(port: int, question: Question, *, edns: bool = False) -> frozenset[Record]:
    """Return the answer section of the reply, owners in lower case; raise OSError when there is none."""
    query = dnslib.DNSRecord.question(*question)
    if edns:
        query.add_ar(dnslib.EDNS0(udp_len=EDNS_SIZE))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port))
        sock.send(query.pack())
        reply = dnslib.DNSRecord.parse(sock.recv(EDNS_SIZE))
    return frozenset(
        Record(str(record.rname).rstrip(".").lower(), dnslib.QTYPE[record.rtype], str(record.rdata))
        for record in reply.rr
    )
