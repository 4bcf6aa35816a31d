"""Real Consul agents for tests: one server each, alone in its datacenter, on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import pytest

from tests.support.process import free_ports, running, wait_until

Json = Any

TXN_LIMIT = 64
"""Consul takes at most so many operations in one transaction."""


def require(program: str, why: str) -> str:
    """Return the path of a program; skip the test without it, or fail where `CI` is set.

    A machine of CI is expected to have everything: a test that silently never runs proves nothing.
    """
    path = shutil.which(program)
    if path is None:
        unavailable(f"{program} is not on the PATH: {why}")
    return path


def unavailable(message: str) -> NoReturn:
    """Skip a test that cannot run on this machine, or fail it where `CI` is set."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(message)
    pytest.skip(message)


class ConsulApi:
    """The calls of Consul's HTTP API that tests make, on whatever answers at `url`."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token
        self._netloc = urlsplit(url).netloc

    def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        **params: str | int,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Make one call on a connection of its own; return status, headers and body.

        A parameter with a trailing underscore stands for one that is a Python keyword, `-` is written `_`.
        """
        query = urlencode({name.rstrip("_").replace("_", "-"): value for name, value in params.items()})
        secret = self.token if token is None else token
        connection = http.client.HTTPConnection(self._netloc, timeout=timeout)
        try:
            connection.request(
                method,
                quote(path) + (f"?{query}" if query else ""),
                None if body is None else json.dumps(body).encode(),
                {"X-Consul-Token": secret} if secret else {},
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Json = None, **options: Any) -> Json:
        """Make one call, assert that it was accepted, and return the decoded answer (None: empty)."""
        status, _, answer = self.request(method, path, body, **options)
        assert status == 200, f"{method} {path}: {status} {answer[:500]!r}"
        return json.loads(answer) if answer.strip() else None

    def get(self, path: str, **options: Any) -> Json:
        """GET and decode."""
        return self.call("GET", path, **options)

    def put(self, path: str, body: Json = None, **options: Any) -> Json:
        """PUT and decode."""
        return self.call("PUT", path, body, **options)

    def register(
        self,
        name: str,
        port: int,
        *,
        id: str | None = None,
        address: str = "127.0.0.1",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        weight: int | None = None,
        ttl_check: str | None = None,
        token: str | None = None,
    ) -> str:
        """Register a service instance with the agent and return its ID (`<name>-<port>` unless given).

        `ttl_check` adds a TTL check `service:<id>` of 1 hour in that state: `passing` or worse.
        """
        service_id = id if id is not None else f"{name}-{port}"
        body: dict[str, Json] = {
            "Name": name,
            "ID": service_id,
            "Port": port,
            "Address": address,
            "Tags": list(tags),
        }
        if meta is not None:
            body["Meta"] = dict(meta)
        if weight is not None:
            body["Weights"] = {"Passing": weight, "Warning": 1}
        if ttl_check is not None:
            body["Check"] = {"TTL": "1h", "Status": ttl_check}
        self.put("/v1/agent/service/register", body, token=token)
        return service_id

    def deregister(self, service_id: str) -> None:
        """Take a service instance off the agent."""
        self.put(f"/v1/agent/service/deregister/{service_id}")

    def set_health(self, service_id: str, status: str) -> None:
        """Set the TTL check of an instance registered with `ttl_check`."""
        self.put(f"/v1/agent/check/update/service:{service_id}", {"Status": status})

    def maintenance(self, service_id: str, on: bool) -> None:
        """Put an instance in maintenance mode, or take it out."""
        self.put(f"/v1/agent/service/maintenance/{service_id}", enable=str(on).lower())

    def node_maintenance(self, on: bool) -> None:
        """Put the whole node in maintenance mode, or take it out."""
        self.put("/v1/agent/maintenance", enable=str(on).lower())

    def register_external(self, node: str, address: str, services: Sequence[Mapping[str, Json]] = ()) -> None:
        """Write a node without an agent, and services on it, straight into the catalog, in transactions.

        A service is a mapping in Consul's catalog form: `Service`, `ID`, `Port`, `Address`, `Tags`, ...
        """
        operations: list[Json] = [{"Node": {"Verb": "set", "Node": {"Node": node, "Address": address}}}]
        operations += [{"Service": {"Verb": "set", "Node": node, "Service": dict(s)}} for s in services]
        for start in range(0, len(operations), TXN_LIMIT):
            self.put("/v1/txn", operations[start : start + TXN_LIMIT])

    def deregister_external(self, node: str, service_id: str | None = None) -> None:
        """Take a node, or one service of it, out of the catalog."""
        body = {"Node": node}
        if service_id is not None:
            body["ServiceID"] = service_id
        self.put("/v1/catalog/deregister", body)

    def clear(self) -> None:
        """Take away all services, checks, external nodes and maintenance modes; wait for the catalog."""
        own = self.get("/v1/agent/self")["Config"]["NodeName"]
        self.node_maintenance(False)
        for check in self.get("/v1/agent/checks"):
            if not check.startswith(("service:", "_service_maintenance:")):
                self.put(f"/v1/agent/check/deregister/{check}")
        for service_id in self.get("/v1/agent/services"):
            self.deregister(service_id)
        for node in self.get("/v1/catalog/nodes"):
            if node["Node"] != own:
                self.deregister_external(node["Node"])
        wait_until(
            lambda: set(self.get("/v1/catalog/services")) <= {"consul"},
            what="the catalog is empty again",
        )


