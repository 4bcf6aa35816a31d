"""Catalog entries as Consul 1.8 gives them."""

from __future__ import annotations

from typing import Any

Json = Any


def entry(
    name: str = "web",
    id: str = "web-1",
    *,
    node: str = "n1",
    address: str = "10.0.0.1",
    port: int = 8080,
    checks: tuple[str, ...] = ("passing",),
    index: int = 7,
    **described: Json,
) -> Json:
    """One entry of `/v1/health/service/<name>`; `described` replaces fields of `Service`."""
    return {
        "Node": {
            "ID": "4e34d358-d7dd-84d0-df7d-49edcb84681f",
            "Node": node,
            "Address": "192.0.2.1",
            "Datacenter": "dc1",
            "TaggedAddresses": {"lan": "192.0.2.1"},
            "Meta": {"rack": "a"},
        },
        "Service": {
            "ID": id,
            "Service": name,
            "Tags": ["http"],
            "Address": address,
            "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 8080}},
            "Meta": {"lb_policy": "random"},
            "Port": port,
            "Weights": {"Passing": 3, "Warning": 1},
            "EnableTagOverride": False,
            "Proxy": {"MeshGateway": {}, "Expose": {}},
            "Connect": {},
            "CreateIndex": 5,
            "ModifyIndex": index,
            **described,
        },
        "Checks": [{"Node": node, "CheckID": f"c{n}", "Status": status} for n, status in enumerate(checks)],
    }
