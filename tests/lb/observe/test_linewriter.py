"""Lines written from a thread of their own."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from lb.errors import SettingsError
from lb.observe.linewriter import FLUSH_BYTES, LineWriter
from tests.support.process import wait_until

FLAG = "--access-log"


def test_lines_reach_the_file_in_order_without_a_close(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), flag=FLAG)
    lines = [b"%d\n" % number for number in range(1000)]
    for line in lines:
        writer.add(line)
    wait_until(lambda: path.read_bytes() == b"".join(lines), timeout=5, what="all lines in the file")
    writer.add(b"one more after a rest\n")
    wait_until(lambda: path.read_bytes().endswith(b"rest\n"), timeout=5, what="the last line")
    assert (writer.written, writer.dropped) == (1001, 0)
    writer.close()


def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), flag=FLAG)
    line = b"x" * 999 + b"\n"
    for _ in range(3 * FLUSH_BYTES // len(line)):
        writer.add(line)
    writer.close()
    assert path.stat().st_size == 3 * FLUSH_BYTES // len(line) * len(line)


def test_a_line_after_close_is_counted_as_lost(tmp_path: Path) -> None:
    writer = LineWriter(str(tmp_path / "log"), flag=FLAG)
    writer.close()
    writer.add(b"late\n")
    assert writer.dropped == 1


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    writer = LineWriter(str(path), flag=FLAG)
    writer.add(b"after\n")
    writer.close()
    assert path.read_bytes() == b"before\nafter\n"


def test_reopen_after_a_rotation(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    writer = LineWriter(str(path), flag=FLAG)
    writer.add(b"old\n")
    path.rename(rotated)
    writer.reopen()
    wait_until(path.exists, what="the new file")
    writer.add(b"new\n")
    writer.close()
    assert (rotated.read_bytes(), path.read_bytes()) == (b"old\n", b"new\n")


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(str(folder / "log"), flag=FLAG)
    moved = folder.rename(tmp_path / "moved")
    writer.reopen()
    wait_until(lambda: "stays in use" in caplog.text, what="the error in the log")
    writer.add(b"still here\n")
    writer.close()
    assert (moved / "log").read_bytes() == b"still here\n"


def test_a_file_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        LineWriter(str(tmp_path / "no" / "log"), flag=FLAG)
    assert str(caught.value) == f"--access-log: '{tmp_path}/no/log' cannot be opened: No such file or directory"


def test_a_pipe_that_nobody_reads_costs_lines_and_blocks_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(pipe), flag=FLAG, max_pending=256 << 10)
    line = b"x" * 1023 + b"\n"
    for _ in range(1024):
        writer.add(line)
    assert 256 <= writer.dropped < 1024
    received = bytearray()

    def drained() -> bool:
        received.extend(os.read(reader, 1 << 20))
        return len(received) == (1024 - writer.dropped) * len(line)

    wait_until(drained, what="what was queued arrives whole")
    assert set(bytes(received).split(b"\n")) == {line[:-1], b""}
    writer.close()
    os.close(reader)


def test_a_named_pipe_without_a_reader_is_an_error_and_no_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="cannot be opened"):
        LineWriter(str(tmp_path / "pipe"), flag=FLAG)


def test_a_full_disk_is_said_once_and_the_lost_lines_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter("/dev/full", flag=FLAG)
    for _ in range(3):
        before = writer.dropped
        writer.add(b"lost\n")
        wait_until(partial(lambda count: writer.dropped == count, before + 1), what="the lost line is counted")
    writer.close()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["/dev/full cannot be written, lines are lost: No space left on device"]


SEVERAL = """
import sys
from lb.observe.linewriter import LineWriter
name, count = sys.argv[1].encode(), int(sys.argv[2])
writer = LineWriter("-", flag="--access-log", max_pending=1 << 30)
for number in range(count):
    writer.add(name * (1 + number * 37 % 700) + b" %d\\n" % number)
writer.close(30)
"""


def test_lines_of_several_processes_to_one_pipe_stay_whole() -> None:
    count, names = 3000, "abcd"
    reader, pipe = os.pipe()
    command = [sys.executable, "-c", SEVERAL]
    processes = [subprocess.Popen([*command, name, str(count)], stdout=pipe) for name in names]
    os.close(pipe)
    received = bytearray()
    while part := os.read(reader, 1000):  # slowly: only what does not find room mixes
        received += part
    os.close(reader)
    lines = bytes(received).splitlines()
    assert [process.wait(10) for process in processes] == [0] * len(names)
    expected = (f"{name * (1 + number * 37 % 700)} {number}" for name in names for number in range(count))
    assert Counter(lines) == Counter(map(str.encode, expected))


def test_a_line_that_no_pipe_takes_in_one_step_is_written_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(pipe), flag=FLAG)
    long = b"x" * (5 * select.PIPE_BUF)
    for line in (b"before\n", long + b"\n", b"after\n"):
        writer.add(line)
    writer.close()
    with open(reader, "rb") as stream:
        assert stream.read().splitlines() == [b"before", long, b"after"]


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    writer = LineWriter("-", flag=FLAG)
    writer.add(b"to stdout\n")
    writer.close()
    assert capfd.readouterr().out == "to stdout\n"
    os.fstat(1)  # our own standard output is still open
