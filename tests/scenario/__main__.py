"""The scenario to the letter: three hosts, their parts checked with real clients, then faults under load.

`python -m tests.scenario --help`. It needs root, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence

from tests.scenario.faults import change
from tests.scenario.needs import Unavailable, missing
from tests.scenario.parts import PARTS
from tests.scenario.site import Site, three_hosts
from tests.scenario.table import Report, Row

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals on which everything is cleared away."""

CHANGE = "5"
"""The part that comes last: it leaves other versions of the samples behind."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0: all is as expected, 1: a step failed, 2: nothing could be run, 130: Ctrl-C."""
    options = _parse(argv)
    if lacks := missing():
        print(f"scenario: this machine lacks {', '.join(lacks)}", file=sys.stderr)
        return 2
    for number in ENDS:
        signal.signal(number, _interrupt)
    report = Report(_tell)
    try:
        with three_hosts(lambda what: _tell(f"starting {what}")) as site:
            _run(site, report, options.only)
            _tell(f"\n{report.summary()}")
            if options.keep:
                _stay(site)
    except KeyboardInterrupt:
        _tell("interrupted; everything was removed")
        return 130
    except (AssertionError, Unavailable) as error:
        print(f"scenario: {error}", file=sys.stderr)
        return 2
    return 0 if report.passed else 1


def _interrupt(*_: object) -> None:
    """End once: a second signal must not stop the clearing away."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.scenario", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*PARTS, CHANGE], help="this part alone; may repeat")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    return parser.parse_args(argv)


def _run(site: Site, report: Report, only: Sequence[str] | None) -> None:
    """Go through the parts; one that cannot go on is a step that failed, and the next one begins."""
    for number, part in {**PARTS, CHANGE: change}.items():
        if only and number not in only:
            continue
        begin = time.monotonic()
        try:
            part(site, report)
        except AssertionError as error:
            report.add(Row(f"part {number} goes on", "", str(error), time.monotonic() - begin, passed=False))


def _stay(site: Site) -> None:
    """Leave everything up until Ctrl-C, which is no failure then."""
    for host in (site.client.host, *site.hosts.values()):
        _tell(f"{host}: {' '.join(host.enter('bash'))}")
    for name, engine in site.engines.items():
        _tell(f"docker of {name}: docker --host unix://{engine.socket}")
    _tell("Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
