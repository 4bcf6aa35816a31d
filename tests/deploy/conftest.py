"""The image, which several tests run."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support.consul import require
from tests.support.docker import Docker
from tests.support.python_image import ROOT, base_image, write_wheels

WHY = "this test builds and runs the image"
BASE = "consul-edge-tests/python"
IMAGE = "consul-edge-tests/consul-edge"
BUILD_TIMEOUT = 120


@pytest.fixture(scope="session")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image, from a copy of the source tree with wheels beside it."""
    context = tmp_path_factory.mktemp("image") / "context"
    context.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        name = line.removeprefix("!")
        if line.startswith("!") and name != "wheels":
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, context / name)
    write_wheels(context / "wheels")
    docker.call("import", "-", BASE, stdin=base_image())
    argv = [require("docker", WHY), "--host", docker.host, "build", "--tag", IMAGE]
    argv += ["--file", str(ROOT / "deploy" / "docker" / "Dockerfile"), "--build-arg", f"BASE={BASE}"]
    argv += ["--build-arg", "SOURCE=consul-edge", "--build-arg", "PIP_OPTIONS=--no-index --find-links wheels"]
    # The classic builder: BuildKit's is a plug-in that a machine need not have. It needs no network of its own.
    done = subprocess.run(
        [*argv, "--network", "none", str(context)],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return IMAGE
