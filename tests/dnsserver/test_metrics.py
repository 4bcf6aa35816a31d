from __future__ import annotations

from prometheus_client import CollectorRegistry

from dnsserver.metrics import DnsCollector
from dnsserver.stats import DnsStats
from dnsserver.zone import Zone
from lb.settings import DnsSettings
from tests.support.dns import make_query
from tests.support.dns_catalog import SERIAL, ask, instance, respond, responder, snapshot


def test_all_replies_are_counted_cached_or_not() -> None:
    stats = DnsStats()
    catalog = snapshot([instance("web", number) for number in range(1, 6)])
    server = responder(catalog, stats=stats)
    registry = CollectorRegistry()
    registry.register(DnsCollector(stats))
    for _ in range(10):
        ask(server, "web.service.consul")
    for _ in range(5):
        ask(server, "nosuch.service.consul", "SRV", tcp=True)
    respond(server, make_query("web.service.consul")[:-1])
    respond(server, b"")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for _ in range(2):
        assert value("dns_queries_total", proto="udp", type="A") == 10
        assert value("dns_queries_total", proto="tcp", type="SRV") == 5
        assert value("dns_queries_total", proto="udp", type="other") == 1
        assert value("dns_replies_total", rcode="NOERROR") == 10
        assert value("dns_replies_total", rcode="NXDOMAIN") == 5
        assert value("dns_replies_total", rcode="FORMERR") == 1
        # Of several answers, orders are kept from the second question on.
        assert value("dns_cache_hits_total") == 12
        assert value("dns_cache_misses_total") == 4
        assert value("dns_truncated_total") == 10
        assert value("dns_dropped_total", reason="not_a_query") == 1
        # A new catalog empties the caches; what they counted stays.
        server.apply(Zone(catalog, DnsSettings(), SERIAL))
    assert value("dns_cache_entries") == 0
    assert value("dns_catalog_generation") == 1


def test_types_of_strangers_do_not_become_labels() -> None:
    stats = DnsStats()
    server = responder(snapshot(), stats=stats)
    query = make_query("web.service.consul")
    for qtype in range(1000, 1100):
        respond(server, query[:-4] + qtype.to_bytes(2, "big") + query[-2:])
    assert {kind.qtype for kind in stats.built} == {"other"}
