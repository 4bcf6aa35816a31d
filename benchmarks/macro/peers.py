"""Who is compared. A peer is a program, how it is configured and started, and the ports on which it takes loads.

To add one: write its configuration in `configs`, a function here that starts it, and an entry in `BASIC_PEERS`; for
DNS in `dnsconfigs` and `dnspeers`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.macro import catalog, configs, probes
from benchmarks.macro.dnspeers import DNS_PEERS
from benchmarks.macro.launch import launch, launch_consul, launch_nginx, write
from benchmarks.macro.peer import ConsulEdge, Peer, Running
from benchmarks.macro.processes import Program
from benchmarks.macro.site import BULK_BYTES, DOMAIN, Site, free_ports

STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)
"""Where distributions keep nginx's stream module when it is not built in."""

LOGGED_LOADS = frozenset({"http-small", "http-browser"})
"""The loads under which an access log is measured."""

WORKERS = (1, 2)
"""How many workers the peers of the worker kinds have."""


def start_origin(site: Site) -> Program:
    """Start the nginx that plays the service's instances."""
    (site.work / "bulk").write_bytes(b"x" * BULK_BYTES)
    config = configs.origin(site.work, site.origin_ports, site.client_threads)
    program = launch(site, "origin", ["nginx", "-c", write(site, "origin.conf", config)])
    program.wait_ready(lambda: all(probes.http_reply(port) for port in site.origin_ports))
    return program


def _start_nginx_templates(site: Site) -> Running:
    (port,) = free_ports(1)
    config = configs.nginx_templates(site.work, port, site.origin_ports)
    return Running(launch_nginx(site, "nginx-templates", config, port), {"http": port})


def _start_nginx_tuned(site: Site) -> Running:
    (port,) = free_ports(1)
    config = configs.nginx_tuned(site.work, port, site.origin_ports)
    return Running(launch_nginx(site, "nginx-tuned", config, port), {"http": port})


def _start_nginx_tuned_log(site: Site) -> Running:
    (port,) = free_ports(1)
    name = "nginx-tuned-log"
    log = site.work / f"{name}.access"
    config = configs.nginx_tuned(site.work, port, site.origin_ports, name=name, access_log=log)
    return Running(launch_nginx(site, name, config, port), {"http": port}, access_log=log)


def _start_nginx_stream(site: Site) -> Running:
    (port,) = free_ports(1)
    module = next((path for path in STREAM_MODULES if path.exists()), None)
    config = configs.nginx_stream(site.work, port, site.origin_ports, module)
    return Running(launch_nginx(site, "nginx-stream", config, port), {"tcp": port})


def _start_haproxy(site: Site) -> Running:
    http_port, tcp_port = free_ports(2)
    config = write(site, "haproxy.cfg", configs.haproxy(http_port, tcp_port, site.origin_ports))
    program = launch(site, "haproxy", ["haproxy", "-db", "-f", config])
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


def _launch_consul_edge(
    site: Site, name: str, flags: Sequence[str], tcp_port: int | None = None, workers: int = 1
) -> Running:
    """Start consul-edge and the Consul agent from which it learns everything."""
    http_port, admin_port = free_ports(2)
    _, agent, _ = launch_consul(site, f"{name}-catalog")
    catalog.register_origin(agent, site, tcp_port)
    recursor = f"127.0.0.1:{site.recursor_port}" if site.recursor_port else "off"
    state = site.work / f"{name}-state"
    state.mkdir()
    program = launch(
        site,
        name,
        [
            sys.executable, "-m", "lb.cli", "run", "--consul", f"http://127.0.0.1:{agent}",
            "--domain", DOMAIN, "--http", f"127.0.0.1:{http_port}", *flags,
            "--admin", f"127.0.0.1:{admin_port}", "--state-dir", str(state),
            "--keepalive-requests", "10000000", "--upstream-keepalive-requests", "10000000",
            "--workers", str(workers), "--recursor", recursor,
        ],
    )  # fmt: skip
    program.wait_ready(lambda: probes.http_reply(http_port))
    return Running(program, {"http": http_port}, agent=agent)


def _starts_consul_edge_workers(workers: int) -> Callable[[Site], Running]:
    def start(site: Site) -> Running:
        (dns_port,) = free_ports(1)
        planes = ("--tcp", "off", "--dns", f"127.0.0.1:{dns_port}")
        running = _launch_consul_edge(site, f"consul-edge-workers-{workers}", planes, workers=workers)
        running.program.wait_ready(lambda: probes.dns_names(dns_port))
        return replace(running, ports={"http-workers": running.ports["http"], "dns-workers": dns_port})

    return start


def _starts_nginx_workers(workers: int) -> Callable[[Site], Running]:
    def start(site: Site) -> Running:
        (port,) = free_ports(1)
        name = f"nginx-workers-{workers}"
        config = configs.nginx_tuned(site.work, port, site.origin_ports, name=name, workers=workers)
        return Running(launch_nginx(site, name, config, port), {"http-workers": port})

    return start


BASIC_PEERS: tuple[Peer, ...] = (
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
    *DNS_PEERS,
)

WORKER_PEERS: tuple[Peer, ...] = tuple(
    peer
    for workers in WORKERS
    for peer in (
        ConsulEdge(
            name=f"consul-edge-workers-{workers}",
            about=f"--workers {workers}",
            kinds=frozenset({"http-workers", "dns-workers"}),
            start=_starts_consul_edge_workers(workers),
            commands=("consul",),
        ),
        Peer(
            name=f"nginx-workers-{workers}",
            about=f"nginx-tuned with worker_processes {workers}",
            kinds=frozenset({"http-workers"}),
            start=_starts_nginx_workers(workers),
            commands=("nginx",),
        ),
    )
)

PEERS = (*BASIC_PEERS, *WORKER_PEERS)
