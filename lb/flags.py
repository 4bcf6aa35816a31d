"""The flags: one table of names, variables, defaults and help; from argv and environment to `Settings`.

A flag on the command line beats its twin `CONSUL_EDGE_<FLAG>`, which beats Consul's own variable, which beats
the default.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dnsserver.resolvconf import parse_resolv_conf, without_own
from lb import values
from lb.errors import ProtocolError, SettingsError
from lb.http1.fields import Kind, parse_line
from lb.settings import (
    AccessLogSettings,
    Address,
    AdminSettings,
    ConsulSettings,
    DnsSettings,
    DrainSettings,
    HttpSettings,
    LogSettings,
    ProxyProtocolSettings,
    RoutingSettings,
    Settings,
    TcpSettings,
    TlsSettings,
    UpstreamSettings,
)

STATE_DIR = Path("/var/lib/consul-edge")
RESOLV_CONF = Path("/etc/resolv.conf")
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


def _readable_file(text: str) -> Path:
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

    A flag that may `repeat` gives a list; in a variable its values are parted by commas.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    repeat: bool = False
    consul: str = ""

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
    Flag("token-file", "PATH", _readable_file, "file that holds the ACL token", consul="CONSUL_HTTP_TOKEN_FILE"),
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
    Flag("hosts", "PATH", _readable_file, "hosts(5) file that DNS answers from; it is read again when it changes"),
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
        "replies over UDP that a client (IPv6: a /56) gets a second from each worker; 0: any number (0)",
    ),
    Flag("admin", "ADDR:PORT", _or_off(values.address), "metrics, health and API (127.0.0.1:9900), or off"),
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
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag to a parser."""
    for flag in FLAGS:
        action = "append" if flag.repeat else "store"
        parser.add_argument(f"--{flag.name}", metavar=flag.metavar, action=action, help=flag.help)


