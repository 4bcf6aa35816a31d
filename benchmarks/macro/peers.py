"""Who is compared. A peer is a program, how it is configured and started, and the ports on which it takes loads.

To add one: write its configuration in `configs`, a function here that starts it, and an entry in `PEERS`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.macro import catalog, configs, probes
from benchmarks.macro.processes import Program
from benchmarks.macro.site import BULK_BYTES, DOMAIN, Site, free_ports

Kind = Literal["http", "tcp", "dns"]

STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)
"""Where distributions keep nginx's stream module when it is not built in."""

LOGGED_LOADS = frozenset({"http-small", "http-browser"})
"""The loads under which an access log is measured."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer: its program, and the port for each kind of load that it takes."""

    program: Program
    ports: Mapping[Kind, int]
    access_log: Path | None = None
    """The file that gets a line for each request."""
    agent: int | None = None
    """HTTP port of the Consul agent from which it learns everything."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of the comparison.

    `commands` must be on the PATH; the first one, with the arguments `version`, tells the version. `loads` names the
    loads that the peer takes part in, all of its kinds when empty. `base` names the peer of which this one is a
    variant that does more for each request.
    """

    name: str
    about: str
    kinds: frozenset[Kind]
    start: Callable[[Site], Running]
    commands: tuple[str, ...]
    version: tuple[str, ...] = ("-v",)
    loads: frozenset[str] = frozenset()
    base: str = ""

    def missing(self) -> str:
        """Return why the peer cannot take part, empty when it can."""
        return ", ".join(f"{command} is not on the PATH" for command in self.commands if not shutil.which(command))

    def read_version(self) -> str:
        """Return the version that the program tells, or `unknown`."""
        return read_version(self.commands[0], *self.version)


@dataclass(frozen=True, slots=True)
class ConsulEdge(Peer):
    """consul-edge, from this very tree."""

    def missing(self) -> str:
        """Return why the peer cannot take part, empty when it can."""
        if importlib.util.find_spec("lb.cli") is None:
            return "there is no lb.cli"
        return Peer.missing(self)

    def read_version(self) -> str:
        """Return the version of the installed package."""
        try:
            return importlib.metadata.version("consul-edge")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


def read_version(command: str, *arguments: str) -> str:
    """Return the first thing like a version that a command prints, or `unknown`."""
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def start_origin(site: Site) -> Program:
    """Start the nginx that plays the service's instances."""
    (site.work / "bulk").write_bytes(b"x" * BULK_BYTES)
    config = configs.origin(site.work, site.origin_ports, site.client_threads)
    program = _launch(site, "origin", ["nginx", "-c", _write(site, "origin.conf", config)])
    program.wait_ready(lambda: all(probes.http_reply(port) for port in site.origin_ports))
    return program


def _start_nginx_templates(site: Site) -> Running:
    (port,) = free_ports(1)
    config = configs.nginx_templates(site.work, port, site.origin_ports)
    return Running(_launch_nginx(site, "nginx-templates", config, port), {"http": port})


def _start_nginx_tuned(site: Site) -> Running:
    (port,) = free_ports(1)
    config = configs.nginx_tuned(site.work, port, site.origin_ports)
    return Running(_launch_nginx(site, "nginx-tuned", config, port), {"http": port})


def _start_nginx_tuned_log(site: Site) -> Running:
    (port,) = free_ports(1)
    name = "nginx-tuned-log"
    log = site.work / f"{name}.access"
    config = configs.nginx_tuned(site.work, port, site.origin_ports, name=name, access_log=log)
    return Running(_launch_nginx(site, name, config, port), {"http": port}, access_log=log)


def _start_nginx_stream(site: Site) -> Running:
    (port,) = free_ports(1)
    module = next((path for path in STREAM_MODULES if path.exists()), None)
    config = configs.nginx_stream(site.work, port, site.origin_ports, module)
    return Running(_launch_nginx(site, "nginx-stream", config, port), {"tcp": port})


