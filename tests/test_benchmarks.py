"""The pure parts of the benchmarks: figures, order, configurations, what load generators print."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.macro import configs
from benchmarks.macro.__main__ import anonymous
from benchmarks.macro.changes import SERVICES, STEPS, Change, catalog_changes
from benchmarks.macro.loads import LOADS, PACEMAKER, Count, DnsLoad, Load, PacedLoad, WrkLoad, percentile
from benchmarks.macro.markdown import to_markdown
from benchmarks.macro.memory import Endurance, IdleClients, Reading, Result, make_checks, reading_points
from benchmarks.macro.peer import Kind, Peer
from benchmarks.macro.peers import PEERS
from benchmarks.macro.plot import plotted_ratio
from benchmarks.macro.processes import BenchmarkError, Program
from benchmarks.macro.report import BASELINES, Report, latency_ratio, ratio, summarise, to_json
from benchmarks.macro.run import Plan, Sample, choose, missing_lines, rate, schedule
from benchmarks.macro.site import DNS_NAMES, SERVICE, SMALL_REPLY, Site, dns_addresses

WORK = Path("/nowhere")
SITE = Site(work=WORK, proxy_cpus=frozenset({0}), other_cpus=frozenset({1}), origin_ports=(1, 2, 3), held=ExitStack())
SMALL = WrkLoad("http-small", "small", "http", "requests", "second", mode="small")
BULK = WrkLoad("http-bulk", "bulk", "http", "MB", "CPU second", mode="bulk", work=2.0)
PACED = PacedLoad("http-paced", "", "http", "requests", "second", rate=6400, peers=frozenset({"consul-edge"}))
HOT = DnsLoad("dns-hot", "hot", "dns", "queries", "second", names=1)

DNSPERF = """
Statistics:
  Queries sent:         1000
  Queries completed:    990 (99.00%)
  Queries lost:         10 (1.00%)
  Response codes:       NOERROR 980 (98.99%), NXDOMAIN 10 (1.01%)
  Run time (s):         2.000000
  Queries per second:   495.000000
