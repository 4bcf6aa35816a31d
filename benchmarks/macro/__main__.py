"""Compare consul-edge with its peers on this machine: `python -m benchmarks.macro --help`."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.macro import machine
from benchmarks.macro.dnsload import DnsLoad
from benchmarks.macro.dnspeers import start_recursor
from benchmarks.macro.loads import LOADS
from benchmarks.macro.markdown import summary_line, to_markdown
from benchmarks.macro.memory import CHANGES, CLIENTS, PAIRS, REQUESTS, Result, make_checks, run_checks
from benchmarks.macro.peer import Running, read_version
from benchmarks.macro.peers import PEERS, start_origin
from benchmarks.macro.plot import draw
from benchmarks.macro.processes import BenchmarkError, allow_open_files
from benchmarks.macro.report import Report, to_json
from benchmarks.macro.run import Choice, Plan, Sample, choose, run, set_pace, start_all
from benchmarks.macro.site import Site, make_site, make_work_folder

EXAMPLE_PORT = 10000
RESULTS = Path(__file__).parents[1] / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all was measured, 1 when nothing could be, 130 after Ctrl-C.

    What was measured until Ctrl-C is written all the same.
    """
    options = _parse(argv)
    work = make_work_folder()
    try:
        return _compare(options, work)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep:
            print(f"configurations and logs are in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    names = ", ".join(
        [*(peer.name for peer in PEERS), *(load.name for load in LOADS), *(each.name for each in make_checks())]
    )
    parser = argparse.ArgumentParser(prog="benchmarks.macro", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds after the warm-up (default %(default)s)")
    parser.add_argument("--seconds", type=_positive, default=3, help="length of one run (default %(default)s)")
    parser.add_argument("--clients", type=_positive, default=CLIENTS, help="of idle-clients (default %(default)s)")
    parser.add_argument("--pairs", type=_positive, default=PAIRS, help="of idle-pairs (default %(default)s)")
    parser.add_argument("--requests", type=_positive, default=REQUESTS, help="of endurance (default %(default)s)")
    parser.add_argument("--changes", type=_positive, default=CHANGES, help="of endurance (default %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"may repeat: {names}")
    parser.add_argument("--output", type=Path, help="folder for results (default benchmarks/results, none with --only)")
    parser.add_argument("--keep", action="store_true", help="keep the peers' configurations and logs")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _compare(options: argparse.Namespace, work: Path) -> int:
    for command in ("nginx", "taskset"):
        if not shutil.which(command):
            raise BenchmarkError(f"{command} is not on the PATH; nothing can be measured without it")
    allow_open_files()
    checks = make_checks(options.clients, options.pairs, options.requests, options.changes)
    choice = choose(PEERS, LOADS, checks, options.only)
    for tool in sorted(tool for tool in _needs(choice) if not shutil.which(tool)):
        print(f"{tool} is not on the PATH: what needs it is left out", file=sys.stderr)
    plan = Plan(
        peers=choice.peers,
        loads=[load for load in choice.loads if all(map(shutil.which, load.needs))],
        checks=[check for check in choice.checks if shutil.which(check.tool)],
        rounds=options.rounds,
        seconds=options.seconds,
    )
    with ExitStack() as held:
        site = make_site(work, held)
        start_origin(site)
        if any(isinstance(load, DnsLoad) and load.needs_recursor for load in plan.loads):
            site = start_recursor(site)
        report, status = _measure(site, plan)
    table = to_markdown(report)
    print(f"\n{table}")
    if folder := options.output or (None if options.only else RESULTS):
        _write(report, table, folder)
    return status


def _measure(site: Site, plan: Plan) -> tuple[Report, int]:
    """Run loads and checks; return what was measured, and 130 if Ctrl-C came in between, else 0."""
    samples: list[Sample] = []
    memory: list[Result] = []
    commands = _check_commands(site, plan)
    status = 0
    try:
        with ExitStack() as held:
            loads_site = replace(site, held=held)
            running = start_all(
                loads_site, [peer for peer in plan.peers if any(load.suits(peer) for load in plan.loads)]
            )
            plan = set_pace(loads_site, plan, running)
            commands = {**_load_commands(site, plan, running), **commands}
            for sample in run(site, plan, running):
                samples.append(sample)
                _show(sample)
        for result in run_checks(site, plan.checks, plan.peers):
            memory.append(result)
            print(summary_line(result), flush=True)
    except KeyboardInterrupt:
        status = 130
    if not samples and not memory:
        if status:
            raise KeyboardInterrupt
        raise BenchmarkError("nothing was measured")
    return _report(plan, samples, memory, commands), status


def _report(plan: Plan, samples: Sequence[Sample], memory: Sequence[Result], commands: Mapping[str, str]) -> Report:
    measured = {sample.peer for sample in samples} | {result.peer for result in memory}
    peers = [peer for peer in plan.peers if peer.name in measured]
    return Report(
        machine=machine.describe(),
        versions={**{peer.name: peer.read_version() for peer in peers}, **_tool_versions(plan)},
        about={peer.name: peer.about for peer in peers},
        bases={peer.name: peer.base for peer in peers if peer.base},
        commands=commands,
        rounds=max((sample.round for sample in samples), default=0),
        seconds=plan.seconds,
        loads=plan.loads,
        samples=samples,
        checks=plan.checks,
        memory=memory,
    )


def _show(sample: Sample) -> None:
    errors = f", {sample.errors} errors" if sample.errors else ""
    latency = "" if sample.p50_ms is None else f", p50 {sample.p50_ms:.2f} ms, p99 {sample.p99_ms:.2f} ms"
    name = f"round {sample.round}  {sample.load:14} {sample.peer:20}"
    print(f"{name} {sample.rate:12,.0f}  core {sample.busy:4.0%}{latency}{errors}", flush=True)


def _tool_versions(plan: Plan) -> dict[str, str]:
    tools = {"wrk": ("-v",), "h2load": ("--version",), "dnsperf": ("-h",)}
    return {tool: read_version(tool, *arguments) for tool, arguments in tools.items() if tool in _tools(plan)}


def _tools(choice: Choice) -> set[str]:
    return {load.tool for load in choice.loads} | {check.tool for check in choice.checks}


def _needs(choice: Choice) -> set[str]:
    return {need for load in choice.loads for need in load.needs} | {check.tool for check in choice.checks}


def _load_commands(site: Site, plan: Plan, running: Mapping[str, Running]) -> dict[str, str]:
    lines = {name: peer.program.argv for name, peer in running.items()}
    lines |= {load.name: load.command(site, EXAMPLE_PORT, plan.seconds) for load in plan.loads}
    return _printable(site, lines)


def _check_commands(site: Site, plan: Plan) -> dict[str, str]:
    return _printable(site, {check.name: check.command(site, EXAMPLE_PORT) for check in plan.checks})


def _printable(site: Site, lines: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return how something was run, with this run's folders and ports replaced by words."""
    folders = {str(site.work): "DIR", sys.executable: "python", f"{Path(__file__).parents[2]}/": ""}
    return {name: anonymous(shlex.join(argv), folders) for name, argv in lines.items()}


def anonymous(command: str, folders: Mapping[str, str]) -> str:
    """Return a command line with the folders replaced by what they map to, and port numbers by `PORT`."""
    for folder, word in folders.items():
        command = command.replace(folder, word)
    return re.sub(r"(?<=127\.0\.0\.1:)\d+|(?<=port=)\d+|(?<=-p )\d+", "PORT", command)


def _write(report: Report, table: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(to_json(report))
    (folder / "latest.md").write_text(table)
    draw(report, folder / "latest.png")
    print(f"written: latest.json, latest.md and latest.png in {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
