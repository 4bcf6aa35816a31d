"""A real Prometheus for tests, on the configuration that deploy/ has."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support.consul import require
from tests.support.process import free_port, running, wait_until

WHY = "these tests check what deploy/prometheus has with Prometheus itself"
DEPLOY = Path(__file__).parents[2] / "deploy"
CONFIGURATION = DEPLOY / "prometheus"


class Prometheus:
    """A server that runs on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **parameters: str) -> Any:
        """Call its HTTP API and return the data; AssertionError with the reason when it refuses."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with urlopen(url, timeout=10) as response:
                answer = json.load(response)
        except OSError as error:
            reason = error.read().decode() if hasattr(error, "read") else str(error)
            raise AssertionError(f"{path} {parameters}: {reason}") from error
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now: samples with `metric` and `value`."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self.get("label/__name__/values"))

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with `labels`, `health` and `lastError`."""
        targets: list[dict[str, Any]] = self.get("targets", state="active")["activeTargets"]
        return targets

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, with `query`, `health`, `lastError` and `state`."""
        return [rule for group in self.get("rules", type="alert")["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool in the configuration's directory; returns its status and all that it says."""
    argv = [require("promtool", WHY), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=CONFIGURATION)
    return done.returncode, done.stdout + done.stderr


def finds_by_consul() -> bool:
    """Whether Prometheus was built with Consul discovery; Debian's was not."""
    return "consul_sd_configs not found" not in promtool("check", "config", "prometheus.yml")[1]


@contextlib.contextmanager
def running_prometheus(directory: Path, configuration: str, resolver: str = "") -> Iterator[Prometheus]:
    """Run Prometheus on that text, with the alerts of deploy/ beside it, until the `with` block ends.

    With a `resolver` it runs in a mount namespace of its own (root alone may make one), whose resolv.conf names that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIGURATION / "alerts.yml", directory)
    file = directory / "prometheus.yml"
    file.write_text(configuration)
    port = free_port()
    argv = [
        require("prometheus", WHY),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    if resolver:
        resolv_conf = directory / "resolv.conf"
        resolv_conf.write_text(f"nameserver {resolver}\noptions attempts:3 timeout:1\n")
        mount = f'mount --bind {resolv_conf} {os.path.realpath("/etc/resolv.conf")} && exec "$@"'
        argv = [require("unshare", WHY), "--mount", "sh", "-c", mount, "sh", *argv]
    log = directory / "prometheus.log"
    with running(argv, log=log) as process:
        prometheus = Prometheus(port)

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"Prometheus ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
            return bool(prometheus.get("status/runtimeinfo"))

        wait_until(answers, timeout=20, what="Prometheus answers")
        yield prometheus
