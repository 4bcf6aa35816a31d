"""The page of metrics: Prometheus or OpenMetrics text of all metric families, made when a scrape asks.

A catalog of thousands of services makes a page of megabytes. So `Metrics.stream` gives it in pieces, between
which the caller lets its loop go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lb.catalog.model import Problem
from lb.observe import families
from lb.observe.shapes import LogCounts
from lb.observe.stats import Stats
from lb.observe.views import CatalogView, EndpointView, WorkersView

Families = Callable[[], Iterable[Metric]]

_OPEN_METRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"


class Metrics:
    """The page behind `/metrics`.

    `endpoints`, `catalog`, `problems` and `workers` are asked at each scrape; `extra` are further collectors, the DNS
    server's for one. `endpoints` may be a generator, but the loop goes on between its steps: it must not
    iterate over what changes meanwhile.
    """

    def __init__(
        self,
        stats: Stats,
        *,
        version: str,
        endpoints: Callable[[], Iterable[EndpointView]],
        catalog: Callable[[], CatalogView],
        problems: Callable[[], Iterable[Problem]],
        access_log: LogCounts | None = None,
        workers: Callable[[], WorkersView] | None = None,
        extra: Sequence[Families] = (),
    ) -> None:
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        PlatformCollector(registry=process)
        GCCollector(registry=process)
        self._sources: list[Families] = [
            lambda: families.build_info(version),
            lambda: families.http(stats),
            lambda: families.tcp(stats),
            lambda: families.tls(stats),
            lambda: families.listeners(stats),
            lambda: families.endpoints(endpoints()),
            lambda: families.catalog(catalog()),
            lambda: families.problems(problems()),
            *extra,
            process.collect,
        ]
        if access_log is not None:
            self._sources.append(lambda: families.access_log(access_log))
        if workers is not None:
            self._sources.append(lambda: families.workers(workers()))

    def stream(self, accept: str = "") -> tuple[Iterator[bytes], str]:
        """Give the page in pieces and its content type: OpenMetrics if `accept` asks for it, else plain."""
        encode, content_type = choose_encoder(accept)
        return self._pieces(encode, open_metrics=content_type.startswith(_OPEN_METRICS)), content_type

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Give the whole page and its content type."""
        pieces, content_type = self.stream(accept)
        return b"".join(pieces), content_type

    def collect(self) -> Iterator[Metric]:
        """Give all families; large ones in several pieces of the same name, one after the other."""
        for source in self._sources:
            yield from source()

    def _pieces(self, encode: Callable[[Collector], bytes], *, open_metrics: bool) -> Iterator[bytes]:
        last = ""
        for family in self.collect():
            text = encode(_One(family))
            if open_metrics:
                text = text.removesuffix(_EOF)
            if family.name == last:
                text = _without_metadata(text)
            last = family.name
            yield text
        if open_metrics:
            yield _EOF


class _One(Collector):
    """A registry of one family, for prometheus-client's encoders."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _without_metadata(text: bytes) -> bytes:
    """Take the HELP and TYPE lines away. No sample begins with `#`: line feeds in labels are escaped."""
    return b"\n".join(line for line in text.split(b"\n") if not line.startswith(b"#"))
