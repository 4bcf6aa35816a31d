"""Minutes of load, catalog changes, upgrades and killed workers: does consul-edge lose anything, does it grow?

`python -m benchmarks.soak --help`. Exits with 1 when there were errors that no killed worker explains, or when memory,
descriptors or processes grew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import cycle

import uvloop

from benchmarks.macro.processes import BenchmarkError, allow_open_files
from benchmarks.macro.site import make_work_folder
from benchmarks.soak import churn
from benchmarks.soak.clients import Client, ConnectingClient, EchoClient, HttpClient, TransferClient
from benchmarks.soak.disturb import Admin, Disturber
from benchmarks.soak.ground import END_MARGIN, Ground, log_tail, prepare, read, require_running, wait_ended
from benchmarks.soak.judgement import Reading, complaints, floors, summary
from benchmarks.soak.ledger import Failure, Ledger
from benchmarks.soak.names import TcpClient, UdpClient

DRAIN_TIMEOUT = 20
"""Seconds that an old program may take to drain: longer than a transfer, shorter than the time between upgrades."""

PROGRESS_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is well, 1 when it is not, 2 when nothing could be run, 130 after Ctrl-C."""
    options = _parse(argv)
    allow_open_files()
    work = make_work_folder()
    ledger = Ledger(drain_timeout=DRAIN_TIMEOUT)
    try:
        with ExitStack() as held:
            flags = ["--drain-timeout", f"{DRAIN_TIMEOUT}s", "--keepalive-timeout", "75s", *options.flag]
            if options.workers is not None:
                flags += ["--workers", str(options.workers)]
            ground = prepare(work, held, flags)
            readings = uvloop.run(_soak(ground, ledger, options))
            _end(ground, ledger)
        return _judge(readings, ledger, max(options.upgrade_every, options.minutes * 6))
    except (BenchmarkError, OSError) as error:  # OSError: the agent does not answer
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep:
            print(f"logs are in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=_positive, default=5.0, help="(default %(default)s)")
    parser.add_argument("--workers", type=int, help="of consul-edge (default: its own)")
    parser.add_argument("--upgrade-every", type=_positive, default=30.0, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--kill-every", type=_positive, default=20.0, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--echoes", type=int, default=100, help="TCP connections kept open (%(default)s)")
    parser.add_argument("--busy", type=int, default=8, help="HTTP clients without a pause (%(default)s)")
    parser.add_argument("--flag", action="append", default=[], help="one more for consul-edge, as --flag=--name=value")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


async def _soak(ground: Ground, ledger: Ledger, options: argparse.Namespace) -> list[Reading]:
    """Put load and trouble on the program for so many minutes; return a reading for each second."""
    tasks = [asyncio.create_task(client.run()) for client in _clients(ground, ledger, options)]
    tasks += map(asyncio.create_task, _troubles(ground, ledger, options))
    watching = asyncio.create_task(_watch(ground, ledger, options.minutes * 60))
    try:
        done, _ = await asyncio.wait({watching, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {watching}:
            task.result()  # only errors of this program itself end a client
        return await watching
    finally:
        for task in (watching, *tasks):
            task.cancel()
        await asyncio.gather(watching, *tasks, return_exceptions=True)


def _clients(ground: Ground, ledger: Ledger, options: argparse.Namespace) -> Iterator[Client]:
    for _ in range(options.busy):
        yield HttpClient("http busy", ledger, ground.http)
    for _ in range(20):
        yield HttpClient("http now and then", ledger, ground.http, pause=1.0)
    for _ in range(4):
        yield ConnectingClient("http connecting", ledger, ground.http, pause=0.02)
        yield UdpClient("dns udp", ledger, ground.dns, pause=0.02)
    for _ in range(options.echoes):
        yield EchoClient("tcp echo", ledger, ground.tcp, pause=1.0)
    for _ in range(10):
        yield EchoClient("http tunnel", ledger, ground.http, pause=1.0, tunnel=True)
    for _ in range(2):
        yield TransferClient("tcp transfer", ledger, ground.tcp)
    yield TcpClient("dns tcp", ledger, ground.dns, pause=0.2)


def _troubles(ground: Ground, ledger: Ledger, options: argparse.Namespace) -> Iterator[Coroutine[None, None, None]]:
    agent, origin = ground.agent, ground.origin_ports[0]
    yield churn.change_services(agent, origin, ledger)
    yield churn.flip_health(agent, churn.flipping_instances(ground.tcp))
    hosts = churn.LagProbe("virtual hosts", agent, origin, ledger)
    yield hosts.run("lag-{}".format, "http", churn.served_over_http(ground.http))
    ports = cycle(churn.listen_ports())
    listeners = churn.LagProbe("tcp listeners", agent, origin, ledger)
    yield listeners.run(lambda _: f"lag-tcp-{next(ports)}", "tcp", churn.served_over_tcp)
    disturber = Disturber(Admin(ground.admin), ledger)
    yield disturber.every(options.upgrade_every, disturber.upgrade, first=options.upgrade_every)
    # Between two upgrades rather than beside one.
    yield disturber.every(options.kill_every, disturber.kill, first=options.kill_every * 0.75)


async def _watch(ground: Ground, ledger: Ledger, seconds: float) -> list[Reading]:
    """Read what the program uses once a second, and tell how it goes."""
    begin = time.monotonic()
    readings: list[Reading] = []
    while (at := time.monotonic() - begin) < seconds:
        reading = await asyncio.to_thread(read, ground.program, at)
        require_running(reading, ground.program)
        if len(readings) % PROGRESS_SECONDS == 0:
            print(_progress(reading, ledger), flush=True)
        readings.append(reading)
        await asyncio.sleep(max(0.0, begin + len(readings) - time.monotonic()))
    return readings


def _progress(reading: Reading, ledger: Ledger) -> str:
    return (
        f"{reading.at:5.0f} s  {reading.resident >> 20:5} MiB  {reading.files:5} descriptors  "
        f"{reading.processes} processes  {ledger.done.total():,} done  {ledger.errors()} errors  "
        f"{ledger.upgrades} upgrades  {ledger.kills} kills"
    )


def _end(ground: Ground, ledger: Ledger) -> None:
    """Tell the program to end; that it does not, or leaves processes behind, is an error."""
    begin = time.monotonic()
    pid = asyncio.run(Admin(ground.admin).pid())
    for each in ground.program.pids()[:1] if pid is None else [pid]:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGTERM)
    if not wait_ended(ground.program, DRAIN_TIMEOUT + END_MARGIN):
        ledger.fail(Failure("supervisor", "not ended", begin + END_MARGIN, time.monotonic()))
    elif status := ground.program.poll():
        ledger.fail(Failure("supervisor", f"ended with status {status}", begin, time.monotonic()))
    else:
        ledger.succeed("supervisor")
        return
    print(log_tail(ground.program), file=sys.stderr)


def _judge(readings: Sequence[Reading], ledger: Ledger, period: float) -> int:
    lows = floors(readings, period)
    print(f"\n{summary(lows, ledger)}\n")
    found = complaints(lows, ledger)
    print("\n".join(f"WRONG: {each}" for each in found) or "all is well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
