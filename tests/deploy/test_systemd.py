"""The units, as systemd's own programs judge them, and what they promise: no root, low ports all the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.consul import Consul, require, unavailable
from tests.support.node import running_node

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
INSTALLED = "/opt/consul-edge/bin/consul-edge"
WHY = "these tests check the units of deploy/systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
EXPOSURE = 20
"""In tenths: what `systemd-analyze security` calls OK ends at 5.0; a unit that says nothing of it has 9.6."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that this machine has in place of the installed one."""
    copy = tmp_path / "units"
    shutil.copytree(SYSTEMD, copy)
    for unit in copy.glob("*.service"):
        text = unit.read_text()
        assert f"ExecStart={INSTALLED} " in text
        unit.write_text(text.replace(INSTALLED, sys.executable))
    return copy


def run(*argv: str | Path) -> tuple[int, str]:
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    files = [path for kind in ("*.service", "*.socket") for path in units.glob(kind)]
    assert len(files) == 5
    status, output = run(require("systemd-analyze", WHY), "verify", "--man=no", *files)
    assert (status, output) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_services_are_hardened(units: Path, service: str) -> None:
    argv = [require("systemd-analyze", WHY), "security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager"]
    status, output = run(*argv, units / service)
    assert status == 0, output


def test_services_differ_where_they_must_alone() -> None:
    """Hardening and what systemd is told of the program is the same in all."""
    own = re.compile(
        r"#.*|Description=.*|After=.*|Conflicts=.*|User=.*|SupplementaryGroups=.*|Environment.*|ExecStart=.*|"
        r"(State|Logs)Directory.*|LimitNOFILE=.*|(Ambient|CapabilityBounding).*|"
    )
    common = {
        tuple(line for line in (SYSTEMD / name).read_text().splitlines() if not own.fullmatch(line))
        for name in SERVICES
    }
    assert len(common) == 1


def test_users_and_folders_are_made(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("users and folders are made by root")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text("docker:x:108:\n")
    root = f"--root={tmp_path}"
    status, output = run(require("systemd-sysusers", WHY), root, SYSTEMD / "sysusers.d" / "consul-edge.conf")
    assert status == 0, output
    users = {line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text().splitlines()}
    assert users == {"consul-edge", "consul-edge-registrator"}
    used = {
        user for name in SERVICES for user in re.findall(r"^User=(.*)$", (SYSTEMD / name).read_text(), re.MULTILINE)
    }
    assert used == users
    # Only the one file that is named is worked on, below the root that is given.
    status, output = run(
        require("systemd-tmpfiles", WHY), "--create", root, SYSTEMD / "tmpfiles.d" / "consul-edge.conf"
    )
    assert status == 0, output
    made = (tmp_path / "etc" / "consul-edge").stat()
    group = re.search(r"^consul-edge:x:(\d+):", (tmp_path / "etc" / "group").read_text(), re.MULTILINE)
    assert group is not None
    assert (made.st_mode & 0o777, made.st_uid, made.st_gid) == (0o750, 0, int(group[1]))


def test_the_environment_file_is_taken(consul: Consul, tmp_path: Path) -> None:
    """With each of its lines, those that are commented out, too, the program starts."""
    lines = [line.lstrip("#") for line in (SYSTEMD / "consul-edge.env").read_text().splitlines()]
    environment = dict(line.split("=", 1) for line in lines if line.startswith("CONSUL_EDGE_"))
    assert len(environment) >= 8
    token, log = tmp_path / "token", tmp_path / "access.log"
    token.touch()
    # What cannot be the same on this machine.
    environment |= {"CONSUL_EDGE_TOKEN_FILE": str(token), "CONSUL_EDGE_ACCESS_LOG": str(log)}
    for name in ("CONSUL_EDGE_CONSUL", "CONSUL_EDGE_DNS", "CONSUL_EDGE_ADMIN", "CONSUL_EDGE_RECURSOR"):
        del environment[name]
    environment["CONSUL_EDGE_REGISTER"] = "127.0.0.1"
    with running_node(tmp_path / "node", consul.url, flags=("--workers", "1"), env=environment) as node:
        assert node.ready()


def test_ports_below_1024_need_one_capability_and_no_other(consul: Consul, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root can give capabilities away")
    alone = "-all,+net_bind_service"
    setpriv = [require("setpriv", WHY), "--no-new-privs", f"--bounding-set={alone}", f"--inh-caps={alone}"]
    # Python starts the program so that a test's usual way of starting it stays as it is.
    program = (
        "-c",
        f"import os, sys; os.execv('{setpriv[0]}', {setpriv!r} + [sys.executable, '-m', 'lb.cli', *sys.argv[1:]])",
    )
    host = f"127.78.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
    flags = ("--http", f"{host}:80", "--dns", f"{host}:53", "--workers", "1")
    with running_node(tmp_path, consul.url, flags=flags, program=program) as node:
        effective = re.search(r"^CapEff:\s*(\w+)$", Path(f"/proc/{node.pid()}/status").read_text(), re.MULTILINE)
        assert effective is not None
        assert int(effective[1], 16) == 1 << 10, "CAP_NET_BIND_SERVICE"
        assert node.status()["ready"]
        node.upgrade()
        assert node.ready()