def _start_haproxy(site: Site) -> Running:
    http_port, tcp_port = free_ports(2)
    config = _write(site, "haproxy.cfg", configs.haproxy(http_port, tcp_port, site.origin_ports))
    program = _launch(site, "haproxy", ["haproxy", "-db", "-f", config])
    program.wait_ready(lambda: probes.http_reply(http_port) and probes.http_reply(tcp_port))
    return Running(program, {"http": http_port, "tcp": tcp_port})


def _start_consul_edge(site: Site) -> Running:
    """Start consul-edge as an HTTP, TCP and DNS server."""
    tcp_port, dns_port = free_ports(2)
    planes = ("--tcp", "127.0.0.1", "--dns", f"127.0.0.1:{dns_port}")
    running = _launch_consul_edge(site, "consul-edge", planes, tcp_port)
    running.program.wait_ready(lambda: probes.http_reply(tcp_port) and probes.dns_names(dns_port))
    return replace(running, ports={**running.ports, "tcp": tcp_port, "dns": dns_port})


def _start_consul_edge_combined(site: Site) -> Running:
    return _start_logging_consul_edge(site, "consul-edge-combined", ("--access-log-format", "combined"))


def _start_consul_edge_json(site: Site) -> Running:
    duties = ("--access-log-format", "json", "--request-id", "X-Request-ID")
    return _start_logging_consul_edge(site, "consul-edge-json", duties)


def _start_logging_consul_edge(site: Site, name: str, duties: Sequence[str]) -> Running:
    log = site.work / f"{name}.access"
    flags = ("--tcp", "off", "--dns", "off", "--access-log", str(log), *duties)
    return replace(_launch_consul_edge(site, name, flags), access_log=log)


def _launch_consul_edge(site: Site, name: str, flags: Sequence[str], tcp_port: int | None = None) -> Running:
    """Start consul-edge with one data-plane process, and the Consul agent from which it learns everything."""
    http_port, admin_port = free_ports(2)
    _, agent, _ = _launch_consul(site, f"{name}-catalog")
    catalog.register_origin(agent, site, tcp_port)
    state = site.work / f"{name}-state"
    state.mkdir()
    program = _launch(
        site,
        name,
        [
            sys.executable, "-m", "lb.cli", "run", "--consul", f"http://127.0.0.1:{agent}",
            "--domain", DOMAIN, "--http", f"127.0.0.1:{http_port}", *flags,
            "--admin", f"127.0.0.1:{admin_port}", "--state-dir", str(state),
            "--keepalive-requests", "10000000", "--upstream-keepalive-requests", "10000000",
        ],
        env={"CONSUL_EDGE_WORKERS": "1"},
    )  # fmt: skip
    program.wait_ready(lambda: probes.http_reply(http_port))
    return Running(program, {"http": http_port}, agent=agent)


def _start_consul(site: Site) -> Running:
    program, _, dns_port = _launch_consul(site, "consul")
    program.wait_ready(lambda: probes.dns_names(dns_port))
    return Running(program, {"dns": dns_port})


def _start_dnsmasq(site: Site) -> Running:
    (port,) = free_ports(1)
    hosts = _write(site, "dnsmasq.hosts", configs.hosts_file())
    config = _write(site, "dnsmasq.conf", configs.dnsmasq(port, Path(hosts)))
    program = _launch(site, "dnsmasq", ["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"])
    program.wait_ready(lambda: probes.dns_names(port))
    return Running(program, {"dns": port})


def _start_unbound(site: Site) -> Running:
    (port,) = free_ports(1)
    config = _write(site, "unbound.conf", configs.unbound(port, site.work))
    program = _launch(site, "unbound", ["unbound", "-d", "-c", config])
    program.wait_ready(lambda: probes.dns_names(port))
    return Running(program, {"dns": port})


def _launch_nginx(site: Site, name: str, config: str, port: int) -> Program:
    program = _launch(site, name, ["nginx", "-c", _write(site, f"{name}.conf", config)])
    program.wait_ready(lambda: probes.http_reply(port))
    return program


