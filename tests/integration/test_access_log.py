"""The access log of several workers: one file or pipe, whole lines, nothing lost when it is rotated."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
from pathlib import Path

from tests.support.consul import Consul
from tests.support.node import EdgeNode, running_node
from tests.support.origins import origin
from tests.support.process import wait_until

JSON = ("--workers", "4", "--access-log-format", "json")


class Asking(threading.Thread):
    """Asks for one path after the other, each on a connection of its own, until `stop`."""

    def __init__(self, node: EdgeNode, prefix: str = "/") -> None:
        super().__init__(daemon=True)
        self._node = node
        self._prefix = prefix
        self._over = threading.Event()
        self.paths: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            path = f"{self._prefix}{len(self.paths)}"
            assert self._node.get("web", path) == (200, "web")
            self.paths.append(path)

    def stop(self) -> None:
        self._over.set()
        self.join(10)


def _paths(log: Path) -> list[str]:
    """The targets of all lines; fails for a line that is not whole."""
    return [json.loads(line)["target"] for line in log.read_text().splitlines()]


def _has_only(pid: int, wanted: Path, other: Path) -> bool:
    """Tell whether a process has one of two files open, and not the other."""
    files = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return str(wanted) in files and str(other) not in files


def test_after_a_rotation_all_workers_write_to_the_new_file_and_no_line_is_lost(consul: Consul, tmp_path: Path) -> None:
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    with (
        origin("web") as web,
        running_node(tmp_path, consul.url, flags=(*JSON, "--access-log", str(log))) as node,
    ):
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        asking = Asking(node)
        asking.start()
        wait_until(lambda: len(asking.paths) > 50, what="there is something in the log")
        log.rename(rotated)
        node.process.send_signal(signal.SIGUSR1)
        for pid in node.worker_pids():
            wait_until(functools.partial(_has_only, pid, log, rotated), what="the worker has the new file")
        # From here on what rotated it may compress it.
        old, before = rotated.read_bytes(), len(asking.paths)
        wait_until(lambda: len(asking.paths) > before + 100, what="all workers have had something to write")
        asking.stop()
        wait_until(lambda: asking.paths[-1] in _paths(log), what="the last line is written")
    assert rotated.read_bytes() == old
    paths = [path for path in _paths(rotated) + _paths(log) if path != "/"]
    assert sorted(paths) == sorted(asking.paths)


def test_all_workers_write_whole_lines_to_one_pipe(consul: Consul, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    received = bytearray()

    def read() -> None:
        while part := os.read(reader, 1000):  # slowly: only what does not find room mixes
            received.extend(part)

    reading = threading.Thread(target=read, daemon=True)
    with (
        origin("web") as web,
        running_node(tmp_path, consul.url, flags=(*JSON, "--access-log", str(pipe))) as node,
    ):
        consul.register("web", web, tags=["http"])
        node.wait_for("web", "web")
        threads = [Asking(node, f"/{letter * 1500}") for letter in "abc"]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(len(thread.paths) > 100 for thread in threads), what="more than the pipe holds")
        reading.start()
        for thread in threads:
            thread.stop()
        node.terminate()
    reading.join(10)
    os.close(reader)
    paths = [json.loads(line)["target"] for line in bytes(received).splitlines()]
    assert sorted(path for path in paths if path != "/") == sorted(path for thread in threads for path in thread.paths)