"""


def sample(peer: str, value: float, *, load: str = "http-small", number: int = 1, errors: int = 0) -> Sample:
    return Sample(load=load, peer=peer, round=number, rate=value, busy=0.5, errors=errors, p99_ms=None)


def paced(peer: str, p50: float, p99: float) -> Sample:
    return Sample(load=PACED.name, peer=peer, round=1, rate=6400.0, busy=0.5, errors=0, p99_ms=p99, p50_ms=p50)


def peer(name: str, *kinds: Kind, loads: frozenset[str] = frozenset()) -> Peer:
    def never(_: Site) -> object:
        raise AssertionError("not to be started")

    return Peer(name=name, about="", kinds=frozenset(kinds), start=never, commands=(), loads=loads)  # type: ignore[arg-type]


def report(samples: list[Sample], loads: list[Load], memory: Sequence[Result] = ()) -> Report:
    return Report(
        machine={"cores": "2"},
        versions={"consul-edge": "0.1.0"},
        about={"consul-edge": "this program"},
        bases={"consul-edge-json": "consul-edge"},
        commands={"http-small": "wrk"},
        rounds=3,
        seconds=1,
        loads=loads,
        samples=samples,
        checks=make_checks(),
        memory=memory,
    )


def row(table: str, start: str) -> list[str]:
    """Return the cells of the only row that begins with `start`."""
    (line,) = (line for line in table.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_figures_are_the_median_with_its_extremes_and_all_errors() -> None:
    samples = [sample("a", value, number=n, errors=n) for n, value in enumerate((30.0, 10.0, 20.0))]
    figures = summarise(samples)["http-small"]["a"]
    assert (figures.rate, figures.lowest, figures.highest, figures.errors) == (20.0, 10.0, 30.0, 3)


def test_ratio_is_of_medians_and_absent_without_a_baseline() -> None:
    figures = summarise([sample("a", 30.0), sample("b", 20.0), sample("idle", 0.0)])["http-small"]
    assert ratio(figures, "a", "b") == 1.5
    assert ratio(figures, "a", "idle") is None
    assert ratio(figures, "a", "absent") is None


def test_the_plot_shows_nothing_for_a_peer_without_figures() -> None:
    figures = summarise([sample("nginx-tuned", 20.0), sample("consul-edge", 10.0)])["http-small"]
    assert plotted_ratio("http", figures, "consul-edge") == 0.5
    assert plotted_ratio("http", figures, "haproxy") == 0.0


def test_the_table_gives_rate_and_ratio_of_every_peer() -> None:
    table = to_markdown(report([sample("consul-edge", 63_000.0), sample("nginx-templates", 21_000.0)], [SMALL]))
    cells = row(table, "| http-small | **consul-edge**")
    assert cells[2] == "63,000 requests/s"
    assert cells[-1] == "3.00"
    assert "nginx-tuned" not in table  # not measured, so no column
    assert "## DNS" not in table
    assert "## Memory" not in table


def test_optional_duties_are_beside_the_same_peer_without_them_and_beside_nginx_with_and_without() -> None:
    rates = {"consul-edge": 80.0, "consul-edge-json": 60.0, "nginx-tuned": 100.0, "nginx-tuned-log": 75.0}
    table = to_markdown(report([sample(name, value) for name, value in rates.items()], [SMALL]))
    assert row(table, "| http-small | consul-edge-json")[-3:] == ["0.75", "0.60", "0.80"]
    main, _, duties = table.partition("## HTTP with optional duties")
    assert "consul-edge-json" not in main
    assert "**consul-edge**" not in duties


def test_latency_at_a_constant_rate_is_beside_that_of_nginx() -> None:
    samples = [paced("consul-edge", 0.2, 0.6), paced("nginx-tuned", 0.2, 0.5), paced("haproxy", 0.2, 0.4)]
    table = to_markdown(report(samples, [PACED]))
    assert row(table, "| http-paced | **consul-edge**")[-4:] == ["0.20", "0.60", "0", "1.20"]
    assert "## HTTP\n" not in table  # no rate was measured
    figures = summarise(samples)[PACED.name]
    assert latency_ratio(figures, "haproxy", "nginx-tuned") == pytest.approx(0.8)
    assert latency_ratio(figures, "haproxy", "absent") is None


def test_memory_of_idle_clients_is_told_for_each_of_them() -> None:
    results = [
        IdleClients(
            "idle-clients", "consul-edge", clients=1000, before=50 << 20, after=(50 << 20) + (1500 << 10), errors=0
        ),
        IdleClients(
            "idle-clients", "nginx-tuned", clients=1000, before=20 << 20, after=(20 << 20) + (500 << 10), errors=2
        ),
    ]
    table = to_markdown(report([], [], results))
    assert row(table, "| **consul-edge** | 1,000")[-3:] == ["1.50", "0", "3.00"]
    assert row(table, "| nginx-tuned | 1,000")[-3:] == ["0.50", "2", "1.00"]
    assert "idle-clients" in table
    assert "`endurance`" not in table


def test_idle_pairs_are_beside_those_of_the_stream_module() -> None:
    results = [
        IdleClients("idle-pairs", "consul-edge", clients=100, before=0, after=600 << 10, errors=0),
        IdleClients("idle-pairs", "nginx-stream", clients=100, before=0, after=200 << 10, errors=0),
        IdleClients("idle-clients", "nginx-tuned", clients=100, before=0, after=50 << 10, errors=0),
    ]
    table = to_markdown(report([], [], results))
    assert row(table, "| **consul-edge** | 100")[-3:] == ["6.00", "0", "3.00"]
    assert row(table, "| nginx-tuned | 100")[-1] == "1.00"


def test_workers_are_beside_one_worker_and_nginx_with_as_many() -> None:
    load = next(load for load in LOADS if load.name == "http-workers")
    rates = {
        "consul-edge-workers-1": 50.0,
        "consul-edge-workers-2": 80.0,
        "nginx-workers-1": 40.0,
        "nginx-workers-2": 80.0,
    }
    table = to_markdown(report([sample(name, value, load=load.name) for name, value in rates.items()], [load]))
    assert row(table, "| http-workers | consul-edge-workers-2")[-3:] == ["1.60", "2.00", "1.00"]


def test_memory_under_endurance_is_told_from_the_warm_up_on() -> None:
    resident = [40_000, 50_000, 51_000, 51_500]
    readings = [Reading(n * 50, n * 5, kibibytes << 10) for n, kibibytes in enumerate(resident)]
    result = Endurance("consul-edge", readings, seconds=9.0, errors=1, lag=0.012)
    assert (result.growth, result.late_growth) == (1500 << 10, 500 << 10)
    table = to_markdown(report([], [], [result]))
    assert "+1,500 KiB (+3.0%) from the warm-up" in table
    assert "a change at the end took effect after 12 ms" in table
    assert row(table, "| 150 | 15 |")[-1] == "+1,500"
    assert json.loads(to_json(report([], [], [result])))["memory"][0]["readings"][3]["resident"] == 51_500 << 10


def test_the_json_result_holds_every_sample_and_the_units() -> None:
    document = json.loads(to_json(report([sample("a", 1.0), sample("a", 3.0, number=2)], [SMALL])))
    assert [entry["rate"] for entry in document["samples"]] == [1.0, 3.0]
    assert document["summary"]["http-small"]["a"]["rate"] == 2.0
    assert document["units"] == {"http-small": "requests/s"}


def test_rounds_are_interleaved_and_begin_with_another_peer_each() -> None:
    peers = [peer("a", "http"), peer("b", "http", "dns"), peer("c", "dns")]
    plan = Plan(peers=peers, loads=[SMALL, HOT], checks=(), rounds=1, seconds=1)
    order = [(number, load.name, peer.name) for number, load, peer in schedule(plan)]
    assert order == [
        (0, "http-small", "b"), (0, "http-small", "a"), (0, "dns-hot", "c"), (0, "dns-hot", "b"),
        (1, "http-small", "a"), (1, "http-small", "b"), (1, "dns-hot", "b"), (1, "dns-hot", "c"),
    ]  # fmt: skip


def test_peers_and_loads_may_name_those_they_fit() -> None:
    peers = [peer("consul-edge", "http"), peer("other", "http"), peer("log", "http", loads=frozenset({"http-small"}))]
    plan = Plan(peers=peers, loads=[SMALL, BULK, PACED], checks=(), rounds=1, seconds=1)
    order = [(load.name, peer.name) for number, load, peer in schedule(plan) if number]
    assert order == [
        ("http-small", "consul-edge"), ("http-small", "other"), ("http-small", "log"),
        ("http-bulk", "consul-edge"), ("http-bulk", "other"),
        ("http-paced", "consul-edge"),
    ]  # fmt: skip


def test_only_chooses_peers_loads_checks_or_some_of_each() -> None:
    peers = [peer("consul-edge", "http"), peer("b", "dns")]

    def names(*only: str) -> tuple[list[str], list[str]]:
        choice = choose(peers, [SMALL, HOT], make_checks(), only)
        asked = [load.name for load in choice.loads] + [check.name for check in choice.checks]
        return [p.name for p in choice.peers], asked

    assert names() == (["consul-edge", "b"], ["http-small", "dns-hot", "idle-clients", "idle-pairs", "endurance"])
    assert names("dns-hot") == (["b"], ["dns-hot"])
    assert names("b") == (["b"], ["dns-hot"])
    assert names("endurance") == (["consul-edge"], ["endurance"])
    assert names("consul-edge", "idle-clients", "dns-hot") == (["consul-edge"], ["idle-clients"])
    with pytest.raises(BenchmarkError, match="unknown: nonsense"):
        names("nonsense")


def test_a_rate_is_per_second_or_per_second_of_cpu() -> None:
    count = Count(work=600.0, seconds=3.0, errors=0, p99_ms=None)
    assert rate(SMALL, count, cpu=1.5) == 200.0
    assert rate(BULK, count, cpu=1.5) == 400.0
    assert rate(BULK, count, cpu=0.0) == 0.0


def test_the_last_line_of_wrk_is_read() -> None:
    line = '{"requests": 100, "seconds": 2.5, "errors": 3, "p99_ms": 1.5}\n'
    assert BULK.parse("Running 2s test\n" + line) == Count(work=200.0, seconds=2.5, errors=3, p99_ms=1.5)


@pytest.mark.parametrize("output", ["", "unable to connect\n", "{}\n"])
def test_wrk_without_counts_is_an_error_that_shows_what_it_printed(output: str) -> None:
    with pytest.raises(BenchmarkError, match="wrk printed no counts"):
        SMALL.parse(output)


def paced_log(count: int, interval: int, status: int = 200) -> str:
    """Return h2load's log of requests that start `interval` µs after each other and take 1, 2, 3, ... µs."""
    return "".join(f"{10**15 + n * interval}\t{status}\t{n + 1}\n" for n in range(count))


