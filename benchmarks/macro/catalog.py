"""What the Consul agents of a run hold: the origin as an HTTP and a TCP service, and services to ask for by name."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from benchmarks.macro.names import SERVICE_PORT
from benchmarks.macro.site import DNS_NAMES, ORIGINS, SERVICE, Site, dns_address

TIMEOUT = 10.0
"""Seconds for one request to the agent."""

TRANSACTION = 64
"""The most operations that Consul takes in one transaction."""

REGISTER = "/v1/agent/service/register"

DNS_NODE = "bench-names"
DNS_NODE_ADDRESS = "10.0.0.1"


def leader_elected(agent: int) -> bool:
    """Tell whether the agent at HTTP port `agent` can take writes."""
    return bool(request(agent, "GET", "/v1/status/leader"))


def register_origin(agent: int, site: Site, tcp_port: int | None) -> None:
    """Register the origin's servers, as an HTTP service and as a TCP service to be listened for on `tcp_port`."""
    services = [(SERVICE, "http")]
    if tcp_port is not None:
        services.append((f"tcpfront-{tcp_port}", "tcp"))
    for name, tag in services:
        for index, port in enumerate(site.origin_ports):
            request(agent, "PUT", REGISTER, origin_instance(name, index, port, tag))


def origin_instance(name: str, index: int, port: int, tag: str = "http") -> dict[str, Any]:
    """Return the registration of the origin's server on `port` as the `index`-th instance of a service."""
    return {"ID": f"{name}-{index}", "Name": name, "Tags": [tag], "Address": "127.0.0.1", "Port": port}


def register_names(agent: int) -> None:
    """Register the services that are asked for by DNS name alone."""
    operations: list[dict[str, Any]] = [
        {"Node": {"Verb": "set", "Node": {"Node": DNS_NODE, "Address": DNS_NODE_ADDRESS}}},
        *(_set_service(index, number) for index in range(DNS_NAMES) for number in range(ORIGINS)),
    ]
    for start in range(0, len(operations), TRANSACTION):
        request(agent, "PUT", "/v1/txn", operations[start : start + TRANSACTION])


def _set_service(index: int, number: int) -> dict[str, Any]:
    return {"Service": {"Verb": "set", "Node": DNS_NODE, "Service": named_instance(index, number)}}


def named_instance(index: int, number: int) -> dict[str, Any]:
    """Return an instance of the `index`-th of the services that are asked for by DNS name."""
    return {
        "ID": f"svc{index}-{number}",
        "Service": f"svc{index}",
        "Address": dns_address(index, number),
        "Port": SERVICE_PORT,
    }


def request(agent: int, method: str, path: str, body: object = None) -> Any:
    """Ask the agent at HTTP port `agent`, and return its answer; raises OSError (HTTPError for a refusal)."""
    question = urllib.request.Request(
        f"http://127.0.0.1:{agent}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(question, timeout=TIMEOUT) as answer:
        return json.loads(answer.read() or b"null")
