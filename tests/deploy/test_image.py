"""The container image, built by the Dockerfile on a real Docker daemon, and run as it is meant to be.

No registry is asked: the base image is this machine's Python, and pip installs wheels of what is installed here.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Sequence

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.dns import ask_udp, make_query, read_reply
from tests.support.docker import Docker
from tests.support.process import wait_until


@pytest.fixture(scope="module")
def consul(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """An agent that containers reach, too, at the bridge's address."""
    config = {"client_addr": f"127.0.0.1 {docker.gateway}"}
    with running_consul(tmp_path_factory.mktemp("consul"), config=config) as consul:
        yield consul


def address(docker: Docker, container: str) -> str:
    """A container's address on the bridge, where all its ports can be reached."""
    return docker.call("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()


def health(docker: Docker, container: str) -> str:
    return docker.call("inspect", "--format", "{{.State.Health.Status}}", container).strip()


def get(host: str, port: int, path: str = "/", name: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": name or host})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


def test_the_image_serves_as_nobody_with_a_read_only_root_and_no_capability(
    docker: Docker, consul: Consul, image: str
) -> None:
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"]
    options += ["--volume", "/var/lib/consul-edge", "--health-interval", "1s"]
    options += ["--env", f"CONSUL_HTTP_ADDR={docker.gateway}:{consul.http_port}"]
    command = ["run", "--domain", "example.org", "--admin", "0.0.0.0:9900", "--workers", "1"]
    with (
        docker.container("sh", "-c", "echo hello >/www/index.html; exec httpd -f -p 80 -h /www") as backend,
        running_image(docker, image, *command, options=options) as edge,
    ):
        host = address(docker, edge)
        consul.register("web", 80, address=address(docker, backend), tags=["http"])
        wait_until(lambda: get(host, 80, name="web.example.org") == (200, "hello\n"), what="the edge serves")
        query = make_query("web.service.dc1.consul")
        assert read_reply(ask_udp(53, query, host=host)).data == [address(docker, backend)]
        wait_until(lambda: health(docker, edge) == "healthy", what="Docker finds it healthy")
        assert "ready" in docker.call("exec", edge, "consul-edge", "status")
        assert docker.call("exec", edge, "id", "-u").strip() == "10900"
        with pytest.raises(AssertionError, match="Read-only file system"):
            docker.call("exec", edge, "touch", "/opt/consul-edge/mine")
        state = ("exec", edge, "cat", "/var/lib/consul-edge/catalog.jsonl")
        wait_until(lambda: '"web"' in docker.call(*state), what="the catalog is kept")
        docker.call("stop", "--time", "40", edge)
        assert docker.call("inspect", "--format", "{{.State.ExitCode}}", edge).strip() == "0"


def test_an_edge_without_a_catalog_is_not_healthy(docker: Docker, image: str) -> None:
    options = ("--health-interval", "200ms", "--health-start-period", "1ms", "--health-retries", "1")
    command = ("run", "--consul", f"http://{docker.gateway}:1", "--admin", "0.0.0.0:9900")
    with running_image(docker, image, *command, options=options) as edge:
        host = address(docker, edge)
        wait_until(lambda: get(host, 9900, "/health/live")[0] == 200, what="the edge runs")
        wait_until(lambda: health(docker, edge) == "unhealthy", what="Docker finds it unhealthy")


@contextlib.contextmanager
def running_image(docker: Docker, image: str, *command: str, options: Sequence[str]) -> Iterator[str]:
    """Run a container of the image for the length of a `with` block; yields its id."""
    container = docker.call("run", "--detach", *options, image, *command).strip()
    try:
        yield container
    finally:
        docker.call("rm", "--force", "--volumes", container)
