"""A real nginx for tests: its own prefix, one worker, in the foreground, on free ports."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.consul import require
from tests.support.process import running, wait_until

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""Debian builds the stream module apart; elsewhere it may be built in."""

_FRAME = """\
{modules}
daemon off;
master_process off;
worker_processes 1;
pid {pid_file};
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
{body}
"""

_HTTP_PATHS = """\
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
"""


def http_block(directory: Path, body: str) -> str:
    """Return an `http` block that writes nowhere but in `directory`."""
    return f"http {{\n{_HTTP_PATHS.format(directory=directory)}{body}\n}}\n"


def stream_block(body: str) -> str:
    """Return a `stream` block."""
    return f"stream {{\n{body}\n}}\n"


@contextlib.contextmanager
def running_nginx(directory: Path, body: str) -> Iterator[None]:
    """Run nginx with the blocks of `body` until the end of the `with` block; wait until it listens.

    One process does everything, so that all requests meet the same state of the upstream groups. That it
    listens is known from its pid file, which it writes after it has opened its ports: a connection made to
    find out would be a pick.
    """
    program = require("nginx", "this test compares with a running nginx")
    directory.mkdir(parents=True, exist_ok=True)
    modules = f"load_module {STREAM_MODULE};" if "stream {" in body and STREAM_MODULE.exists() else ""
    configuration = directory / "nginx.conf"
    pid_file = directory / "nginx.pid"
    configuration.write_text(_FRAME.format(modules=modules, directory=directory, pid_file=pid_file, body=body))
    argv: list[str | Path] = [program, "-p", directory, "-e", directory / "error.log", "-c", configuration]
    check = subprocess.run([*argv, "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert check.returncode == 0, f"nginx does not take the configuration:\n{check.stderr}"
    with running(argv, log=directory / "nginx.log"):
        wait_until(lambda: pid_file.exists() and pid_file.read_text(), what="nginx listens")
        yield
