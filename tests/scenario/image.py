"""The image of the samples' containers, made of this machine's own programs; no registry is asked.

In it are Python, the sample services, and the clients that the scenario calls from inside containers.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.scenario.needs import path_of
from tests.support.python_image import pack_python

IMAGE = "consul-edge-scenario/samples"
SERVICES = "/srv/services.py"
CERTIFICATE, KEY = "/srv/tls.pem", "/srv/tls.key"
TOOLS = ("curl", "ping")


def make_image(archive: Path, certificate: Path, key: Path) -> None:
    """Write the archive; the certificate of the TLS service is in it, and nowhere else."""
    with tarfile.open(archive, mode="w", dereference=True) as tar:
        pack_python(tar, [Path(path_of(tool)) for tool in TOOLS])
        for source, target in (
            (certificate, CERTIFICATE),
            (key, KEY),
            (Path(__file__).with_name("services.py"), SERVICES),
        ):
            tar.add(source, target.lstrip("/"))
