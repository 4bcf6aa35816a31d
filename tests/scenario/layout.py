"""Names and addresses of the scenario."""

from __future__ import annotations

DATACENTER = "dc1"
DOMAIN = "tonybai.com"

HOSTS = {"consul-1": "192.168.0.129", "consul-2": "192.168.0.130", "consul-3": "192.168.0.131"}
EDGES = ("consul-1", "consul-2")
CLIENT, CLIENT_ADDRESS = "client", "192.168.0.10"
NETWORK = "192.168.0.0/24"

OUTSIDE_NAME, OUTSIDE_ADDRESS = "www.example.org", "192.0.2.80"
"""A name outside Consul's domain, and what the DNS server outside says of it."""

BACKEND, FRONT, ECHO, SECURE = "httpbackend", "httpfront", "tcpfront-9999", "tlsfront-9443"
"""The sample services, as Consul knows them."""

BACKEND_NAME = f"{BACKEND}.service.{DATACENTER}.consul"
BACKEND_PORT, ECHO_PORT, SECURE_PORT = 8081, 9999, 9443
FRONT_NAME, SECURE_NAME = f"{FRONT}.{DOMAIN}", f"tlsfront.{DOMAIN}"
VERSION, NEXT_VERSION = "v1.0.0", "v1.0.1"
