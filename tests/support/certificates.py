"""Certificates for tests, made by the openssl program, and instances that have one."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.consul import require
from tests.support.scripted import Instance, Script


class Certificate(NamedTuple):
    """A certificate that vouches for itself, and its key."""

    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """What a server with it is configured with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A client that speaks this version alone, and trusts this certificate alone, for its own names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        context.minimum_version = context.maximum_version = version
        return context


def make_certificate(directory: Path, *names: str) -> Certificate:
    """Make a certificate for these host names."""
    openssl = require("openssl", "this test needs certificates")
    made = Certificate(directory / f"{names[0]}.pem", directory / f"{names[0]}.key")
    alternatives = ",".join(f"DNS:{name}" for name in names)
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    files = ["-addext", f"subjectAltName={alternatives}", "-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([openssl, *options.split(), *files], check=True, capture_output=True)
    return made


class TlsInstance(Instance):
    """An instance that has a certificate, and plays its script on what is inside TLS."""

    def __init__(self, certificate: Certificate, script: Script | None = None) -> None:
        super().__init__(script)
        self._certificate = certificate

    async def start(self) -> None:
        """Listen on a free port, or again on the one it had."""
        context = self._certificate.server()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