class Consul(ConsulApi):
    """A `consul agent` process: a server that is its own leader.

    It keeps its ports and its data over `stop`, `kill` and `start`. `acl` turns ACLs on with default
    policy deny; `token` is then the management token, and `clear`, `register` and the like use it.
    `config` is merged over the agent's configuration (one level deep in `ports`).
    """

    ACL_TOKEN = "11111111-2222-3333-4444-555555555555"

    def __init__(
        self,
        directory: Path,
        *,
        datacenter: str = "dc1",
        node: str = "consul-1",
        acl: bool = False,
        config: Mapping[str, Json] | None = None,
    ) -> None:
        self.program = require("consul", "this test follows a real Consul agent")
        self.directory = directory
        self.datacenter = datacenter
        self.node = node
        names = ("http", "dns", "serf_lan", "serf_wan", "server")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        super().__init__(f"http://127.0.0.1:{self.http_port}", self.ACL_TOKEN if acl else "")
        self._config = self._configuration(acl, config or {})
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_port(self) -> int:
        """The port of the HTTP API, on 127.0.0.1."""
        return self.ports["http"]

    @property
    def dns_port(self) -> int:
        """The port of Consul's own DNS, UDP and TCP, on 127.0.0.1."""
        return self.ports["dns"]

    @property
    def log(self) -> Path:
        """Where the agent's output goes."""
        return self.directory / "consul.log"

    @property
    def data(self) -> Path:
        """The agent's data directory."""
        return self.directory / "data"

    def _configuration(self, acl: bool, extra: Mapping[str, Json]) -> dict[str, Json]:
        ports: dict[str, int] = {**self.ports, "grpc": -1}
        if self._version() >= (1, 14):
            ports["grpc_tls"] = -1
        settings: dict[str, Json] = {
            "datacenter": self.datacenter,
            "node_name": self.node,
            "data_dir": str(self.data),
            "server": True,
            "bootstrap": True,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "INFO",
        }
        if acl:
            tokens = {"master": self.ACL_TOKEN, "agent": self.ACL_TOKEN}
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        return {**settings, **extra, "ports": {**ports, **extra.get("ports", {})}}

    def _version(self) -> tuple[int, int]:
        output = subprocess.run(
            [self.program, "version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        match = re.search(r"v(\d+)\.(\d+)", output)
        assert match, f"consul version: {output!r}"
        return int(match[1]), int(match[2])

    def start(self) -> None:
        """Start the agent and return when it has a leader and its node is registered and passing."""
        assert self._process is None, "the agent is running already"
        self.data.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "consul.json"
        configuration.write_text(json.dumps(self._config))
        self._process = self._running.enter_context(
            running([self.program, "agent", "-config-file", configuration], log=self.log, stop=signal.SIGINT)
        )
        try:
            wait_until(self._ready, timeout=30, what="the Consul agent is ready")
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"consul ended with status {self._process.returncode}:\n{tail}")
        status, _, body = self.request("GET", f"/v1/health/node/{self.node}", timeout=5)
        checks = json.loads(body) if status == 200 else []
        return bool(checks) and all(check["Status"] == "passing" for check in checks)

    def stop(self) -> None:
        """End the agent in order; does nothing when it does not run."""
        self._process = None
        self._running.close()

    def kill(self) -> None:
        """End the agent at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the agent from running for the length of a `with` block: it hangs, its connections stay open."""
        assert self._process is not None, "the agent does not run"
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def restart(self, *, wipe: bool = False) -> None:
        """Stop and start again on the same ports; `wipe` forgets everything, as a new machine would."""
        self.stop()
        if wipe:
            shutil.rmtree(self.data)
        self.start()


@contextlib.contextmanager
def running_consul(
    directory: Path,
    *,
    datacenter: str = "dc1",
    node: str = "consul-1",
    acl: bool = False,
    config: Mapping[str, Json] | None = None,
) -> Iterator[Consul]:
    """Run an agent for the length of a `with` block; see `Consul` for the options."""
    consul = Consul(directory, datacenter=datacenter, node=node, acl=acl, config=config)
    consul.start()
    try:
        yield consul
    finally:
        consul.stop()
