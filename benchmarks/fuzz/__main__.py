"""Hostile DNS packets by the million: does a bug show, does a reply break a rule, does memory grow?

`python -m benchmarks.fuzz --help`. Exits with 1 when one does; the packet that did it, or how memory grew, is told.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.support.dns_fuzz import FuzzRun
from tests.support.family import resident_bytes

STEP = 50_000
"""Packets between two lines of progress."""

MOST_GROWTH = 16 << 20
"""Octets by which memory may differ between a quarter of the way, when all caches are full, and the end."""

MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is well, 1 when it is not."""
    options = _parse(argv)
    run = FuzzRun(options.seed)
    began = time.monotonic()
    early = 0
    sent = 0
    while sent < options.packets:
        step = min(STEP, options.packets - sent)
        try:
            run.send(step)
        except AssertionError as error:
            print(f"fuzz: seed {options.seed}: {error.__cause__!r}\n{error}", file=sys.stderr)
            return 1
        sent += step
        resident = resident_bytes(os.getpid())
        print(f"{sent} packets, {run.tally.silent} without a reply, {resident // MIB} MiB", flush=True)
        if not early and sent >= options.packets / 4:
            early = resident
    print(f"replies by rcode: {dict(sorted(run.tally.rcodes.items()))}, the largest of {run.tally.largest} octets")
    print(f"{sent / (time.monotonic() - began):.0f} packets a second, seed {options.seed}")
    growth = resident_bytes(os.getpid()) - early
    if growth > MOST_GROWTH:
        print(f"fuzz: memory grew by {growth // MIB} MiB in the last three quarters", file=sys.stderr)
        return 1
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description="Send hostile DNS packets.")
    parser.add_argument("--packets", type=int, default=1_000_000, help="how many (1000000)")
    parser.add_argument("--seed", type=int, default=1, help="what the packets follow from (1)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