class _Reader:
    """Finds the values of flags on the command line and in the environment."""

    def __init__(self, given: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._given = vars(given)
        self._environ = environ

    def read(self, flags: Iterable[Flag] = FLAGS) -> dict[str, Any]:
        """Everything that was set, parsed, by flag name. Raises SettingsError."""
        found = {}
        for flag in flags:
            source, texts = self.texts(flag)
            if not texts:
                continue
            try:
                parsed = [flag.parse(text) for text in texts]
            except ValueError as error:
                raise SettingsError(source, str(error)) from None
            if not flag.repeat:
                found[flag.name] = parsed[0]
            elif parsed == [None]:
                found[flag.name] = ()
            elif None in parsed:
                raise SettingsError(source, "off stands alone")
            else:
                found[flag.name] = tuple(dict.fromkeys(parsed))
        return found

    def texts(self, flag: Flag) -> tuple[str, list[str]]:
        """Where a flag was set, and to what; two empty values if it was not."""
        given = self._given.get(flag.dest)
        if given is not None:
            return f"--{flag.name}", given if flag.repeat else [given]
        for variable in (flag.variable, flag.consul):
            text = self._environ.get(variable, "").strip() if variable else ""
            if text:
                if not flag.repeat:
                    return variable, [text]
                return variable, [part.strip() for part in text.split(",") if part.strip()]
        return "", []

    def rank(self, flag: Flag) -> int:
        """How far from the command line a flag was set: 0, 1 for its twin, 2 for Consul's own variable."""
        source, _ = self.texts(flag)
        return (f"--{flag.name}", flag.variable, flag.consul).index(source)


def read_settings(given: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Settings:
    """Build the settings from parsed arguments and the environment.

    Raises SettingsError, naming the flag or variable and the reason.
    """
    environ = os.environ if environ is None else environ
    reader = _Reader(given, environ)
    found = reader.read()
    _settle_token(reader, found)
    dc = found.get("dc", "")
    http = _section(HttpSettings, found, _HTTP)
    tcp = _section(TcpSettings, found, {"tcp": "host", "tcp-idle-timeout": "idle_timeout"})
    tls = _section(TlsSettings, found, _TLS)
    dns = replace(_section(DnsSettings, found, _DNS), **_ttls(found))
    _check_rules(dns)
    settings = Settings(
        consul=_consul(found, environ),
        routing=RoutingSettings(domains=found.get("domain", ())),
        upstream=_section(UpstreamSettings, found, _UPSTREAM),
        http=http if http.listen else None,
        tcp=tcp if tcp.host is not None else None,
        tls=tls if tls.listen else None,
        proxy_protocol=_section(ProxyProtocolSettings, found, _PROXY_PROTOCOL),
        dns=replace(dns, datacenter=dc, recursors=_recursors(found, dns.listen)) if dns.listen else None,
        admin=AdminSettings(found["admin"]) if "admin" in found else AdminSettings(),
        drain=_section(DrainSettings, found, {"drain-delay": "delay", "drain-timeout": "timeout"}),
        access_log=_section(AccessLogSettings, found, {"access-log": "path", "access-log-format": "format"}),
        log=_section(LogSettings, found, {"log-level": "level", "log-format": "format"}),
        workers=found.get("workers", min(MOST_WORKERS, len(os.sched_getaffinity(0)))),
    )
    if http.max_header_line > http.max_header:
        reason = f"{http.max_header_line} octets in a line are more than --max-header allows ({http.max_header})"
        raise SettingsError("--max-header-line", reason)
    return settings


def read_admin(given: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Address | None:
    """Read the address of the admin server alone, None where it is off: what asks a node needs no other setting.

    Raises SettingsError.
    """
    found = _Reader(given, os.environ if environ is None else environ).read(f for f in FLAGS if f.name == "admin")
    address: Address | None = found.get("admin", AdminSettings().listen)
    return address


def _settle_token(reader: _Reader, found: dict[str, Any]) -> None:
    """Of token and token file, drop the one that the other beats by where it was set.

    Where neither does, both stay, and the file comes first, as in Consul's own tools.
    """
    if "token" in found and "token-file" in found:
        rank = {flag.name: reader.rank(flag) for flag in FLAGS if flag.name in ("token", "token-file")}
        if rank["token"] != rank["token-file"]:
            del found[max(rank, key=rank.__getitem__)]


_HTTP = {
    "http": "listen",
    "client-header-timeout": "header_timeout",
    "client-body-timeout": "body_timeout",
    "keepalive-timeout": "keepalive_timeout",
    "keepalive-requests": "keepalive_requests",
    "max-body": "max_body",
    "max-header": "max_header",
    "max-header-line": "max_header_line",
    "request-id": "request_id",
}
_TLS = {"tls": "listen", "client-header-timeout": "hello_timeout", "tcp-idle-timeout": "idle_timeout"}
_PROXY_PROTOCOL = {"proxy-protocol-from": "networks", "client-header-timeout": "timeout"}
_UPSTREAM = {
    "upstream-connect-timeout": "connect_timeout",
    "upstream-read-timeout": "read_timeout",
    "upstream-send-timeout": "send_timeout",
    "upstream-keepalive-requests": "keepalive_requests",
}
_DNS = {
    "dns": "listen",
    "dns-domain": "domain",
    "dns-node-ttl": "node_ttl",
    "dns-max-stale": "max_stale",
    "dns-only-passing": "only_passing",
    "dns-tc": "truncate",
    "dns-allow": "allow",
    "forward": "forward",
    "hosts": "hosts",
    "dns-recursor-strategy": "recursor_strategy",
    "dns-recursor-timeout": "recursor_timeout",
    "dns-cache": "cache_size",
    "dns-rate": "rate",
}


def _section(kind: Callable[..., Any], found: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    return kind(**{names[flag]: value for flag, value in found.items() if flag in names})


def _ttls(found: Mapping[str, Any]) -> dict[str, Any]:
    """The TTLs of services: that of all, and those of some by name."""
    given: dict[str, int] = {}
    for name, ttl in found.get("dns-ttl", ()):
        if name in given:
            raise SettingsError("--dns-ttl", f"{name or 'the TTL of all services'} is given twice")
        given[name] = ttl
    ttl = given.pop("", DnsSettings().ttl)
    return {"ttl": ttl, "service_ttls": tuple(given.items())}


def _consul(found: Mapping[str, Any], environ: Mapping[str, str]) -> ConsulSettings:
    agents: tuple[str, ...] = found.get("consul", ConsulSettings().agents)
    if _switch(environ, "CONSUL_HTTP_SSL", default=False):
        # As in Consul's own tools: who asked for TLS is never taken back to plain HTTP by a scheme.
        agents = tuple(dict.fromkeys(f"https://{url.partition('://')[2]}" for url in agents))
    return ConsulSettings(
        agents=agents,
        token=found.get("token", ""),
        token_file=found.get("token-file"),
        ca_cert=_file(environ, "CONSUL_CACERT"),
        client_cert=_file(environ, "CONSUL_CLIENT_CERT"),
        client_key=_file(environ, "CONSUL_CLIENT_KEY"),
        verify=_switch(environ, "CONSUL_HTTP_SSL_VERIFY", default=True),
        datacenter=found.get("dc", ""),
        empty_guard=found.get("empty-guard", ConsulSettings().empty_guard),
        state_dir=_state_dir(found),
    )


def _switch(environ: Mapping[str, str], variable: str, *, default: bool) -> bool:
    text = environ.get(variable, "").strip()
    try:
        return values.boolean(text) if text else default
    except ValueError as error:
        raise SettingsError(variable, str(error)) from None


def _file(environ: Mapping[str, str], variable: str) -> Path | None:
    text = environ.get(variable, "").strip()
    try:
        return _readable_file(text) if text else None
    except ValueError as error:
        raise SettingsError(variable, str(error)) from None


def _state_dir(found: Mapping[str, Any]) -> Path | None:
    if "state-dir" in found:
        given: Path | None = found["state-dir"]
        return given
    return STATE_DIR if STATE_DIR.is_dir() and os.access(STATE_DIR, os.W_OK | os.X_OK) else None


def _recursors(found: Mapping[str, Any], listen: tuple[Address, ...]) -> tuple[Address, ...]:
    if "recursor" not in found:
        return without_own(_resolv_conf(), listen)
    recursors: tuple[Address, ...] = found["recursor"]
    others = without_own(recursors, listen)
    for recursor in recursors:
        if recursor not in others:
            raise SettingsError("--recursor", f"{recursor} is this server itself")
    return recursors


def _check_rules(dns: DnsSettings) -> None:
    """Refuse a rule that would ask this server itself, and one for names that recursors are never asked."""
    for rule in dns.forward:
        if not without_own([rule.recursor], dns.listen):
            raise SettingsError("--forward", f"{rule}: this is the server itself")
        if f".{rule.suffix}".endswith(f".{dns.domain}"):
            raise SettingsError("--forward", f"{rule}: names under {dns.domain} are answered from the catalog")


def _resolv_conf() -> tuple[Address, ...]:
    """The system's recursors; without the file there are none."""
    try:
        return parse_resolv_conf(RESOLV_CONF.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()
