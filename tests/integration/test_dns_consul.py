"""The same questions to a real Consul and to our server over the same catalog: the replies are alike."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest

from lb.catalog.asking import AgentAsker
from lb.settings import ConsulSettings, DnsSettings
from tests.support.consul import Consul, running_consul
from tests.support.dns_compare import WANTED, unwanted
from tests.support.dns_questions import Ask, generate
from tests.support.dns_rich import Putter, add_queries, fill, read_snapshot
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import wait_until

QUESTIONS = generate(1)
TTLS = DnsSettings(
    listen=LOOPBACK, ttl=7, service_ttls=(("web", 11), ("chain*", 13), ("c*", 17)), node_ttl=19, only_passing=True
)
TTL_CONFIG = {
    "dns_config": {
        "service_ttl": {"*": "7s", "web": "11s", "chain*": "13s", "c*": "17s"},
        "node_ttl": "19s",
        "only_passing": True,
    }
}


@pytest.fixture(scope="module")
def datacenters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Consul, Consul]]:
    """Two datacenters that know one another, each with the catalog; the second has TTLs."""
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(running_consul(tmp_path_factory.mktemp(dc), datacenter=dc, config=config))
            for dc, config in (("dc1", {}), ("dc2", TTL_CONFIG))
        )
        two.put(f"/v1/agent/join/127.0.0.1:{one.ports['serf_wan']}", wan=1)
        for consul in (one, two):
            fill(consul)
            add_queries(consul)
        Putter(two)("n4", "only-dc2", address="10.9.0.1")
        for consul, other in ((one, "dc2"), (two, "dc1")):
            question = Ask(f"many.service.{other}.consul", edns=1232)
            wait_until(functools.partial(answers, consul, question), what="Consul answers for both datacenters")
        yield one, two


def answers(consul: Consul, question: Ask) -> bool:
    """Whether Consul has answers to a question."""
    seen = question.send(consul.dns_port)
    return seen is not None and bool(seen.answer)


@contextlib.contextmanager
def our_server(consul: Consul, settings: DnsSettings) -> Iterator[RunningDns]:
    """Our server over the catalog of an agent, which it asks for the rest."""
    asker = AgentAsker(ConsulSettings(agents=(consul.url,)))
    with running_dns(settings, read_snapshot(consul), ask=asker.ask) as running:
        yield running
        running.run(asker.close())


@pytest.fixture(scope="module")
def our_port(datacenters: tuple[Consul, Consul]) -> Iterator[int]:
    with our_server(datacenters[0], DnsSettings(listen=LOOPBACK)) as running:
        yield running.port


def test_there_are_enough_questions() -> None:
    assert len(QUESTIONS) >= 300
    assert sum(question.tcp for question in QUESTIONS) >= 100


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_replies_are_alike(datacenters: tuple[Consul, Consul], our_port: int, question: Ask) -> None:
    assert differences(datacenters[0], our_port, question) == []


def test_ttls_and_only_passing_are_alike(datacenters: tuple[Consul, Consul]) -> None:
    with our_server(datacenters[1], TTLS) as running:
        found = {str(ask): differences(datacenters[1], running.port, ask) for ask in generate(2, "dc2", "dc1")}
    assert {ask: different for ask, different in found.items() if different} == {}


def test_every_difference_on_the_list_shows(datacenters: tuple[Consul, Consul], our_port: int) -> None:
    shown: set[str] = set()
    with our_server(datacenters[1], TTLS) as running:
        for ask in QUESTIONS:
            differences(datacenters[0], our_port, ask, shown)
        for ask in generate(2, "dc2", "dc1"):
            differences(datacenters[1], running.port, ask, shown)
    assert {wanted.reason for wanted in WANTED} - shown == set()


@pytest.mark.parametrize("name", ["wordy.node.consul", "lengthy.service.consul"])
def test_we_reply_where_consul_is_silent(datacenters: tuple[Consul, Consul], our_port: int, name: str) -> None:
    question = Ask(name, "SRV" if "service" in name else "TXT", edns=1232)
    assert question.send(datacenters[0].dns_port, timeout=0.5) is None
    ours = question.send(our_port)
    assert ours is not None
    assert (ours.rcode, len(ours.answer)) == ("NOERROR", 1)


def differences(consul: Consul, our_port: int, question: Ask, shown: set[str] | None = None) -> list[str]:
    """Ask both, and return what is different and not wanted."""
    ours = question.send(our_port)
    assert ours is not None
    return unwanted(question, question.send(consul.dns_port, timeout=1), ours, shown)
