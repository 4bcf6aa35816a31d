"""`consul-edge status` and the page for people, of a node with workers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.node import EdgeNode, running_node
from tests.support.process import wait_until


def _table(node: EdgeNode) -> str:
    command = [sys.executable, "-m", "lb.cli", "status", "--admin", f"127.0.0.1:{node.admin}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def _page(node: EdgeNode) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.admin}/", timeout=5) as reply:
        text: str = reply.read().decode()
        return text


def test_processes_and_an_upgrade_that_failed_are_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    flags = ("--workers", "3", "--token-file", str(token))
    with running_node(tmp_path, "http://127.0.0.1:1", flags=flags, ready=False) as node:
        wait_until(node.status, what="the node answers")
        table, page = _table(node), _page(node)
        assert f"process  {node.process.pid}\n" in table
        assert f"<td>{node.process.pid}</td>" in page
        assert "upgrade" not in table
        pids = node.worker_pids()
        assert len(pids) == 3
        for number, pid in enumerate(pids):
            assert re.search(rf"^ +{number} +{pid} +\d+s +\d+\.\d MiB +\d+$", table, re.MULTILINE), table
            assert re.search(rf"<td>{number}</td><td>{pid}</td><td>\d+s</td><td>[\d.]+ MiB</td><td>\d+</td>", page), (
                page
            )
        token.unlink()
        node.process.send_signal(signal.SIGHUP)
        wait_until(lambda: node.status()["upgrades"]["failed"], what="the upgrade fails")
        reason = "failed: the new program has ended; its log says why"
        assert f"upgrade  {reason}\n" in _table(node)
        assert reason in _page(node)
