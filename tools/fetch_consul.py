"""Fetch Consul's own release for this machine and put the program at the path given.

    fetch_consul.py PATH

The archive is checked against the release's list of SHA-256 sums before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import sys
import urllib.request
import zipfile
from pathlib import Path

RELEASES = os.environ.get("CONSUL_RELEASES", "https://releases.hashicorp.com/consul")
VERSION = "1.8.7"
"""The version that Debian has, so that every machine tests against the same one."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "armhfv6"}
TIMEOUT = 30.0
"""Seconds without progress after which a download is given up."""


class FetchError(Exception):
    """The release cannot be had; the text says why."""


def fetch(url: str) -> bytes:
    """Return what `url` holds."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            body: bytes = answer.read()
            return body
    except OSError as error:
        raise FetchError(f"{url}: {error}") from error


def expected_sum(sums: str, archive: str) -> str:
    """Return the SHA-256 sum that the release's list (`sum  name` lines) gives for `archive`."""
    for line in sums.splitlines():
        match line.split():
            case [value, name] if name == archive:
                return value.lower()
    raise FetchError(f"the release's list of sums does not name {archive}")


def unpack(archive: bytes) -> bytes:
    """Return the program from the release's zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            return files.read("consul")
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"the archive is of no use: {error}") from error


def install(target: Path) -> None:
    """Fetch, check, unpack, and put the program in place in one step."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in ARCHITECTURES:
        raise FetchError(f"no release is known for {platform.system()} on {machine}")
    name = f"consul_{VERSION}_linux_{ARCHITECTURES[machine]}.zip"
    sums = fetch(f"{RELEASES}/{VERSION}/consul_{VERSION}_SHA256SUMS").decode("utf-8", "replace")
    archive = fetch(f"{RELEASES}/{VERSION}/{name}")
    if hashlib.sha256(archive).hexdigest() != expected_sum(sums, name):
        raise FetchError(f"{name}: its SHA-256 sum is not the one that the release gives")
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(unpack(archive))
    partial.chmod(0o755)
    partial.replace(target)


def main() -> int:
    """Run the command; 0 when the program is in place."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        install(Path(sys.argv[1]))
    except FetchError as error:
        print(f"fetch_consul: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
