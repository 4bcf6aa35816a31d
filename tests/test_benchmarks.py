"""The pure parts of the benchmarks: figures, order, configurations, what load generators print."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.macro import configs
from benchmarks.macro.__main__ import anonymous
from benchmarks.macro.loads import LOADS, Count, DnsLoad, Load, WrkLoad
from benchmarks.macro.peers import PEERS, Kind, Peer
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.report import BASELINES, Report, plotted_ratio, ratio, summarise, to_json, to_markdown
from benchmarks.macro.run import Plan, Sample, choose, rate, schedule
from benchmarks.macro.site import DNS_NAMES, Site, dns_addresses

WORK = Path("/nowhere")
SITE = Site(work=WORK, proxy_cpus=frozenset({0}), other_cpus=frozenset({1}), origin_ports=(1, 2, 3), held=ExitStack())
SMALL = WrkLoad("http-small", "small", "http", "requests", "second", mode="small")
BULK = WrkLoad("http-bulk", "bulk", "http", "MB", "CPU second", mode="bulk", work=2.0)
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


def peer(name: str, *kinds: Kind) -> Peer:
    def never(_: Site) -> object:
        raise AssertionError("not to be started")

    return Peer(name=name, about="", kinds=frozenset(kinds), start=never, commands=())  # type: ignore[arg-type]


def report(samples: list[Sample], loads: list[Load]) -> Report:
    return Report(
        machine={"cores": "2"},
        versions={"consul-edge": "0.1.0"},
        about={"consul-edge": "this program"},
        commands={"http-small": "wrk"},
        rounds=3,
        seconds=1,
        loads=loads,
        samples=samples,
    )


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
    (row,) = (line for line in table.splitlines() if line.startswith("| http-small | **consul-edge**"))
    assert "63,000 requests/s" in row
    assert row.endswith("| 3.00 |")
    assert "nginx-tuned" not in table  # not measured, so no column
    assert "## DNS" not in table


def test_the_json_result_holds_every_sample_and_the_units() -> None:
    document = json.loads(to_json(report([sample("a", 1.0), sample("a", 3.0, number=2)], [SMALL])))
    assert [entry["rate"] for entry in document["samples"]] == [1.0, 3.0]
    assert document["summary"]["http-small"]["a"]["rate"] == 2.0
    assert document["units"] == {"http-small": "requests/s"}


def test_rounds_are_interleaved_and_begin_with_another_peer_each() -> None:
    peers = [peer("a", "http"), peer("b", "http", "dns"), peer("c", "dns")]
    plan = Plan(peers=peers, loads=[SMALL, HOT], rounds=1, seconds=1)
    order = [(number, load.name, peer.name) for number, load, peer in schedule(plan)]
    assert order == [
        (0, "http-small", "b"), (0, "http-small", "a"), (0, "dns-hot", "c"), (0, "dns-hot", "b"),
        (1, "http-small", "a"), (1, "http-small", "b"), (1, "dns-hot", "b"), (1, "dns-hot", "c"),
    ]  # fmt: skip


def test_only_chooses_peers_loads_or_both() -> None:
    peers = [peer("a", "http"), peer("b", "dns")]

    def names(*only: str) -> tuple[list[str], list[str]]:
        chosen_peers, chosen_loads = choose(peers, [SMALL, HOT], only)
        return [p.name for p in chosen_peers], [load.name for load in chosen_loads]

    assert names() == (["a", "b"], ["http-small", "dns-hot"])
    assert names("dns-hot") == (["b"], ["dns-hot"])
    assert names("a") == (["a"], ["http-small"])
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


def test_names_are_unique_and_every_baseline_is_a_peer_of_its_kind() -> None:
    names = [p.name for p in PEERS] + [load.name for load in LOADS]
    assert len(names) == len(set(names))
    kinds = {p.name: p.kinds for p in PEERS}
    for kind, baselines in BASELINES.items():
        assert all(kind in kinds[name] for name in baselines)


def test_a_peer_that_is_not_installed_says_what_is_missing() -> None:
    absent = Peer(
        name="absent", about="", kinds=frozenset({"http"}), start=PEERS[0].start, commands=("no-such-program",)
    )
    assert absent.missing() == "no-such-program is not on the PATH"
