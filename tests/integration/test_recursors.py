"""Real recursors behind the server: unbound for all names, dnsmasq for those of one suffix."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lb.settings import Address, DnsSettings, ForwardRule
from tests.support.consul import require
from tests.support.dns import Seen, ask_tcp, ask_udp, make_query, read_reply
from tests.support.dns_server import LOOPBACK, RunningDns, running_dns
from tests.support.process import free_ports, running, wait_until
from tests.support.recursor import CATALOG

UNBOUND = """\
server:
  interface: 127.0.0.1
  port: {port}
  directory: "{work}"
  pidfile: "{work}/unbound.pid"
  username: ""
  chroot: ""
  use-syslog: no
  module-config: "iterator"
  local-zone: "example." static
  local-data: "example. 300 IN SOA ns.example. host.example. 1 3600 600 86400 60"
  local-data: "www.example. 300 IN A 192.0.2.1"
  local-data: "www.example. 300 IN AAAA 2001:db8::1"
  local-data: "short.example. 1 IN A 192.0.2.2"
  local-data: "alias.example. 300 IN CNAME www.example."
  local-data: "mail.example. 300 IN MX 10 www.example."
  local-data: 'text.example. 300 IN TXT "some text" "and more"'
  local-data: "_sip._tcp.example. 300 IN SRV 1 2 5060 www.example."
  local-zone: "refused." refuse
  local-zone: "." static
  local-data: ". 300 IN SOA ns.example. host.example. 1 3600 600 86400 60"
{many}
"""
MANY = 150

QUESTIONS = [
    *((f"{name}.example", qtype) for name in ("www", "WwW", "alias", "nosuch") for qtype in ("A", "AAAA", "TXT")),
    ("mail.example", "MX"),
    ("text.example", "TXT"),
    ("_sip._tcp.example", "SRV"),
    ("example", "SOA"),
    ("many.example", "A"),
]


class Recursors(NamedTuple):
    """An unbound, which can be stopped and continued, and a dnsmasq."""

    unbound: Address
    process: subprocess.Popen[bytes]
    dnsmasq: Address


@pytest.fixture(scope="module")
def recursors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recursors]:
    unbound = require("unbound", "a recursor to forward to")
    dnsmasq = require("dnsmasq", "a recursor to forward to")
    work = tmp_path_factory.mktemp("recursors")
    first, second = (Address("127.0.0.1", port) for port in free_ports(2))
    many = "\n".join(f'  local-data: "many.example. 300 IN A 198.51.100.{number}"' for number in range(MANY))
    config = work / "unbound.conf"
    config.write_text(UNBOUND.format(port=first.port, work=work, many=many))
    dnsmasq_argv = [
        *(
            dnsmasq,
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            f"--port={second.port}",
        ),
        *("--listen-address=127.0.0.1", "--bind-interfaces", f"--pid-file={work}/dnsmasq.pid", "--user=root"),
        *("--local=/corp.test/", "--host-record=www.corp.test,10.1.1.1,300"),
    ]
    with (
        running([unbound, "-d", "-c", config], log=work / "unbound.log") as process,
        running(dnsmasq_argv, log=work / "dnsmasq.log"),
    ):
        for place, name in ((first, "www.example"), (second, "www.corp.test")):
            wait_until(lambda place=place, name=name: direct(place, name).answer, what=f"{place} answers")  # type: ignore[misc]
        yield Recursors(first, process, second)


def direct(place: Address, name: str) -> Seen:
    return read_reply(ask_udp(place.port, make_query(name), timeout=1.0))


def forwarding(recursors: Recursors, timeout: float = 2.0) -> DnsSettings:
    rules = (ForwardRule("corp.test", recursors.dnsmasq),)
    return DnsSettings(listen=LOOPBACK, recursors=(recursors.unbound,), forward=rules, recursor_timeout=timeout)


def ours(dns: RunningDns, name: str, edns: int | None = None) -> Seen:
    return read_reply(ask_udp(dns.port, make_query(name, edns=edns)))


def said(seen: Seen) -> tuple[object, ...]:
    """What two replies have in common where one is the other, passed on."""
    return seen.rcode, sorted(seen.answer), sorted(seen.authority)


@pytest.mark.parametrize(("name", "qtype"), QUESTIONS)
def test_answers_are_the_recursors_own(recursors: Recursors, name: str, qtype: str) -> None:
    query = make_query(name, qtype)
    with running_dns(forwarding(recursors), CATALOG) as dns:
        fresh, cached = (read_reply(ask_tcp(dns.port, query)) for _ in range(2))
        assert said(fresh) == said(cached) == said(read_reply(ask_tcp(recursors.unbound.port, query)))
        assert dns.stats.forwarded.total() == 1


def test_a_reply_that_unbound_truncates_is_fetched_over_tcp(recursors: Recursors) -> None:
    with running_dns(forwarding(recursors), CATALOG) as dns:
        seen = ours(dns, "many.example", edns=1232)
        assert "tc" in seen.flags
        assert len(seen.wire) <= 1232
        whole = read_reply(ask_tcp(dns.port, make_query("many.example")))
        assert (len(whole.answer), "tc" in whole.flags) == (MANY, False)


def test_names_under_a_suffix_come_from_dnsmasq(recursors: Recursors) -> None:
    with running_dns(forwarding(recursors), CATALOG) as dns:
        assert ours(dns, "www.corp.test").answer == (("www.corp.test.", "A", 300, "10.1.1.1"),)
        assert ours(dns, "nosuch.corp.test").rcode == "NXDOMAIN"
        assert ours(dns, "www.example").data == ["192.0.2.1"]
        assert ours(dns, "web.service.consul").data == ["10.0.0.1"]
        assert dns.stats.forwarded == {(str(recursors.dnsmasq), "ok"): 2, (str(recursors.unbound), "ok"): 1}


def test_what_unbound_refuses_is_servfail(recursors: Recursors) -> None:
    with running_dns(forwarding(recursors), CATALOG) as dns:
        assert ours(dns, "www.refused").rcode == "SERVFAIL"
        assert dns.stats.gauges().recursors[str(recursors.unbound)] == 1


def test_a_stopped_recursor_leaves_stale_answers_and_comes_back(recursors: Recursors) -> None:
    with running_dns(forwarding(recursors, timeout=0.3), CATALOG) as dns:
        assert ours(dns, "short.example").answer[0][2] <= 1
        recursors.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: ours(dns, "short.example").answer[0][2] == 30, what="a stale answer")
            assert ours(dns, "never.example").rcode == "SERVFAIL"
            assert ours(dns, "www.corp.test").data == ["10.1.1.1"]
            assert dns.stats.gauges().recursors[str(recursors.unbound)] == 0
        finally:
            recursors.process.send_signal(signal.SIGCONT)
        wait_until(lambda: dns.stats.gauges().recursors[str(recursors.unbound)], what="the recursor is up")
        wait_until(lambda: ours(dns, "short.example").answer[0][2] <= 1, what="fresh answers")
        assert ours(dns, "never.example").rcode == "NXDOMAIN"