def _launch_consul(site: Site, name: str) -> tuple[Program, int, int]:
    """Start a Consul agent, in memory only, that knows all names; return it with its HTTP and DNS ports."""
    agent, dns_port, server, serf_lan, serf_wan = free_ports(5)
    program = _launch(
        site,
        name,
        [
            "consul", "agent", "-dev", f"-node={name}", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=err",
            f"-http-port={agent}", f"-dns-port={dns_port}", f"-server-port={server}",
            f"-serf-lan-port={serf_lan}", f"-serf-wan-port={serf_wan}", "-grpc-port=-1",
        ],
        env={"GOMAXPROCS": "1"},
    )  # fmt: skip
    program.wait_ready(lambda: catalog.leader_elected(agent))
    catalog.register_names(agent)
    return program, agent, dns_port


def _launch(site: Site, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> Program:
    program = Program(argv, log=site.work / f"{name}.log", cpus=site.other_cpus, env=env)
    site.held.callback(program.stop)
    return program


def _write(site: Site, name: str, text: str) -> str:
    path = site.work / name
    path.write_text(text)
    return str(path)


PEERS: tuple[Peer, ...] = (
    ConsulEdge(
        name="consul-edge",
        about="one data-plane process; services from a Consul agent",
        kinds=frozenset({"http", "tcp", "dns"}),
        start=_start_consul_edge,
        commands=("consul",),
    ),
    Peer(
        name="nginx-templates",
        about="nginx as the consul-template templates configure it: HTTP/1.0, an upstream connection for each request",
        kinds=frozenset({"http"}),
        start=_start_nginx_templates,
        commands=("nginx",),
    ),
    Peer(
        name="nginx-tuned",
        about="nginx with upstream keep-alive (64), one worker, nothing buffered on disk",
        kinds=frozenset({"http"}),
        start=_start_nginx_tuned,
        commands=("nginx",),
    ),
    ConsulEdge(
        name="consul-edge-combined",
        about="consul-edge with an access log in nginx's combined format",
        kinds=frozenset({"http"}),
        start=_start_consul_edge_combined,
        commands=("consul",),
        loads=LOGGED_LOADS,
        base="consul-edge",
    ),
    ConsulEdge(
        name="consul-edge-json",
        about="consul-edge with an access log of JSON lines, and a request id for each request",
        kinds=frozenset({"http"}),
        start=_start_consul_edge_json,
        commands=("consul",),
        loads=LOGGED_LOADS,
        base="consul-edge",
    ),
    Peer(
        name="nginx-tuned-log",
        about="nginx-tuned with an access log in its combined format, written in pieces of 64 KiB",
        kinds=frozenset({"http"}),
        start=_start_nginx_tuned_log,
        commands=("nginx",),
        loads=LOGGED_LOADS,
        base="nginx-tuned",
    ),
    Peer(
        name="nginx-stream",
        about="nginx's stream module as the templates configure it: least_conn, one worker",
        kinds=frozenset({"tcp"}),
        start=_start_nginx_stream,
        commands=("nginx",),
    ),
    Peer(
        name="haproxy",
        about="one thread, http-reuse always; leastconn for TCP",
        kinds=frozenset({"http", "tcp"}),
        start=_start_haproxy,
        commands=("haproxy",),
    ),
    Peer(
        name="consul",
        about="the Consul agent's own DNS, on one core as the others",
        kinds=frozenset({"dns"}),
        start=_start_consul,
        commands=("consul",),
        version=("version",),
    ),
    Peer(
        name="dnsmasq",
        about="the same names from a hosts file",
        kinds=frozenset({"dns"}),
        start=_start_dnsmasq,
        commands=("dnsmasq",),
        version=("--version",),
    ),
    Peer(
        name="unbound",
        about="the same names as local data, one thread",
        kinds=frozenset({"dns"}),
        start=_start_unbound,
        commands=("unbound",),
        version=("-V",),
    ),
)
