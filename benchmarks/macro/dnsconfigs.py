"""The configuration text of DNS peers, and of the recursor behind them. Pure: ports and folders in, text out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.macro.names import FOREIGN_DOMAIN, FOREIGN_TTL, Record, foreign_records, service_records
from benchmarks.macro.site import DNS_NAMES, dns_addresses, dns_name


def dnsmasq(port: int, hosts: Path, recursor_port: int = 0) -> str:
    """dnsmasq that has the services' addresses from a hosts file, and asks the recursor, if there is one, for the rest.

    It gets no SRV records: it walks through the list of them for each question, whatever is asked.
    """
    upstream = f"server=127.0.0.1#{recursor_port}\n" if recursor_port else ""
    return f"""\
port={port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
addn-hosts={hosts}
local=/consul/
{upstream}cache-size=10000
user=root
pid-file=
"""


def hosts_file() -> str:
    """Return all services' names and addresses as lines of a hosts file."""
    return "".join(f"{address} {dns_name(index)}\n" for index in range(DNS_NAMES) for address in dns_addresses(index))


def unbound(port: int, work: Path, recursor_port: int = 0) -> str:
    """unbound with the services as local data, that asks the recursor, if there is one, for the rest."""
    forward = f'forward-zone:\n    name: "."\n    forward-addr: 127.0.0.1@{recursor_port}\n' if recursor_port else ""
    return _unbound(port, work, "consul", service_records(), ttl=0) + forward


def recursor(port: int, work: Path) -> str:
    """unbound as the recursor that all peers ask for foreign names."""
    return _unbound(port, work, FOREIGN_DOMAIN, foreign_records(), ttl=FOREIGN_TTL)


def _unbound(port: int, work: Path, zone: str, records: Iterable[Record], ttl: int) -> str:
    data = "\n".join(f'    local-data: "{owner}. {ttl} IN {kind} {rdata}"' for owner, kind, rdata in records)
    return f"""\
server:
    interface: 127.0.0.1
    port: {port}
    num-threads: 1
    do-daemonize: no
    do-not-query-localhost: no
    username: ""
    chroot: ""
    directory: "{work}"
    pidfile: ""
    use-syslog: no
    verbosity: 0
    module-config: "iterator"
    local-zone: "{zone}." static
{data}
remote-control:
    control-enable: no
"""
