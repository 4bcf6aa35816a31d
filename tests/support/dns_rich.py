"""A catalog with something of every kind that DNS can be asked for, written to a real Consul, and read back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lb.catalog import decode
from lb.catalog.model import Snapshot
from tests.support.consul import Consul

NODES: Mapping[str, Mapping[str, Any]] = {
    "n4": {
        "Address": "10.1.0.4",
        "ID": "aabbccdd-1111-2222-3333-444444444444",
        "NodeMeta": {"rack": "r1", "rfc1035-note": "bare"},
    },
    "N5-Upper": {"Address": "10.1.0.5"},
    "n6": {"Address": "fd00::6", "NodeMeta": {"rack": "r6"}},
    "dotted.name": {"Address": "10.1.0.7"},
    "outside": {"Address": "www.example.net"},
    "within": {"Address": "own4.service.consul"},
    "tagged": {"Address": "10.1.0.8", "TaggedAddresses": {"lan_ipv4": "10.1.0.8", "lan_ipv6": "fd00::8"}},
    "sick": {"Address": "10.1.0.9"},
    "upkeep": {"Address": "10.1.0.10"},
    "wordy": {"Address": "10.1.0.11", "NodeMeta": {"long": "x" * 300}},
    "y" * 64: {"Address": "10.1.0.12"},
    "Twin-b": {"Address": "10.1.0.13"},
    "twin-a": {"Address": "10.1.0.13"},
}

QUERIES: Sequence[Mapping[str, Any]] = (
    {"Name": "plain", "Service": {"Service": "web"}},
    {"Name": "Timed", "Service": {"Service": "web"}, "DNS": {"TTL": "1m30s"}},
    {"Name": "brief", "Service": {"Service": "web"}, "DNS": {"TTL": "900ms"}},
    {"Name": "dotted.query.name", "Service": {"Service": "five"}},
    {"Name": "primary", "Service": {"Service": "web", "Tags": ["primary"]}},
    {"Name": "passing", "Service": {"Service": "web", "OnlyPassing": True}},
    {"Name": "failover", "Service": {"Service": "only-dc2", "Failover": {"Datacenters": ["dc2"]}}},
    {"Name": "empty", "Service": {"Service": "down"}},
    {"Name": "sidecar", "Service": {"Service": "web", "Connect": True}},
    {"Name": "crowd", "Service": {"Service": "many"}},
    {"Name": "named", "Service": {"Service": "outer"}},
    {"Name": "inside", "Service": {"Service": "inner"}},
    {"Name": "tpl-", "Template": {"Type": "name_prefix_match"}, "Service": {"Service": "${name.suffix}"}},
)


class Putter:
    """Registers instances, each with one check of its own."""

    def __init__(self, consul: Consul) -> None:
        self._consul = consul

    def __call__(
        self,
        node: str,
        name: str,
        *,
        id: str = "",
        address: str = "",
        port: int = 80,
        tags: Sequence[str] = (),
        status: str = "passing",
        weights: tuple[int, int] = (1, 1),
        tagged: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        service = {
            "Service": name,
            "ID": id or name,
            "Address": address,
            "Port": port,
            "Tags": list(tags),
            "Weights": {"Passing": weights[0], "Warning": weights[1]},
            "TaggedAddresses": {k: {"Address": v, "Port": port} for k, v in (tagged or {}).items()},
            **more,
        }
        check = {"CheckID": f"c-{id or name}", "Name": "c", "Status": status, "ServiceID": id or name}
        body = {"Node": node, **NODES[node], "SkipNodeUpdate": True, "Service": service, "Check": check}
        self._consul.put("/v1/catalog/register", body)


def fill(consul: Consul) -> None:
    """Write the catalog."""
    for node, body in NODES.items():
        consul.put("/v1/catalog/register", {"Node": node, **body})
    for node, check in (("sick", "serfHealth"), ("upkeep", "_node_maintenance")):
        critical = {"CheckID": check, "Name": check, "Status": "critical"}
        consul.put("/v1/catalog/register", {"Node": node, **NODES[node], "Check": critical})
    put = Putter(consul)
    _fill_healthy(put)
    _fill_addresses(put)
    _fill_mesh(consul, put)
    _fill_shared(put)
    for number in range(5):
        put("n4", "five", id=f"five-{number}", address=f"10.3.0.{number}", port=1000 + number)
    for number in range(40):
        put("n4", "many", id=f"many-{number}", address=f"10.4.0.{number}", port=2000 + number)
        put("n6", "many6", id=f"many6-{number}", address=f"fd00:4::{number + 16:x}", port=2000 + number)


def _fill_healthy(put: Putter) -> None:
    """Health, tags, weights."""
    put("n4", "web", tags=["primary", "V1.2"], weights=(7, 3))
    put("N5-Upper", "web", tags=["backup"], status="warning", weights=(5, 2))
    put("n6", "web", tags=["primary"])
    put("n4", "web", id="web-down", port=81, status="critical")
    put("sick", "web", id="web-sick")
    put("upkeep", "web", id="web-upkeep")
    put("n4", "down", status="critical")
    put("sick", "sickly")
    put("N5-Upper", "warned", status="warning", weights=(5, 2))
    put("n4", "weighty", id="w1", weights=(65535, 1))
    put("N5-Upper", "weighty", id="w2", weights=(1, 1))
    put("n4", "Upper", port=443)
    put("dotted.name", "dotty")
    put("wordy", "wordy")
    put("y" * 64, "lengthy")
    put("n4", "portless", port=0)


def _fill_addresses(put: Putter) -> None:
    """Families, tagged addresses, host names inside and outside of the domain, chains and rings of them."""
    put("n4", "own4", address="10.2.0.1")
    put("n4", "own6", address="fd00:2::1")
    put("n4", "mapped", address="::ffff:10.2.0.77")
    put("n4", "sixmore", address="fd00:2::2", tags=["a"])
    for id, port in (("t1", 80), ("t2", 80), ("t3", 90)):
        put("N5-Upper", "twice", id=id, address="10.2.0.9", port=port)
    put("n4", "twice", id="t4", address="10.2.0.9")
    put("n4", "inner", address="web.service.consul")
    put("n4", "inner5", address="five.service.consul")
    put("n4", "to-node", address="n4.node.consul")
    put("n4", "to-addr", address="0a010009.addr.consul")
    put("n4", "nowhere", address="nosuch.service.consul")
    put("n4", "outer", address="db.example.net")
    put("n4", "mixed", id="m1", address="db.example.net")
    put("n4", "mixed", id="m2", address="10.2.0.3")
    put("outside", "onout")
    put("within", "onin")
    put("tagged", "ontagged")
    put("n4", "both", address="10.2.0.4", tagged={"lan_ipv6": "fd00:2::4", "lan_ipv4": "10.2.0.44"})
    put("n4", "wan", address="10.2.0.6", tagged={"wan": "192.0.2.6"})
    for number in range(1, 5):
        put("n4", f"chain{number}", address=f"chain{number + 1}.service.consul")
    put("n4", "chain5", address="10.2.0.5")
    put("n4", "selfish", address="selfish.service.consul")


def _fill_shared(put: Putter) -> None:
    """Addresses that several services, or nodes, have: the first by node and ID has them, whatever its own name."""
    put("n4", "shared-a", id="Z-last", address="10.5.0.1")
    put("n4", "shared-z", id="a-first", address="10.5.0.1")
    put("n6", "shared-a", id="shared-2", address="10.5.0.2")
    put("N5-Upper", "shared-z", id="shared-3", address="10.5.0.2")
    put("n4", "shared-a", id="same-9", address="10.5.0.3")
    put("n4", "shared-z", id="same", address="10.5.0.3")


def _fill_mesh(consul: Consul, put: Putter) -> None:
    """A mesh proxy, a native service, an ingress gateway."""
    proxy: dict[str, Any] = {"Kind": "connect-proxy", "Proxy": {"DestinationServiceName": "web"}}
    put("n4", "web-proxy", id="web-proxy-1", port=21000, weights=(4, 2), **proxy)
    put("N5-Upper", "web-proxy", id="web-proxy-2", port=21001, status="warning", weights=(4, 2), **proxy)
    put("n4", "native", port=9000, Connect={"Native": True})
    entry = {
        "Kind": "ingress-gateway",
        "Name": "gate",
        "Listeners": [{"Port": 8080, "Protocol": "tcp", "Services": [{"Name": "own4"}]}],
    }
    consul.put("/v1/config", entry)
    put("n4", "gate", port=8888, Kind="ingress-gateway")


def add_queries(consul: Consul) -> None:
    """Define the prepared queries."""
    for query in QUERIES:
        consul.call("POST", "/v1/query", query)


def read_snapshot(consul: Consul) -> Snapshot:
    """Return the agent's whole catalog as a snapshot."""
    services = {
        name: decode.service(name, consul.get(f"/v1/health/service/{name}")).service
        for name in consul.get("/v1/catalog/services")
    }
    nodes = decode.nodes(consul.get("/v1/catalog/nodes"))
    return Snapshot(MappingProxyType(services), MappingProxyType(nodes), consul.datacenter, generation=1)
