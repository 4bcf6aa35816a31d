"""Compare consul-edge with its peers on this machine: `python -m benchmarks.macro --help`."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.macro import machine
from benchmarks.macro.loads import LOADS
from benchmarks.macro.peers import PEERS, Running, read_version
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.report import Report, draw, to_json, to_markdown
from benchmarks.macro.run import Plan, Sample, choose, run, start_all
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
    names = ", ".join([*(peer.name for peer in PEERS), *(load.name for load in LOADS)])
    parser = argparse.ArgumentParser(prog="benchmarks.macro", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds after the warm-up (default %(default)s)")
    parser.add_argument("--seconds", type=_positive, default=3, help="length of one run (default %(default)s)")
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
    peers, loads = choose(PEERS, LOADS, options.only)
    for tool in sorted({load.tool for load in loads if not shutil.which(load.tool)}):
        print(f"{tool} is not on the PATH: its loads are left out", file=sys.stderr)
    loads = [load for load in loads if shutil.which(load.tool)]
    samples: list[Sample] = []
    status = 0
    with ExitStack() as held:
        site = make_site(work, held)
        running = start_all(site, peers)
        peers = [peer for peer in peers if peer.name in running]
        plan = Plan(peers=peers, loads=loads, rounds=options.rounds, seconds=options.seconds)
        commands = _commands(site, plan, running)
        try:
            for sample in run(site, plan, running):
                samples.append(sample)
                _show(sample)
        except KeyboardInterrupt:
            status = 130
    if not samples:
        if status:
            return status
        raise BenchmarkError("nothing was measured")
    report = _report(plan, samples, commands)
    table = to_markdown(report)
    print(f"\n{table}")
    if folder := options.output or (None if options.only else RESULTS):
        _write(report, table, folder)
    return status


def _report(plan: Plan, samples: Sequence[Sample], commands: Mapping[str, str]) -> Report:
    return Report(
        machine=machine.describe(),
        versions=_versions(plan),
        about={peer.name: peer.about for peer in plan.peers},
        commands=commands,
        rounds=max(sample.round for sample in samples),
        seconds=plan.seconds,
        loads=plan.loads,
        samples=samples,
    )


def _show(sample: Sample) -> None:
    errors = f", {sample.errors} errors" if sample.errors else ""
    name = f"round {sample.round}  {sample.load:14} {sample.peer:16}"
    print(f"{name} {sample.rate:12,.0f}  core {sample.busy:4.0%}{errors}", flush=True)


def _versions(plan: Plan) -> dict[str, str]:
    tools = {"wrk": ("-v",), "dnsperf": ("-h",)}
    used = {load.tool for load in plan.loads}
    return {
        **{peer.name: peer.read_version() for peer in plan.peers},
        **{tool: read_version(tool, *arguments) for tool, arguments in tools.items() if tool in used},
    }


def _commands(site: Site, plan: Plan, running: Mapping[str, Running]) -> dict[str, str]:
    """Return how peers and loads were run, with this run's folders and ports replaced by words."""
    lines = {name: peer.program.argv for name, peer in running.items()}
    lines |= {load.name: load.command(site, EXAMPLE_PORT, plan.seconds) for load in plan.loads}
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
