"""The Docker daemon of a host, and the containers it runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from tests.scenario.host import Host, Program
from tests.scenario.image import IMAGE
from tests.scenario.layout import HOSTS
from tests.scenario.needs import Unavailable
from tests.support.process import wait_until

CGROUPS = Path("/sys/fs/cgroup")


class Engine:
    """A host's Docker daemon: nothing is reduced, everything that it keeps is its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.socket = host.directory / "docker.sock"
        self._program: Program | None = None

    def start(self) -> None:
        """Start the daemon; `wait_ready` tells when it answers."""
        directory = self.host.directory
        # Process ids are small here and come again: one in a file of a daemon that was killed may be another's now.
        (directory / "docker.pid").unlink(missing_ok=True)
        argv = [
            "dockerd",
            f"--host=unix://{self.socket}",
            f"--data-root={directory}/docker",
            f"--exec-root={directory}/docker-exec",
            f"--pidfile={directory}/docker.pid",
            f"--cgroup-parent={cgroup_of(self.host.name)}",
            # Of systemd, which would be asked for control groups elsewhere, these hosts have none.
            "--exec-opt=native.cgroupdriver=cgroupfs",
            *(f"--dns={address}" for address in nameservers(self.host.address)),
        ]
        self._program = self.host.start("dockerd", argv)

    def wait_ready(self) -> None:
        """Wait until the daemon answers; raises `Unavailable` when it has ended."""
        wait_until(self._answers, timeout=60, step=0.1, what=f"the Docker daemon of {self.host} answers")

    def _answers(self) -> bool:
        assert self._program is not None
        if not self._program.running():
            raise Unavailable(f"no Docker daemon can run here; the end of its log:\n{self._program.tail()}")
        return bool(self.call("version", "--format", "{{.Server.Version}}"))

    def load(self, archive: Path) -> None:
        """Make the samples' image."""
        self.call("import", str(archive), IMAGE)

    def call(self, *arguments: str, timeout: float = 60) -> str:
        """Run the docker command on the host and return what it prints, stripped; raises `CommandError`."""
        return self.host.run("docker", "--host", f"unix://{self.socket}", *arguments, timeout=timeout).strip()

    def run(self, name: str, options: Sequence[str], command: Sequence[str]) -> None:
        """Start a container."""
        self.call("run", "--detach", "--name", name, *options, IMAGE, *command)

    def served(self, name: str) -> int:
        """Return how many requests or connections a sample says that it served."""
        return len(self.call("logs", name).splitlines())

    def remove(self, name: str) -> None:
        """Kill a container and remove it."""
        self.call("rm", "--force", "--volumes", name)


def nameservers(own: str) -> list[str]:
    """Return whom containers of a host ask for names: the host itself, and the next one while nobody answers there."""
    others = [address for address in HOSTS.values() if address != own]
    return [own, others[0]]


def cgroup_of(host: str) -> str:
    """Return the cgroup of a host's containers, named as no other daemon of this machine names any."""
    return f"scenario-{os.getpid()}-{host}"


def remove_cgroups(host: str) -> None:
    """Remove the cgroups of a host's containers, after the host is gone."""
    for top in (CGROUPS, *CGROUPS.glob("*")):
        for folder, _, _ in os.walk(top / cgroup_of(host), topdown=False):
            with contextlib.suppress(OSError):  # the files in it are the kernel's
                os.rmdir(folder)
