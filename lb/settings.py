"""All settings, as frozen dataclasses: one per room, each room is handed only its own.

The defaults are the contract's. Values are validated where they are read (`lb.cli`), once; a room may trust them.
Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, NamedTuple


class Address(NamedTuple):
    """A host (IP literal) and a port, printed as `host:port`, IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Network = IPv4Network | IPv6Network
"""Addresses under one prefix."""


@dataclass(frozen=True, slots=True)
class ConsulSettings:
    """How to reach Consul agents and how to follow them.

    `agents` are base URLs, tried in order. `token_file` is read again when an agent refuses the token.
    `max_connections` bounds what one agent sees from us. `wait` is how long (seconds) a blocking query may block: an
    agent keeps one whose client has gone until then, among its 200 connections from one address, so that programs
    which follow one another quickly would use them up. `empty_guard` is how long (seconds) the last good
    instances of a service that vanished whole are kept until a second, later answer confirms it; 0 turns the
    guard off.
    """

    agents: tuple[str, ...] = ("http://127.0.0.1:8500",)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    ca_cert: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    verify: bool = True
    datacenter: str = ""
    max_connections: int = 16
    wait: float = 60.0
    empty_guard: float = 1.0
    state_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Which names and ports services get.

    `domains` are lower case, without a leading or trailing dot.
    """

    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Connections to instances: nginx's `proxy_*_timeout` and upstream `keepalive*`."""

    connect_timeout: float = 60.0
    read_timeout: float = 60.0
    send_timeout: float = 60.0
    keepalive_timeout: float = 60.0
    keepalive_requests: int = 1000
    keepalive_connections: int = 256
    """Idle connections kept for one instance."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The HTTP listeners. Sizes: `max_body` 0 means no limit.

    `request_id` names the field in which an instance gets the request's id; empty: none does. A client's own id of
    1 to 128 letters, digits, `.`, `_` and `-` goes on, so that it lives through several hops; any other is replaced
    by 32 hexadecimal digits (nginx's `$request_id`).
    """

    listen: tuple[Address, ...] = (Address("0.0.0.0", 80),)
    header_timeout: float = 60.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    keepalive_timeout: float = 75.0
    keepalive_requests: int = 1000
    max_body: int = 1 << 20
    max_header: int = 32 << 10
    max_header_line: int = 8 << 10
    max_headers: int = 1000
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """The TCP listeners; `host` None turns them off. `idle_timeout` is nginx's stream `proxy_timeout`."""

    host: str | None = "0.0.0.0"
    idle_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The TLS listeners, which pass connections on by server name, undecrypted.

    The whole ClientHello must come within `hello_timeout`, and within the first `max_hello` octets.
    """

    listen: tuple[Address, ...] = ()
    hello_timeout: float = 60.0
    max_hello: int = 16 << 10
    idle_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class ProxyProtocolSettings:
    """Who may speak for other clients: connections from `networks` begin with a PROXY header, on every listener.

    The header must come whole within `timeout`; one of version 2 has at most `max_size` octets of addresses and TLVs.
    """

    networks: tuple[Network, ...] = ()
    timeout: float = 60.0
    max_size: int = 4 << 10


class ForwardRule(NamedTuple):
    """Names under `suffix` (lower case, no dots at its ends) are asked of `recursor`."""

    suffix: str
    recursor: Address

    def __str__(self) -> str:
        return f"{self.suffix}={self.recursor}"


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """The DNS server.

    `domain` is lower case, without dots at its ends. `ttl` (seconds) is for records of services (Consul's default
    is 0), `service_ttls` for those of the service `name`, or of all that begin with what stands before a `*` at its
    end; `node_ttl` is for records of nodes and addresses, None: `ttl`. `truncate` sets TC on a reply that was cut for
    UDP. `recursors` is empty when foreign names are refused. `allow` are networks whose clients are answered, beside
    those that are not public. `rate` is how many replies over UDP each client gets a second, 0: any number.
    `max_stale` is for how long (seconds) answers go on since an agent has last confirmed the catalog; None: for ever.

    `forward` are recursors for names under a suffix, the longest suffix wins. `hosts` is a hosts(5) file that comes
    before both. `cache_size` is how many octets of recursors' replies each worker keeps.
    """

    listen: tuple[Address, ...] = (Address("0.0.0.0", 53),)
    domain: str = "consul"
    datacenter: str = ""
    recursors: tuple[Address, ...] = ()
    recursor_timeout: float = 2.0
    recursor_strategy: Literal["sequential", "random"] = "sequential"
    forward: tuple[ForwardRule, ...] = ()
    hosts: Path | None = None
    cache_size: int = 16 << 20
    ttl: int = 0
    service_ttls: tuple[tuple[str, int], ...] = ()
    node_ttl: int | None = None
    max_stale: float | None = None
    only_passing: bool = False
    truncate: bool = True
    allow: tuple[Network, ...] = ()
    rate: int = 0
    udp_size: int = 1232


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The admin server; `listen` None turns it off."""

    listen: Address | None = Address("127.0.0.1", 9900)


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """This node's own service in Consul: where others reach the admin server.

    Without an `address` it is the one that the admin server listens on, or that of the agent's node where it listens on
    all; with port 0 it is the one that it listens on.
    """

    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """How a node goes away: `delay` with readiness red and all open, then `timeout` for what is in flight."""

    delay: float = 0.0
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """The access log: a path, `-` for standard output, or `off`."""

    path: str = "off"
    format: Literal["combined", "json"] = "combined"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The program's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class RegistratorSettings:
    """How containers of a Docker engine are registered with the first agent of `ConsulSettings.agents`.

    `docker` is the engine's address as DOCKER_HOST has it. `host` is the first part of service IDs. `ip` is registered
    as the address of services; without it Consul uses the node's. `internal` registers containers' own addresses and
    exposed ports. `explicit` leaves out containers without a SERVICE_NAME. `address_label` is a label that holds the
    address to register. `tags` are added to all services. `ttl` (0: none) gives services without a check one that we
    pass each `ttl_refresh`. `resync` is between two full comparisons; 0: only at start and after an interruption. With
    `deregister` on-success a container that failed stays registered. `attempts` are made to reach Docker and Consul at
    start, 0 for no limit, `retry_interval` apart. `cleanup` removes at start and at each resync what we registered and
    does not run. `adopt` takes over a registration that names no owner and has the ID and the name of one of ours: the
    original registrator left it.
    """

    docker: str = "unix:///var/run/docker.sock"
    host: str = ""
    ip: str = ""
    internal: bool = False
    explicit: bool = False
    address_label: str = ""
    tags: tuple[str, ...] = ()
    ttl: float = 0.0
    ttl_refresh: float = 0.0
    resync: float = 60.0
    deregister: Literal["always", "on-success"] = "always"
    attempts: int = 0
    retry_interval: float = 2.0
    cleanup: bool = True
    adopt: bool = False
    deregister_on_exit: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one node needs. A plane that is None does not run; `workers` are processes of the data plane."""

    consul: ConsulSettings = ConsulSettings()
    routing: RoutingSettings = RoutingSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    http: HttpSettings | None = HttpSettings()
    tcp: TcpSettings | None = TcpSettings()
    tls: TlsSettings | None = None
    proxy_protocol: ProxyProtocolSettings = ProxyProtocolSettings()
    dns: DnsSettings | None = DnsSettings()
    admin: AdminSettings = AdminSettings()
    registration: RegistrationSettings | None = None
    drain: DrainSettings = DrainSettings()
    access_log: AccessLogSettings = AccessLogSettings()
    log: LogSettings = LogSettings()
    registrator: RegistratorSettings | None = None
    workers: int = 1

    @property
    def serves(self) -> bool:
        """Whether there is any plane that serves clients."""
        return any(plane is not None for plane in (self.http, self.tcp, self.tls, self.dns))
