"""The flags: one table of names, variables, defaults and help, and how each text is read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lb import values
from lb.errors import ProtocolError
from lb.http1.fields import Kind, parse_line

STATE_DIR = Path("/var/lib/consul-edge")
MOST_WORKERS = 128


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


def _or_off(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`off` -> None."""
    return lambda text: None if text == "off" else parse(text)


def _engine(text: str) -> str | None:
    """The address of a Docker engine; `on` -> "", for whichever is the usual one, `off` -> None."""
    return {"on": "", "off": None}[text] if text in ("on", "off") else values.engine_url(text)


def _label(text: str) -> str:
    """The name of a label."""
    if not text or " " in text or not text.isprintable():
        raise ValueError(f"{text!r} is not the name of a label")
    return text


def readable_file(text: str) -> Path:
    """Read the path of a file that can be read. Raises ValueError."""
    if not os.path.isfile(text):
        raise ValueError(f"{text} is not a file")
    if not os.access(text, os.R_OK):
        raise ValueError(f"{text} cannot be read")
    return Path(text)


def _writable_directory(text: str) -> Path:
    """A directory that can be written; made if there is none."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written")
    return path


def _request_field(text: str) -> str:
    """The name of a field that nothing else in the proxy reads or writes; `off` -> none."""
    if text == "off":
        return ""
    try:
        field = parse_line(text.encode(errors="replace") + b":")
    except ProtocolError:
        field = None
    if field is None or field.value:
        raise ValueError(f"{text!r} is not the name of a header field")
    if field.kind is Kind.UNDERSCORED:
        raise ValueError(f"{text!r} has a _ in it: such fields are not passed on")
    if field.kind is not Kind.PLAIN:
        raise ValueError(f"{text!r} has a meaning of its own")
    return text


def _workers(text: str) -> int:
    number = values.positive_count(text)
    if number > MOST_WORKERS:
        raise ValueError(f"{number} are more than {MOST_WORKERS}")
    return number


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its name, how its text is read, its help, and Consul's own variables for it.

    A flag that may `repeat` gives a list; in a variable its values are parted by commas. One that is `bare` on the
    command line stands for that value.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    repeat: bool = False
    consul: str = ""
    bare: str = ""

    @property
    def variable(self) -> str:
        """The twin in the environment."""
        return "CONSUL_EDGE_" + self.name.upper().replace("-", "_")

    @property
    def dest(self) -> str:
        """Attribute of argparse's namespace."""
        return self.name.replace("-", "_")


_d, _pd = values.duration, values.positive_duration

