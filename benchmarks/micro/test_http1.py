"""What a head and a body cost: `pytest benchmarks/micro/test_http1.py`."""

from __future__ import annotations

import gc
import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lb.http1.framing import ChunkedBody, LengthBody
from lb.http1.head import Limits, RequestBlock, find_head_end, parse_request_block, parse_response_block
from lb.http1.memo import Memo
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
COOKIE = b"Cookie: session=4f8c1d0e9b7a46d2a3f5"
BLOCKS = {
    "seen": BROWSER + b"\r\n" + COOKIE,
    "new-cookie": BROWSER + b"\r\n" + COOKIE + b"-%d",
    "all-new": (BROWSER + b"\r\n" + COOKIE).replace(b"\r\n", b"-%d\r\n") + b"-%d",
}
"""Thirteen lines, with a number in those that were never seen before."""

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


@pytest.fixture(params=["remembering", "forgetting"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Empty all memories, and in the second case take them out: nothing is found in them, nothing kept."""
    for memo in (each for each in gc.get_objects() if isinstance(each, Memo)):
        memo.clear()
    if request.param == "forgetting":
        monkeypatch.setattr(Memo, "get", lambda *_: None)
        monkeypatch.setattr(Memo, "put", lambda *_: None)
    return bool(request.param == "remembering")


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_thirteen_lines(benchmark: BenchmarkFixture, memory: bool, block: bytes) -> None:
    """Hostile heads fill the memories and find nothing in them: that may cost no more than to have no memory."""
    numbers = itertools.count()
    fresh = block.count(b"%d")

    def parse() -> RequestBlock:
        return parse_request_block(block % ((next(numbers),) * fresh), LIMITS)

    assert benchmark(parse).count == 13
    assert (parse() is parse()) == (memory and not fresh)


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