def test_percentiles_are_read_from_the_log_of_a_paced_load() -> None:
    count = PACED.parse(paced_log(2000, interval=156))
    assert (count.work, count.errors) == (2000, 0)
    assert (count.p50_ms, count.p99_ms) == (1.0, 1.98)
    assert count.seconds == pytest.approx(1999 * 156e-6)


def test_requests_that_a_paced_load_could_not_make_in_time_are_errors() -> None:
    assert PACED.parse(paced_log(2000, interval=163)).errors == 0  # 4 % behind
    assert PACED.parse(paced_log(2000, interval=312)).errors == pytest.approx(1792, abs=2)  # half the rate


def test_a_paced_request_without_a_good_reply_is_an_error_and_no_latency() -> None:
    count = PACED.parse(paced_log(99, interval=156) + "1000000000000000\t-1\t900000\n")
    assert (count.work, count.errors, count.p99_ms) == (99, 1, 0.099)


@pytest.mark.parametrize("log", ["", "1000\t-1\t5\n", "what is this\n", "1\n2\n"])
def test_a_paced_load_without_replies_is_an_error(log: str) -> None:
    with pytest.raises(BenchmarkError, match="h2load"):
        PACED.parse(log)


def test_a_pace_is_shared_evenly_among_the_clients() -> None:
    load = PACED.at(50_000.0)
    assert load.rate == 781 * 64
    command = load.command(SITE, 8000, seconds=3)
    assert "--rps=781" in command
    assert f"-n{781 * 64 * 3}" in command