FLAGS: tuple[Flag, ...] = (
    Flag(
        "consul",
        "URL",
        values.agent_url,
        "Consul agent (http://127.0.0.1:8500); may repeat: tried in order",
        True,
        "CONSUL_HTTP_ADDR",
    ),
    Flag("token", "TOKEN", values.token, "ACL token; better in a file or the environment", consul="CONSUL_HTTP_TOKEN"),
    Flag("token-file", "PATH", readable_file, "file that holds the ACL token", consul="CONSUL_HTTP_TOKEN_FILE"),
    Flag(
        "empty-guard",
        "TIME",
        _d,
        "how long instances of a service that vanished whole are kept until that is confirmed; 0: not at all (1s)",
    ),
    Flag("domain", "NAME", values.domain, "virtual hosts are <service>.NAME; may repeat", True),
    Flag("http", "ADDR:PORT", _or_off(values.address), "HTTP listener (0.0.0.0:80), or off; may repeat", True),
    Flag("tcp", "ADDR", _or_off(values.host), "address on which TCP services listen (0.0.0.0), or off"),
    Flag("tls", "ADDR:PORT", _or_off(values.address), "TLS listener, by server name (off); may repeat", True),
    Flag(
        "proxy-protocol-from",
        "CIDR",
        values.network,
        "connections from this network begin with a PROXY header, on every listener; may repeat",
        True,
    ),
    Flag("dns", "ADDR:PORT", _or_off(values.address), "DNS over UDP and TCP (0.0.0.0:53), or off; may repeat", True),
    Flag(
        "recursor",
        "ADDR[:PORT]",
        _or_off(values.resolver),
        "DNS server for all other names (those of /etc/resolv.conf), or off; may repeat",
        True,
    ),
    Flag(
        "forward",
        "SUFFIX=ADDR[:PORT]",
        values.forward_rule,
        "DNS server for names under this suffix; the longest suffix wins; may repeat, with the same suffix, too",
        True,
    ),
    Flag("hosts", "PATH", readable_file, "hosts(5) file that DNS answers from; it is read again when it changes"),
    Flag(
        "dns-recursor-strategy",
        "sequential|random",
        _choice("sequential", "random"),
        "in which order recursors are asked (sequential)",
    ),
    Flag("dns-recursor-timeout", "TIME", _pd, "for one recursor's answer (2s)"),
    Flag("dns-cache", "SIZE", values.size, "memory for recursors' answers in each worker, 0: none are kept (16m)"),
    Flag("dc", "NAME", str.lower, "datacenter (the agent's own)"),
    Flag("dns-domain", "NAME", values.domain, "suffix of the catalog's names (consul)"),
    Flag(
        "dns-ttl",
        "[NAME=]TIME",
        values.service_ttl,
        "TTL of the catalog's records (0), or of the service NAME, or of those that NAME* matches; may repeat",
        True,
    ),
    Flag("dns-node-ttl", "TIME", values.ttl, "TTL of records of nodes and addresses (that of --dns-ttl)"),
    Flag("dns-max-stale", "TIME", _pd, "answer from the last good catalog for so long without an agent (no limit)"),
    Flag("dns-only-passing", "on|off", values.boolean, "leave instances with warnings out of DNS (off)"),
    Flag("dns-tc", "on|off", values.boolean, "set TC on replies that were cut for UDP (on)"),
    Flag(
        "dns-allow",
        "CIDR",
        values.network,
        "answer clients of this network, too, beside loopback, private and link-local ones; may repeat",
        True,
    ),
    Flag(
        "dns-rate",
        "N",
        values.count,
        "replies over UDP that a client (IPv6: a /56) gets a second; 0: any number (0)",
    ),
    Flag("admin", "ADDR:PORT", _or_off(values.address), "metrics, health and API (127.0.0.1:9900), or off"),
    Flag(
        "register",
        "[ADDR][:PORT]",
        values.advertised,
        "register this node's admin server with the agent, as service consul-edge; at which address and port others "
        "reach it, if those of --admin do not tell; or off (off)",
        bare="on",
    ),
    Flag("workers", "N", _workers, "data-plane processes, one for each core if it is not given"),
    Flag("upstream-connect-timeout", "TIME", _pd, "(60s)"),
    Flag("upstream-read-timeout", "TIME", _pd, "between two reads of a response (60s)"),
    Flag("upstream-send-timeout", "TIME", _pd, "between two writes of a request (60s)"),
    Flag("client-header-timeout", "TIME", _pd, "for the whole head of a request, PROXY header, TLS hello (60s)"),
    Flag("client-body-timeout", "TIME", _pd, "between two reads of a body (60s)"),
    Flag("keepalive-timeout", "TIME", _pd, "for the next request of a client (75s)"),
    Flag("keepalive-requests", "N", values.positive_count, "requests over one client connection (1000)"),
    Flag("upstream-keepalive-requests", "N", values.positive_count, "over one connection to an instance (1000)"),
    Flag("tcp-idle-timeout", "TIME", _pd, "for a TCP connection on which nothing moves (10m)"),
    Flag("max-body", "SIZE", values.size, "largest request body, 0: no limit (1m)"),
    Flag("max-header", "SIZE", values.positive_size, "largest request head (32k)"),
    Flag("max-header-line", "SIZE", values.positive_size, "largest line of a request head (8k)"),
    Flag("request-id", "NAME", _request_field, "field in which an instance gets the request's id, or off (off)"),
    Flag("drain-delay", "TIME", _d, "readiness is red for so long before listeners close (0s)"),
    Flag("drain-timeout", "TIME", _d, "what is in flight then may last so long (30s)"),
    Flag(
        "state-dir",
        "DIR",
        _or_off(_writable_directory),
        f"keeps the last good catalog ({STATE_DIR} if it can be written), or off",
    ),
    Flag("access-log", "PATH", str, "access log, - for standard output, or off (off)"),
    Flag("access-log-format", "combined|json", _choice("combined", "json"), "(combined)"),
    Flag("log-level", "LEVEL", _choice("debug", "info", "warning", "error"), "debug, info, warning or error (info)"),
    Flag("log-format", "text|json", _choice("text", "json"), "(text)"),
    Flag(
        "docker",
        "URL",
        _engine,
        "register containers of this engine, of DOCKER_HOST, or of unix:///var/run/docker.sock; or off",
        bare="on",
    ),
    Flag("ip", "ADDR", values.registered_address, "address that services are registered with (the agent's own)"),
    Flag("host-name", "NAME", values.machine_name, "first part of service IDs (the machine's name)"),
    Flag("internal", "on|off", values.boolean, "register containers' own addresses and exposed ports (off)", bare="on"),
    Flag("explicit", "on|off", values.boolean, "register only what has a SERVICE_NAME (off)", bare="on"),
    Flag("use-ip-from-label", "LABEL", _label, "register the address that this label of a container holds"),
    Flag("tags", "TAG,...", values.comma_list, "tags of all containers' services"),
    Flag("ttl", "TIME", _d, "containers without a check get one that fails so long after our last word; 0: none (0)"),
    Flag("ttl-refresh", "TIME", _d, "between two words of ours (0)"),
    Flag("resync", "TIME", _d, "between two full comparisons of containers and services; 0: none (60s)"),
    Flag(
        "deregister",
        "always|on-success",
        _choice("always", "on-success"),
        "whether containers that failed stay registered (always)",
    ),
    Flag(
        "retry-attempts", "N", values.attempts, "for Docker and Consul at start, after the first; -1: any number (-1)"
    ),
    Flag("retry-interval", "TIME", _pd, "between two attempts (2s)"),
    Flag("cleanup", "on|off", values.boolean, "remove what we registered and does not run (on)", bare="on"),
    Flag("adopt", "on|off", values.boolean, "take over what the original registrator registered (off)", bare="on"),
    Flag("deregister-on-exit", "on|off", values.boolean, "remove all we registered when we end (off)", bare="on"),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag to a parser."""
    for flag in FLAGS:
        if flag.bare:
            parser.add_argument(f"--{flag.name}", metavar=flag.metavar, nargs="?", const=flag.bare, help=flag.help)
        else:
            action = "append" if flag.repeat else "store"
            parser.add_argument(f"--{flag.name}", metavar=flag.metavar, action=action, help=flag.help)
