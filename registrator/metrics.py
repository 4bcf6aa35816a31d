"""`Registrator` as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from registrator.events import KINDS
from registrator.loop import Registrator
from registrator.stats import RESULTS, SIDES, WRITE_KINDS


class RegistratorCollector:
    """Gives the metrics of one registrator; an instance can be registered with a Prometheus registry."""

    def __init__(self, registrator: Registrator) -> None:
        self._registrator = registrator

    def collect(self) -> Iterator[Metric]:
        """Yield all `registrator_*` metrics as of now."""
        registrator, stats = self._registrator, self._registrator.stats
        yield GaugeMetricFamily(
            "registrator_docker_connected",
            "Whether Docker's events are being followed (1) or not (0).",
            int(stats.docker.connected),
        )
        yield GaugeMetricFamily(
            "registrator_consul_connected",
            "Whether the agent that services are registered with answers (1) or not (0).",
            int(stats.consul.connected),
        )
        yield GaugeMetricFamily("registrator_containers", "Containers that run.", registrator.containers)
        yield GaugeMetricFamily("registrator_services", "Services of ours that the agent has.", registrator.services)
        yield GaugeMetricFamily(
            "registrator_problems",
            "Things of containers that are not registered at present; /api/status names them.",
            len(registrator.problems),
        )
        resyncs = CounterMetricFamily(
            "registrator_resyncs", "How often all containers, or all services, were read.", labels=("side",)
        )
        for side in SIDES:
            resyncs.add_metric((side,), stats.resyncs[side])
        yield resyncs
        yield CounterMetricFamily("registrator_inspections", "Inspections of containers.", stats.inspections)
        events = CounterMetricFamily("registrator_events", "Docker's events, by type.", labels=("type",))
        for kind in KINDS:
            events.add_metric((kind,), stats.events[kind])
        yield events
        writes = CounterMetricFamily(
            "registrator_writes", "Writes to the agent; failed: it did not answer.", labels=("kind", "result")
        )
        for write in product(WRITE_KINDS, RESULTS):
            writes.add_metric(write, stats.writes[write])
        yield writes