def test_a_percentile_is_the_nearest_rank() -> None:
    assert percentile([7], 99) == 7
    assert percentile(list(range(1, 201)), 99) == 198
    assert percentile([1, 2, 3], 50) == 2


def test_lost_questions_and_bad_answers_are_errors_and_no_work() -> None:
    assert HOT.parse(DNSPERF) == Count(work=980.0, seconds=2.0, errors=20, p99_ms=None)


def test_dnsperf_without_statistics_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="dnsperf printed no"):
        HOT.parse("Error: unable to connect\n")


def test_the_templates_nginx_has_neither_http_11_nor_keep_alive_to_instances() -> None:
    text = configs.nginx_templates(WORK, 8000, (1, 2, 3))
    assert text.count("max_fails=3 fail_timeout=60 weight=1;") == 3
    assert "location / { proxy_pass http://httpfront; }" in text
    assert "server_name httpfront.tonybai.com;" in text
    assert "proxy_http_version" not in text
    assert "keepalive" not in text


def test_the_tuned_nginx_keeps_connections_to_instances() -> None:
    text = configs.nginx_tuned(WORK, 8000, (1, 2, 3))
    assert "proxy_http_version 1.1;" in text
    assert 'proxy_set_header Connection "";' in text
    assert "keepalive 64;" in text


def test_the_log_of_nginx_is_off_but_for_the_peer_that_has_one() -> None:
    plain = configs.nginx_tuned(WORK, 8000, (1, 2, 3))
    logging = configs.nginx_tuned(WORK, 8000, (1, 2, 3), name="nginx-tuned-log", access_log=WORK / "log")
    assert plain.count("access_log") == 1
    assert "access_log /nowhere/log combined buffer=64k" in logging
    assert "pid /nowhere/nginx-tuned-log.pid;" in logging


@pytest.mark.parametrize("module", [None, Path("/modules/stream.so")])
def test_the_stream_module_is_loaded_first_when_it_is_a_file(module: Path | None) -> None:
    text = configs.nginx_stream(WORK, 9000, (1, 2, 3), module)
    assert text.startswith("load_module /modules/stream.so;\n") == (module is not None)
    assert text.count("max_fails=3 fail_timeout=30s weight=5;") == 3


def test_dns_peers_know_every_name_with_distinct_addresses() -> None:
    lines = configs.hosts_file().splitlines()
    assert len(lines) == 3 * DNS_NAMES
    assert len({line.split()[0] for line in lines}) == 3 * DNS_NAMES
    text = configs.unbound(5300, WORK)
    last = DNS_NAMES - 1
    for address in dns_addresses(last):
        assert f'local-data: "svc{last}.service.consul. 0 IN A {address}"' in text


