"""What all workers have counted, and the programs before this one."""

from __future__ import annotations

from dnsserver.stats import DnsTotals
from lb.observe.reports import LogReporter, LogTotals
from lb.observe.stats import Stats
from lb.workers.channel import Body


class Totals:
    """Sums of reports; what is active is kept by the number of the worker that told it, while it lives."""

    def __init__(self) -> None:
        self.stats = Stats(reporting=True)  # to the next program, one day
        self.dns = DnsTotals()
        self.log = LogTotals()
        self._log_reporter = LogReporter(self.log)

    def add(self, counts: Body, worker: int) -> None:
        """Add what was counted elsewhere, by a worker of this number. Raises ReportError."""
        if counts["stats"] is not None:
            self.stats.add(counts["stats"], worker)
        if counts["dns"] is not None:
            self.dns.add(counts["dns"], worker)
        if counts["log"] is not None:
            self.log.add(counts["log"])

    def forget(self, worker: int) -> None:
        """Take away what was active in a worker that has gone."""
        self.stats.forget(worker)
        self.dns.forget(worker)

    def take(self) -> Body:
        """Return what was counted since the last call, for `add` in another program."""
        return {"stats": self.stats.changes(), "dns": self.dns.changes(), "log": self._log_reporter.changes()}
