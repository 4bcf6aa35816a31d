"""The scenario to the letter: three hosts, their parts checked with real clients, then faults under load.

`python -m tests.scenario --help`. Needs root. Exits with 1 when a step failed, with 2 when the hosts could not be made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.scenario.faults import change
from tests.scenario.host import CommandError
from tests.scenario.parts import PARTS
from tests.scenario.site import Site, three_hosts
from tests.scenario.table import Report

CHANGE = "5"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = _parse(argv)
    report = Report(_tell)
    try:
        with three_hosts(lambda what: _tell(f"starting {what}")) as site:
            _run(site, report, options.only)
            _tell(f"\n{report.summary()}")
            if options.keep:
                _wait(site)
    except KeyboardInterrupt:
        _tell("interrupted; everything was removed")
        return 130
    except CommandError as error:
        print(f"scenario: {error}", file=sys.stderr)
        return 2
    return 0 if report.passed else 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.scenario", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*PARTS, CHANGE], help="this part alone; may repeat")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    return parser.parse_args(argv)


def _run(site: Site, report: Report, only: Sequence[str] | None) -> None:
    for number, part in sorted({**PARTS, CHANGE: change}.items()):
        if not only or number in only:
            part(site, report)


def _wait(site: Site) -> None:
    """Leave everything up until Ctrl-C."""
    for place in (site.client.host, *site.hosts.values()):
        _tell(f"{place}: {' '.join(place.enter('bash'))}")
    _tell("Ctrl-C ends it.")
    while True:
        time.sleep(3600)


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
