"""What the Consul agents of a run hold: the origin as an HTTP and a TCP service, and services to ask for by name."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from benchmarks.macro.site import DNS_NAMES, SERVICE, Site, dns_addresses

TIMEOUT = 10.0
"""Seconds for one request to the agent."""

TRANSACTION = 64
"""The most operations that Consul takes in one transaction."""

DNS_NODE = "bench-names"


def leader_elected(agent: int) -> bool:
    """Tell whether the agent at HTTP port `agent` can take writes."""
    return bool(_request(agent, "GET", "/v1/status/leader"))


def register_origin(agent: int, site: Site, tcp_port: int) -> None:
    """Register the origin's servers, as an HTTP service and as a TCP service to be listened for on `tcp_port`."""
    for name, tag in ((SERVICE, "http"), (f"tcpfront-{tcp_port}", "tcp")):
        for index, port in enumerate(site.origin_ports):
            instance = {
                "ID": f"{name}-{index}",
                "Name": name,
                "Tags": [tag],
                "Address": "127.0.0.1",
                "Port": port,
            }
            _request(agent, "PUT", "/v1/agent/service/register", instance)


def register_names(agent: int) -> None:
    """Register the services that are asked for by DNS name alone."""
    operations: list[dict[str, Any]] = [
        {"Node": {"Verb": "set", "Node": {"Node": DNS_NODE, "Address": "10.0.0.1"}}},
        *(_set_service(index, number) for index in range(DNS_NAMES) for number in range(len(dns_addresses(index)))),
    ]
    for start in range(0, len(operations), TRANSACTION):
        _request(agent, "PUT", "/v1/txn", operations[start : start + TRANSACTION])


def _set_service(index: int, number: int) -> dict[str, Any]:
    service = {
        "ID": f"svc{index}-{number}",
        "Service": f"svc{index}",
        "Address": dns_addresses(index)[number],
        "Port": 8080,
    }
    return {"Service": {"Verb": "set", "Node": DNS_NODE, "Service": service}}


def _request(agent: int, method: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{agent}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return json.loads(answer.read() or b"null")
