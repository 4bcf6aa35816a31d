"""A real Docker daemon for tests, apart from any that the machine has: own socket, files, bridge and image.

It leaves the machine's firewall and forwarding alone. Containers reach the host at `gateway`, the host reaches them at
their own addresses and at published ports. At the end its containers, processes, mounts and bridge are gone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support.consul import require, unavailable
from tests.support.family import Family
from tests.support.process import running, wait_until

WHY = "this test runs containers under a Docker daemon of its own"
IMAGE = "consul-edge-tests/busybox"
APPLETS = ("sh", "cat", "echo", "env", "hostname", "httpd", "nc", "nslookup", "ping", "sleep", "true", "wget")
"""Programs in the image; all are busybox."""

CONTAINERD_PID = "exec/containerd/containerd.pid"

TIMEOUT = 60.0
"""Seconds for one call of the daemon."""


class Docker:
    """A daemon that runs. `host` is its address as DOCKER_HOST has it.

    `gateway` is the host's address on the bridge, and what the daemon's `dns` setting names; `second` is another one.
    """

    def __init__(self, host: str, gateway: str, second: str) -> None:
        self.host = host
        self.gateway = gateway
        self.second = second
        self._start: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]
        self._process: subprocess.Popen[bytes]
        self._running = contextlib.ExitStack()

    def start(self, start: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]) -> None:
        """Start the daemon, and wait until it answers; RuntimeError if it ends instead."""
        self._start = start
        self._process = self._running.enter_context(start())
        wait_until(self._answers, timeout=60, step=0.1, what="the Docker daemon answers")

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"dockerd ended with status {self._process.returncode}")
        return bool(self.call("version", "--format", "{{.Server.Version}}"))

    def stop(self) -> None:
        """End the daemon in order."""
        self._running.close()

    def kill(self) -> None:
        """End the daemon at once, as a crash does; what runs in containers goes on until it is there again."""
        self._process.kill()
        self._process.wait()
        self.stop()  # and containerd, which the next daemon must not take for one that runs
        Path(self.host.removeprefix("unix://")).parent.joinpath(CONTAINERD_PID).unlink(missing_ok=True)

    def start_again(self) -> None:
        """Start the daemon where it was ended."""
        self.start(self._start)

    def call(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the docker command and return its output; AssertionError with the reason when it fails."""
        done = subprocess.run(
            [require("docker", WHY), "--host", self.host, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        reason = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.returncode}\n{output}{reason}"
        return output

    def run(self, *command: str, options: Sequence[str] = ()) -> str:
        """Run a command in a new container and return what it prints."""
        return self.call("run", "--rm", *options, IMAGE, *command)

    @contextlib.contextmanager
    def container(self, *command: str, options: Sequence[str] = ()) -> Iterator[str]:
        """Run a container for the length of a `with` block; yields its id."""
        identifier = self.call("run", "--detach", *options, IMAGE, *command).strip()
        try:
            yield identifier
        finally:
            self.call("rm", "--force", "--volumes", identifier)

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[str]:
        """Make a network, on which Docker's own resolver stands between containers and the `dns` setting."""
        self.call("network", "create", name)
        try:
            yield name
        finally:
            self.call("network", "rm", name)

    def import_image(self) -> None:
        """Make the image out of the machine's static busybox; nothing is fetched."""
        self.call("import", "-", IMAGE, stdin=_image(Path(require("busybox", WHY))))

    def remove_containers(self) -> None:
        """Remove all containers, running or not."""
        if left := self.call("ps", "--all", "--quiet").split():
            self.call("rm", "--force", "--volumes", *left)


def _image(busybox: Path) -> bytes:
    """Return the image's files as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "www"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        program = busybox.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return out.getvalue()


@contextlib.contextmanager
def running_docker() -> Iterator[Docker]:
    """Run a daemon for the length of a `with` block; skip the test where none can run, or fail it where `CI` is set."""
    dockerd = require("dockerd", WHY)
    for program in ("docker", "containerd", "runc", "ip", "busybox"):
        require(program, WHY)
    if os.geteuid() != 0:
        unavailable(f"a Docker daemon needs root: {WHY}")
    with contextlib.ExitStack() as held:
        directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
        held.callback(_remove, directory)
        try:
            bridge, prefix = held.enter_context(_bridge())
        except _CommandError as error:
            unavailable(f"no bridge can be made here: {error}")
        docker = Docker(f"unix://{directory}/docker.sock", f"{prefix}.1", f"{prefix}.254")
        family = Family()
        held.callback(_end_family, family)
        log = directory / "dockerd.log"
        arguments = _arguments(dockerd, directory, docker, bridge, prefix)
        held.callback(docker.stop)
        try:
            docker.start(lambda: running(arguments, log=log, env=family.environment, grace=30))
            held.callback(docker.remove_containers)
            docker.import_image()
            docker.run("true")
        except (AssertionError, RuntimeError) as error:
            tail = log.read_text(errors="replace")[-2000:]
            unavailable(f"no Docker daemon can run containers here: {error}\nThe end of its log:\n{tail}")
        yield docker


def _arguments(dockerd: str, directory: Path, docker: Docker, bridge: str, prefix: str) -> list[str]:
    settings = directory / "daemon.json"
    settings.write_text(json.dumps({"dns": [docker.gateway]}))
    return [
        dockerd,
        f"--config-file={settings}",
        f"--host={docker.host}",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/docker.pid",
        f"--bridge={bridge}",
        f"--fixed-cidr={prefix}.0/25",
        f"--default-address-pool=base={_second_pool(prefix)},size=24",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]


def _second_pool(prefix: str) -> str:
    """Where networks that tests make are: in what lies beside the bridge's own 10.x.y.0/24."""
    first, second, _ = prefix.split(".")
    return f"{first}.{int(second) + 1}.0.0/16"


class _CommandError(Exception):
    """A command of the machine's failed; the message is what it said."""


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise _CommandError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _bridge() -> Iterator[tuple[str, str]]:
    """Make a bridge on a network that the machine does not use; yields its name and the first three octets."""
    taken = _ip("-4", "route") + _ip("-4", "address")
    octet = next(n for n in range(201, 255, 2) if not re.search(rf"\b10\.({n}|{n + 1})\.", taken))
    prefix = f"10.{octet}.7"
    name = f"edge{octet}p{os.getpid()}"  # the longest that there can be
    # With an address of its own: one that changes as containers come and go would be wrong in the ARP caches of others.
    _ip("link", "add", "name", name, "address", f"02:42:0a:{octet:02x}:07:01", "type", "bridge")
    try:
        for host in (1, 254):
            _ip("address", "add", f"{prefix}.{host}/24", "dev", name)
        _ip("link", "set", name, "up")
        yield name, prefix
    finally:
        _ip("link", "delete", name)


def _end_family(family: Family) -> None:
    """End what the daemon left: containerd, its shims, proxies of ports."""
    family.signal(signal.SIGKILL)
    wait_until(lambda: not family.pids(), what="all processes of the Docker daemon are gone")


def _remove(directory: Path) -> None:
    """Remove the daemon's files, after what is mounted among them."""
    for mount in reversed(_mounts(directory)):
        subprocess.run(["umount", "--lazy", mount], check=True, timeout=TIMEOUT)
    shutil.rmtree(directory)


def _mounts(directory: Path) -> list[str]:
    """Return the mount points below a directory, outer ones first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{directory}/")]
