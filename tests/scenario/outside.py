"""What is outside: a client, and the DNS server that knows the public names."""

from __future__ import annotations

from pathlib import Path

from tests.scenario.host import Host, Program
from tests.scenario.layout import EDGES, FRONT_NAME, HOSTS, OUTSIDE_ADDRESS, OUTSIDE_NAME, SECURE_NAME


def start_names(host: Host) -> Program:
    """Start the DNS server outside: the public names lead to both edges; it knows nothing of Consul."""
    known = [f"{OUTSIDE_ADDRESS} {OUTSIDE_NAME}"]
    known += [f"{HOSTS[edge]} {FRONT_NAME} {SECURE_NAME}" for edge in EDGES]
    file = Path(host.directory / "hosts")
    file.write_text("".join(f"{line}\n" for line in known))
    argv = ["dnsmasq", "--keep-in-foreground"]
    argv += ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--addn-hosts={file}", "--user=root", "--pid-file="]
    return host.start("dnsmasq", [*argv, f"--listen-address={host.address}", "--bind-interfaces"])
