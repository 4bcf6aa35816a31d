"""`DnsStats` as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dnsserver.stats import DnsStats, Gauges


class DnsCollector:
    """Gives the metrics of one server; an instance can be registered with a Prometheus registry."""

    def __init__(self, stats: DnsStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield all `dns_*` metrics as of now."""
        gauges = self._stats.gauges()
        yield from self._replies(gauges)
        yield from self._forwarding(gauges)
        yield from self._asking()
        yield from self._trouble()
        yield GaugeMetricFamily("dns_tcp_connections", "TCP clients connected.", self._stats.tcp_open)
        yield CounterMetricFamily("dns_tcp_connections_accepted", "TCP clients accepted.", self._stats.tcp_accepted)
        yield GaugeMetricFamily(
            "dns_catalog_generation", "Catalog that is answered from; 0: none yet.", gauges.generation
        )

        yield GaugeMetricFamily(
            "dns_stale", "Whether no agent confirms the catalog now: 1, and 2 if it is too old to answer.", gauges.stale
        )

    def _replies(self, gauges: Gauges) -> Iterator[Metric]:
        cached = self._stats.cached + gauges.cached
        everything = self._stats.built + cached
        queries: Counter[tuple[str, str]] = Counter()
        rcodes: Counter[str] = Counter()
        truncated = 0
        for kind, count in everything.items():
            queries[kind.transport, kind.qtype] += count
            rcodes[kind.rcode] += count
            truncated += count if kind.truncated else 0
        asked = CounterMetricFamily("dns_queries", "Queries answered.", labels=("proto", "type"))
        for labels, count in queries.items():
            asked.add_metric(labels, count)
        yield asked
        replied = CounterMetricFamily("dns_replies", "Replies by rcode.", labels=("rcode",))
        for rcode, count in rcodes.items():
            replied.add_metric((rcode,), count)
        yield replied
        yield CounterMetricFamily("dns_truncated", "Replies with the TC flag.", truncated)
        yield CounterMetricFamily("dns_cache_hits", "Replies from the wire cache.", cached.total())
        yield CounterMetricFamily("dns_cache_misses", "Replies made for one query.", self._stats.built.total())
        yield GaugeMetricFamily("dns_cache_entries", "Queries in the wire cache.", gauges.entries)

    def _forwarding(self, gauges: Gauges) -> Iterator[Metric]:
        stats = self._stats
        asked = CounterMetricFamily(
            "dns_forwarded", "Questions to recursors; probe_*: asked by ourselves.", labels=("recursor", "result")
        )
        for labels, count in stats.forwarded.items():
            asked.add_metric(labels, count)
        yield asked
        up = GaugeMetricFamily("dns_recursor_up", "0: did not reply lately and is asked last.", labels=("recursor",))
        for recursor, state in gauges.recursors.items():
            up.add_metric((recursor,), state)
        yield up
        yield CounterMetricFamily(
            "dns_stale_answers",
            "Foreign replies past their time, while no recursor answers; the wire cache may repeat one for a second.",
            stats.foreign_stale,
        )
        yield CounterMetricFamily(
            "dns_foreign_cache_hits", "Foreign names answered from the cache.", stats.foreign_hits
        )
        yield CounterMetricFamily("dns_foreign_cache_misses", "Foreign names not in the cache.", stats.foreign_misses)
        yield CounterMetricFamily(
            "dns_failures_repeated",
            "Foreign names answered SERVFAIL without asking: all recursors had just failed on them.",
            stats.foreign_failures,
        )
        yield GaugeMetricFamily(
            "dns_failures_remembered", "Foreign questions that all recursors failed on lately.", gauges.foreign_failing
        )
        yield GaugeMetricFamily("dns_foreign_cache_entries", "Foreign replies kept.", gauges.foreign_entries)
        yield GaugeMetricFamily(
            "dns_foreign_cache_bytes", "Memory of foreign replies and failures, about.", gauges.foreign_bytes
        )
        yield GaugeMetricFamily(
            "dns_forwarded_in_flight", "Questions that recursors are being asked.", gauges.in_flight
        )

    def _asking(self) -> Iterator[Metric]:
        asked = CounterMetricFamily(
            "dns_agent_questions", "Questions for a Consul agent: queries, mesh, other datacenters.", labels=("result",)
        )
        for result, count in self._stats.agent.items():
            asked.add_metric((result,), count)
        yield asked

    def _trouble(self) -> Iterator[Metric]:
        refused = CounterMetricFamily("dns_refused", "Questions refused, by reason.", labels=("reason",))
        for reason, count in self._stats.refused.items():
            refused.add_metric((reason,), count)
        yield refused
        dropped = CounterMetricFamily(
            "dns_dropped", "Packets and connections without a proper answer.", labels=("reason",)
        )
        for reason, count in self._stats.dropped.items():
            dropped.add_metric((reason,), count)
        yield dropped
        limited = CounterMetricFamily(
            "dns_rate_limited",
            "Replies over a client's rate: slip sends it to TCP, drop is silence.",
            labels=("action",),
        )
        for action, count in self._stats.limited.items():
            limited.add_metric((action,), count)
        yield limited
        faults = CounterMetricFamily("dns_faults", "Bugs, by exception.", labels=("type",))
        for name, count in self._stats.faults.items():
            faults.add_metric((name,), count)
        yield faults
