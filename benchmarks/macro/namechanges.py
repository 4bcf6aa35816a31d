"""Changes of services that are asked for by DNS name, at a constant rate, and whether a DNS server follows them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from threading import Event

from benchmarks.macro import probes
from benchmarks.macro.catalog import DNS_NODE, DNS_NODE_ADDRESS, named_instance
from benchmarks.macro.changes import Change, Changer
from benchmarks.macro.names import Question, Record, answer_to
from benchmarks.macro.site import DNS_NAMES, ORIGINS, dns_address, dns_name

PATIENCE = 2.0
"""Seconds in which a peer must have followed a change."""


def name_changes() -> Iterator[Change]:
    """Yield changes without end: one more instance of the first service comes, and goes; then the second's; and on."""
    for number in count():
        service = named_instance(number % DNS_NAMES, ORIGINS)
        node = {"Node": DNS_NODE, "Address": DNS_NODE_ADDRESS, "SkipNodeUpdate": True}
        yield Change("/v1/catalog/register", {**node, "Service": service})
        yield Change("/v1/catalog/deregister", {"Node": DNS_NODE, "ServiceID": service["ID"]})


@contextmanager
def changing_names(agent: int, port: int, every: float) -> Iterator[None]:
    """Make a change each `every` seconds at the agent on HTTP port `agent`, and leave the catalog as it was.

    Raises `BenchmarkError` when one is not made, or when the DNS server on `port` does not follow the last ones.
    """
    with closing(Changer(agent, name_changes())) as changer, ThreadPoolExecutor(1, "changer") as thread:
        ended = Event()
        changing = thread.submit(_make_changes, changer, every, ended)
        try:
            yield
        finally:
            ended.set()
        changing.result()
        if changer.made % 2 == 0:
            changer.advance(changer.made + 1)
        question = Question(dns_name(changer.made // 2 % DNS_NAMES), "A")
        more = Record(*question, dns_address(changer.made // 2 % DNS_NAMES, ORIGINS))
        known = answer_to(question)
        probes.expect_answers(port, {question: known | {more}}, edns=True, patience=PATIENCE)
        changer.advance(changer.made + 1)
        probes.expect_answers(port, {question: known}, edns=True, patience=PATIENCE)


def _make_changes(changer: Changer, every: float, ended: Event) -> None:
    begin = time.monotonic()
    while not ended.wait(max(0.0, begin + (changer.made + 1) * every - time.monotonic())):
        changer.advance(changer.made + 1)
