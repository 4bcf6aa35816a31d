"""The images of the samples' containers, made of this machine's own programs; no registry is asked.

`docker import` takes a root file system as a tar archive. In it are the Python interpreter that runs this with its
standard library, the sample services, and the clients that the scenario calls from inside containers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.scenario.needs import path_of

IMAGE = "consul-edge-scenario/samples"
SERVICES = "/srv/services.py"
CERTIFICATE, KEY = "/srv/tls.pem", "/srv/tls.key"
TOOLS = ("curl", "ping")
UNUSED = re.compile(r"/(test|tests|site-packages|idlelib|tkinter|turtledemo|lib2to3|ensurepip|config-[^/]*)(/|$)")
FOLDERS = ("bin", "etc", "proc", "root", "srv", "sys", "tmp", "usr/bin")


def make_image(archive: Path, certificate: Path, key: Path) -> None:
    """Write the archive; the certificate of the TLS service is in it, and nowhere else."""
    with tarfile.open(archive, mode="w", dereference=True) as tar:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(path_of("busybox"), "bin/busybox")
        for applet in ("sh", "cat", "sleep"):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for source, target in (
            (certificate, CERTIFICATE),
            (key, KEY),
            (Path(__file__).with_name("services.py"), SERVICES),
        ):
            tar.add(source, target.lstrip("/"))
        for file in sorted(_files()):
            tar.add(file, str(file).lstrip("/"), recursive=False)


def python() -> str:
    """Return the interpreter, the same path inside the image as on this machine."""
    return os.path.realpath(sys.executable)


def _files() -> set[Path]:
    """Return all files that keep their places: Python, tools, and the libraries that these load."""
    files = set(_standard_library())
    programs = {Path(python()), *(Path(path_of(tool)) for tool in TOOLS)}
    objects = programs | {file for file in files if file.suffix == ".so"}
    return files | programs | _libraries(objects)


def _standard_library() -> Iterator[Path]:
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        for file in Path(folder).rglob("*"):
            if file.is_file() and not UNUSED.search(str(file)):
                yield file


def _libraries(objects: set[Path]) -> set[Path]:
    """Return what the dynamic linker loads for these files, itself among it."""
    done = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, timeout=60, check=True)
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", done.stdout, re.MULTILINE)}
