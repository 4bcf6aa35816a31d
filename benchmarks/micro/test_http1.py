"""What a head and a body cost: `pytest benchmarks/micro/test_http1.py`."""

from __future__ import annotations

import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.http1.framing import ChunkedBody, LengthBody
from lb.http1.head import Limits, find_head_end, parse_request_block, parse_response_block
from lb.http1.target import parse_request_line, routing_path

LIMITS = Limits(line=8 << 10, total=32 << 10, count=1000)
LINE = b"GET /articles/2024/an-article?page=2 HTTP/1.1"
BROWSER = b"\r\n".join(
    (
        b"Host: httpfront.tonybai.com",
        b"Connection: keep-alive",
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"Accept-Language: en-US,en;q=0.5",
        b"Accept-Encoding: gzip, deflate, br",
        b"Cache-Control: max-age=0",
        b"Upgrade-Insecure-Requests: 1",
        b"Sec-Fetch-Dest: document",
        b"Sec-Fetch-Mode: navigate",
        b"Sec-Fetch-Site: none",
        b"Referer: http://httpfront.tonybai.com/articles",
    )
)
WRK = b"Host: httpfront.tonybai.com"
CHUNKS = {"small": 64, "usual": 8 << 10}


def test_end_of_a_head(benchmark: BenchmarkFixture) -> None:
    head = LINE + b"\r\n" + BROWSER + b"\r\n\r\n"
    assert benchmark(find_head_end, head, 0, LIMITS) == len(head) - 4


def test_request_line(benchmark: BenchmarkFixture) -> None:
    assert benchmark(parse_request_line, LINE).method == b"GET"


@pytest.mark.parametrize("target", [b"/articles/2024/an-article?page=2", b"/articles/../%61rticles//2024"])
def test_path_of_a_target(benchmark: BenchmarkFixture, target: bytes) -> None:
    assert benchmark(routing_path, target).startswith(b"/articles/2024")


@pytest.mark.parametrize("block", [WRK, BROWSER], ids=["wrk", "browser"])
def test_request_block_that_is_remembered(benchmark: BenchmarkFixture, block: bytes) -> None:
    assert benchmark(parse_request_block, block, LIMITS).authority == b"httpfront.tonybai.com"


def test_request_block_with_a_cookie_never_seen_before(benchmark: BenchmarkFixture) -> None:
    numbers = itertools.count()

    def parse() -> bytes:
        return parse_request_block(BROWSER + b"\r\nCookie: session=%d" % next(numbers), LIMITS).authority

    assert benchmark(parse) == b"httpfront.tonybai.com"


def test_request_block_with_no_line_seen_before(benchmark: BenchmarkFixture) -> None:
    numbers = itertools.count()
    lines = BROWSER.split(b"\r\n")

    def parse() -> int:
        number = b"%d" % next(numbers)
        return parse_request_block(b"\r\n".join(line + number for line in lines), LIMITS).count

    assert benchmark(parse) == len(lines)


def test_response_block_that_is_remembered(benchmark: BenchmarkFixture) -> None:
    block = b"Server: nginx\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 5"
    assert benchmark(parse_response_block, block).content_length == 5


def test_length_body(benchmark: BenchmarkFixture) -> None:
    data = bytes(64 << 10)
    assert benchmark(lambda: LengthBody(1 << 20).take(data)) == len(data)


@pytest.mark.parametrize("size", CHUNKS.values(), ids=CHUNKS)
def test_chunked_body_of_64_kib(benchmark: BenchmarkFixture, size: int) -> None:
    data = (b"%x\r\n%b\r\n" % (size, bytes(size))) * ((64 << 10) // size) + b"0\r\n\r\n"
    assert benchmark(lambda: ChunkedBody().take(data)) == len(data)
