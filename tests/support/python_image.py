"""What images are made of where no registry is asked: this machine's Python and programs, wheels of consul-edge."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from tests.support.consul import require

ROOT = Path(__file__).parents[2]
TREES = ("lb", "dnsserver", "registrator")
FOLDERS = ("bin", "etc", "proc", "root", "srv", "sys", "tmp", "usr/bin")
APPLETS = ("sh", "cat", "id", "mkdir", "sleep", "touch")
_UNUSED = re.compile(r"/(test|tests|idlelib|tkinter|turtledemo|lib2to3|site-packages|dist-packages|config-[^/]*)/")
_EXTRA = re.compile(r"extra\s*==")


def python() -> Path:
    """Return the interpreter, the same path inside images as on this machine."""
    return Path(sys.executable).resolve()


def base_image() -> bytes:
    """Return a root file system as a tar archive: Python with pip, where this machine has it, and busybox's shell."""
    needed = [Path(file.locate()) for one in _needed() for file in one.files or () if file.suffix == ".so"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as archive:
        pack_python(archive, libraries_for=needed)
        _link(archive, "usr/bin/python3", str(python()))
        stdlib = sysconfig.get_path("stdlib")
        for name, data in _files_of(distribution("pip")):
            entry = tarfile.TarInfo(f"{stdlib}/{name}".lstrip("/"))
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def program_image(program: Path) -> bytes:
    """Return a root file system as a tar archive: one program, where this machine has it, and busybox's shell."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as archive:
        _pack(archive, {program, *_libraries([program])})
    return out.getvalue()


def pack_python(archive: tarfile.TarFile, programs: Iterable[Path] = (), libraries_for: Iterable[Path] = ()) -> None:
    """Write a root file system: Python, these programs, where this machine has them, and busybox's shell.

    In it are the libraries that all of them load, and those for what is to be installed there.
    """
    files = {python(), *programs}
    library = set(_standard_library())
    objects = {*files, *libraries_for, *(file for file in library if file.suffix == ".so")}
    _pack(archive, files | library | _libraries(objects))


def _pack(archive: tarfile.TarFile, files: Iterable[Path]) -> None:
    for folder in FOLDERS:
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        archive.addfile(entry)
    archive.add(require("busybox", "a shell is needed in an image"), "bin/busybox")
    for applet in APPLETS:
        _link(archive, f"bin/{applet}", "busybox")
    for file in sorted(files):
        archive.add(file, str(file).lstrip("/"), recursive=False)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _standard_library() -> Iterator[Path]:
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        for file in Path(folder).rglob("*"):
            if file.is_file() and not _UNUSED.search(str(file)) and file.name != "EXTERNALLY-MANAGED":
                yield file


def _libraries(objects: Iterable[Path]) -> set[Path]:
    """Return what the dynamic linker loads for these files, itself among it."""
    done = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, timeout=60, check=True)
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", done.stdout, re.MULTILINE)}


def write_wheels(folder: Path) -> None:
    """Make wheels: of this source tree, and, as they are installed here, of all that it needs."""
    folder.mkdir()
    project = _project()
    info = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata = [f"Name: {project['name']}", f"Version: {project['version']}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    files = {str(file.relative_to(ROOT)): file.read_bytes() for tree in TREES for file in (ROOT / tree).rglob("*.py")}
    files[f"{info}/METADATA"] = "\n".join(["Metadata-Version: 2.1", *metadata, ""]).encode()
    files[f"{info}/entry_points.txt"] = "\n".join(["[console_scripts]", *scripts, ""]).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    _write_wheel(folder, info, files)
    for one in _needed():
        files = dict(_files_of(one))
        info = next(name for name in files if name.endswith(".dist-info/WHEEL")).rpartition("/")[0]
        del files[f"{info}/RECORD"]
        _write_wheel(folder, info, files)


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _needed() -> Collection[Distribution]:
    """Return all that consul-edge needs, as it is installed here."""
    found: dict[str, Distribution] = {}
    for requirement in _project()["dependencies"]:
        _add(requirement, found)
    return found.values()


def _add(requirement: str, found: dict[str, Distribution]) -> None:
    """Add what is installed for a requirement, and all that it requires in its turn."""
    word, _, marker = requirement.partition(";")
    match = re.match(r"[\w.-]+", word)
    assert match is not None
    name = re.sub(r"[-_.]+", "-", match[0]).lower()
    if name in found or _EXTRA.search(marker):
        return
    try:
        found[name] = distribution(name)
    except PackageNotFoundError:
        assert marker, f"{name} is not installed"  # else it is for another Python or system
        return
    for other in found[name].requires or ():
        _add(other, found)


def _files_of(one: Distribution) -> Iterator[tuple[str, bytes]]:
    """The installed files of a distribution, but for compiled ones and programs."""
    for file in one.files or ():
        name = str(file)
        if not name.startswith("..") and not name.endswith(".pyc"):
            yield name, file.read_binary()


def _write_wheel(folder: Path, info: str, files: dict[str, bytes]) -> None:
    """Write a wheel with its record of hashes (PyPA's binary distribution format); `info` is its folder of metadata."""
    tag = re.findall(r"^Tag: (.*)$", files[f"{info}/WHEEL"].decode(), re.MULTILINE)[-1]
    path = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
