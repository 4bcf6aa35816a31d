"""What wrk and h2load are told, and how their output is read."""

from __future__ import annotations

import pytest

from benchmarks.macro.load import Count, percentile
from benchmarks.macro.processes import BenchmarkError
from tests.benchmarks.examples import BULK, PACED, SITE, SMALL


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
