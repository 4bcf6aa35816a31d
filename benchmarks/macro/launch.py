"""Starting the programs of a run."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.macro import catalog, probes
from benchmarks.macro.processes import Program
from benchmarks.macro.site import Site, free_ports


def launch_nginx(site: Site, name: str, config: str, port: int) -> Program:
    """Start an nginx, and return when the service answers on the port."""
    program = launch(site, name, ["nginx", "-c", write(site, f"{name}.conf", config)])
    program.wait_ready(lambda: probes.http_reply(port))
    return program


def launch_consul(site: Site, name: str, *flags: str) -> tuple[Program, int, int]:
    """Start a Consul agent, in memory only, that knows all names; return it with its HTTP and DNS ports."""
    agent, dns_port, server, serf_lan, serf_wan = free_ports(5)
    program = launch(
        site,
        name,
        [
            "consul", "agent", "-dev", f"-node={name}", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=err",
            f"-http-port={agent}", f"-dns-port={dns_port}", f"-server-port={server}",
            f"-serf-lan-port={serf_lan}", f"-serf-wan-port={serf_wan}", "-grpc-port=-1", *flags,
        ],
        env={"GOMAXPROCS": "1"},
    )  # fmt: skip
    program.wait_ready(lambda: catalog.leader_elected(agent))
    catalog.register_names(agent)
    return program, agent, dns_port


def launch(site: Site, name: str, argv: list[str], env: Mapping[str, str] | None = None) -> Program:
    """Start a program on the cores of the others; the site ends it."""
    program = Program(argv, log=site.work / f"{name}.log", cpus=site.other_cpus, env=env)
    site.held.callback(program.stop)
    return program


def write(site: Site, name: str, text: str) -> str:
    """Write a file below the work folder, and return its path."""
    path = site.work / name
    path.write_text(text)
    return str(path)