def test_results_name_no_folder_and_no_port_of_the_machine() -> None:
    command = "/home/u/.venv/bin/python -m lb.cli --http 127.0.0.1:8123 --state-dir /dev/shm/x/state -http-port=8500"
    assert anonymous(command, {"/home/u/.venv/bin/python": "python", "/dev/shm/x": "DIR"}) == (
        "python -m lb.cli --http 127.0.0.1:PORT --state-dir DIR/state -http-port=PORT"
    )


def test_names_are_unique_and_every_name_that_is_referred_to_exists() -> None:
    names = [p.name for p in PEERS] + [load.name for load in LOADS] + [check.name for check in make_checks()]
    assert len(names) == len(set(names))
    kinds = {p.name: p.kinds for p in PEERS}
    for kind, baselines in BASELINES.items():
        assert all(kind in kinds[name] for name in baselines)
    for p in PEERS:
        assert not p.base or p.base in kinds
        assert p.loads <= {load.name for load in LOADS}
    takers = {check.name: check.peers for check in make_checks()}
    takers |= {load.name: load.peers for load in LOADS if isinstance(load, PacedLoad)}
    for peers in takers.values():
        assert peers <= kinds.keys()
    assert "http" in kinds[PACEMAKER]


def test_a_peer_that_is_not_installed_says_what_is_missing() -> None:
    absent = Peer(
        name="absent", about="", kinds=frozenset({"http"}), start=PEERS[0].start, commands=("no-such-program",)
    )
    assert absent.missing() == "no-such-program is not on the PATH"


def test_lines_that_an_access_log_lacks_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("line\n" * 7)
    assert missing_lines(log, 7, patience=10.0) == 0
    assert missing_lines(log, 10, patience=0.05) == 3


def test_lines_that_are_written_a_little_later_are_not_missing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("line\n" * 7)

    def append() -> None:
        with log.open("a") as file:
            file.write("line\n" * 3)

    later = threading.Timer(0.1, append)
    later.start()
    assert missing_lines(log, 10, patience=10.0) == 0
    later.join()


def test_memory_is_read_after_the_warm_up_and_at_every_tenth() -> None:
    assert reading_points(2000) == [100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000]


def test_every_change_of_the_catalog_leaves_it_different() -> None:
    """Played against a model of the agent: what is registered with what, and which checks fail."""
    registered: dict[str, Change] = {}
    failing: set[str] = set()
    for change in islice(catalog_changes(origin_port=7000), 3 * SERVICES * STEPS):
        *_, verb, name = change.path.split("/")
        if change.body is not None:
            identity = change.body["ID"]
            assert registered.get(identity) != change
            registered[identity] = change
        elif verb == "deregister":
            del registered[name]
        else:
            assert name.removeprefix("service:") in registered
            assert (name in failing) == (verb == "pass")
            (failing.discard if verb == "pass" else failing.add)(name)
    assert not failing
    assert f"{SERVICE}-0" in registered  # the service that takes the traffic changes, too, and stays
    assert len({name.split("-")[1] for name in registered if name.startswith("changing-")}) == SERVICES


def test_resident_memory_of_a_program_is_read(tmp_path: Path) -> None:
    def resident(mebibytes: int) -> int:
        code = f"import time; held = b'x' * ({mebibytes} << 20); print('ready', flush=True); time.sleep(60)"
        log = tmp_path / str(mebibytes)
        program = Program([sys.executable, "-c", code], log=log, cpus=os.sched_getaffinity(0))
        held.callback(program.stop)
        program.wait_ready(lambda: log.read_text() == "ready\n")
        return program.resident_bytes()

    with ExitStack() as held:
        assert 31 << 20 < resident(32) - resident(0) < 34 << 20


@pytest.fixture
def server() -> Iterator[int]:
    """A server of the benchmark's small reply that ends the connection of every third client after it; its port."""
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL_REPLY)}\r\n\r\n{SMALL_REPLY}".encode()
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as held:

        def serve() -> None:
            with suppress(OSError):
                for number in range(1000):
                    connection, _ = listener.accept()
                    held.callback(connection.close)
                    connection.recv(4096)
                    connection.sendall(reply)
                    if number % 3 == 2:
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_idle_clients_tell_how_many_got_a_reply_and_how_many_stayed(server: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.macro.clients", f"127.0.0.1:{server}", "9"],
        input="", capture_output=True, text=True, timeout=30, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert [json.loads(line)["connected"] for line in done.stdout.splitlines()] == [9, 6]
