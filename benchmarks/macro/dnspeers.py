"""The DNS servers that are compared with consul-edge, and the recursor that all of them ask for foreign names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.macro import dnsconfigs, probes
from benchmarks.macro.launch import launch, launch_consul, write
from benchmarks.macro.names import answers_to, foreign_questions
from benchmarks.macro.peer import Peer, Running
from benchmarks.macro.site import Site, free_ports

RECURSOR_PATIENCE = 10.0
"""Seconds in which the recursor must answer."""


def start_recursor(site: Site) -> Site:
    """Start the DNS server that knows the foreign names, and return the site with it."""
    (port,) = free_ports(1)
    config = write(site, "recursor.conf", dnsconfigs.recursor(port, site.work))
    launch(site, "recursor", ["unbound", "-d", "-c", config])
    expected = answers_to(foreign_questions()[-1:])
    probes.expect_answers(port, expected, edns=False, patience=RECURSOR_PATIENCE)
    return replace(site, recursor_port=port)


def _start_consul(site: Site) -> Running:
    flags = [f"-recursor=127.0.0.1:{site.recursor_port}"] if site.recursor_port else []
    program, agent, dns_port = launch_consul(site, "consul", *flags)
    program.wait_ready(lambda: probes.dns_names(dns_port))
    return Running(program, {"dns": dns_port}, agent=agent)


def _start_dnsmasq(site: Site) -> Running:
    (port,) = free_ports(1)
    hosts = write(site, "dnsmasq.hosts", dnsconfigs.hosts_file())
    config = write(site, "dnsmasq.conf", dnsconfigs.dnsmasq(port, Path(hosts), site.recursor_port))
    program = launch(site, "dnsmasq", ["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"])
    program.wait_ready(lambda: probes.dns_names(port))
    return Running(program, {"dns": port})


def _start_unbound(site: Site) -> Running:
    (port,) = free_ports(1)
    config = write(site, "unbound.conf", dnsconfigs.unbound(port, site.work, site.recursor_port))
    program = launch(site, "unbound", ["unbound", "-d", "-c", config])
    program.wait_ready(lambda: probes.dns_names(port))
    return Running(program, {"dns": port})


DNS_PEERS: tuple[Peer, ...] = (
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
        about="the same names from a hosts file; no SRV records",
        kinds=frozenset({"dns"}),
        start=_start_dnsmasq,
        commands=("dnsmasq",),
        version=("--version",),
        loads=frozenset({"dns-hot", "dns-names", "dns-forwarded"}),
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
