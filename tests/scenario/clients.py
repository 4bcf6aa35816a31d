"""Real clients, each on a host or inside a container."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.scenario.engine import Engine
from tests.scenario.host import CommandError, Host
from tests.support.python_image import python

TIMEOUT = "10"
"""Seconds for a client's exchange."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients run: a host, or one of its containers."""

    host: Host
    engine: Engine | None = None
    container: str = ""

    def __str__(self) -> str:
        return f"in {self.container} on {self.host}" if self.container else f"on {self.host}"

    def run(self, *argv: str, stdin: bytes | None = None) -> str:
        """Run a program there and return what it prints; raises `CommandError`."""
        if self.engine is None:
            return self.host.run(*argv, stdin=stdin)
        return self.host.run(
            *("docker", "--host", f"unix://{self.engine.socket}", "exec", "-i", self.container, *argv), stdin=stdin
        )

    def curl(self, url: str, *options: str) -> str:
        """`curl URL`; raises `CommandError` for a status of 400 and more, too."""
        return self.run("curl", "-sS", "--fail", "--max-time", TIMEOUT, *options, url)

    def ping(self, name: str) -> str:
        """`ping NAME` once; returns the address that answered."""
        said = self.run("ping", "-n", "-c", "1", "-W", "2", name)
        found = re.search(r"bytes from ([\d.]+)", said)
        if not found:
            raise CommandError(f"ping {name}: {said}")
        return found[1]

    def dig(self, *question: str) -> list[str]:
        """`dig +short ...`; returns the lines."""
        return self.run("dig", "+short", "+time=2", "+tries=2", *question).splitlines()

    def look_up(self, name: str) -> str:
        """Return the first address of a name as the C library gives it: so every other program sees it, too."""
        return self.run(str(python()), "-S", "-c", f"import socket; print(socket.gethostbyname({name!r}))").strip()

    def nc(self, address: str, port: int, text: str) -> str:
        """`nc ADDRESS PORT` with that text as its input; returns what comes back."""
        return self.run("nc", "-N", "-w", TIMEOUT, address, str(port), stdin=text.encode())

    def certificate(self, address: str, port: int, name: str) -> str:
        """`openssl s_client`; returns the fingerprint of the certificate that is shown to it."""
        argv = ["openssl", "s_client", "-connect", f"{address}:{port}", "-servername", name]
        return fingerprint(self.host, self.run(*argv, stdin=b"").encode())


def fingerprint(host: Host, certificate: bytes) -> str:
    """Return the SHA-256 fingerprint of a certificate in PEM form, with whatever text around."""
    said = host.run("openssl", "x509", "-noout", "-fingerprint", "-sha256", stdin=certificate)
    return said.partition("=")[2].strip()


def resolve_to(name: str, port: int, address: str) -> Sequence[str]:
    """Return curl's options for that address of a name, whatever DNS says."""
    return ("--resolve", f"{name}:{port}:{address}")
