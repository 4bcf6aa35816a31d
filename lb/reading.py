"""From argv and environment to `Settings`.

A flag on the command line beats its twin `CONSUL_EDGE_<FLAG>`, which beats Consul's own variable, which beats
the default.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnsserver.resolvconf import parse_resolv_conf, without_own
from lb import values
from lb.errors import SettingsError
from lb.flags import FLAGS, MOST_WORKERS, STATE_DIR, Flag, readable_file
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
    RegistrationSettings,
    RegistratorSettings,
    RoutingSettings,
    Settings,
    TcpSettings,
    TlsSettings,
    UpstreamSettings,
)

RESOLV_CONF = Path("/etc/resolv.conf")


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


def read_settings(
    given: argparse.Namespace, environ: Mapping[str, str] | None = None, *, registrator: bool = False
) -> Settings:
    """Build the settings from parsed arguments and the environment.

    With `registrator` it runs unless `--docker` is off, otherwise only if that is given. Raises SettingsError, naming
    the flag or variable and the reason.
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
    admin = AdminSettings(found["admin"]) if "admin" in found else AdminSettings()
    settings = Settings(
        consul=_consul(found, environ),
        routing=RoutingSettings(domains=found.get("domain", ())),
        upstream=_section(UpstreamSettings, found, _UPSTREAM),
        http=http if http.listen else None,
        tcp=tcp if tcp.host is not None else None,
        tls=tls if tls.listen else None,
        proxy_protocol=_section(ProxyProtocolSettings, found, _PROXY_PROTOCOL),
        dns=replace(dns, datacenter=dc, recursors=_recursors(found, dns.listen)) if dns.listen else None,
        admin=admin,
        registration=_registration(found.get("register"), admin.listen),
        drain=_section(DrainSettings, found, {"drain-delay": "delay", "drain-timeout": "timeout"}),
        access_log=_section(AccessLogSettings, found, {"access-log": "path", "access-log-format": "format"}),
        registrator=_registrator(found, environ, implied=registrator),
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
_REGISTRATOR = {
    "ip": "ip",
    "host-name": "host",
    "internal": "internal",
    "explicit": "explicit",
    "use-ip-from-label": "address_label",
    "tags": "tags",
    "ttl": "ttl",
    "ttl-refresh": "ttl_refresh",
    "resync": "resync",
    "deregister": "deregister",
    "retry-attempts": "attempts",
    "retry-interval": "retry_interval",
    "cleanup": "cleanup",
    "adopt": "adopt",
    "deregister-on-exit": "deregister_on_exit",
}


def _section(kind: Callable[..., Any], found: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    return kind(**{names[flag]: value for flag, value in found.items() if flag in names})


def _registrator(found: Mapping[str, Any], environ: Mapping[str, str], *, implied: bool) -> RegistratorSettings | None:
    """The registrator's section, which is checked even where it does not run; None then."""
    settings: RegistratorSettings = _section(RegistratorSettings, found, _REGISTRATOR)
    if bool(settings.ttl) != bool(settings.ttl_refresh):
        raise SettingsError("--ttl", "goes with --ttl-refresh, and that with --ttl")
    if 0 < settings.ttl < 1:
        raise SettingsError("--ttl", "must be 1s at least")
    if settings.ttl and settings.ttl_refresh >= settings.ttl:
        raise SettingsError("--ttl-refresh", "must be less than --ttl, or checks would fail between two words")
    docker = found.get("docker", "" if implied else None)
    if docker is None:
        return None
    return replace(settings, docker=docker or _engine(environ), host=settings.host or os.uname().nodename)


def _engine(environ: Mapping[str, str]) -> str:
    """The Docker engine that Docker's own tools would ask."""
    text = environ.get("DOCKER_HOST", "").strip()
    try:
        return values.engine_url(text) if text else RegistratorSettings().docker
    except ValueError as error:
        raise SettingsError("DOCKER_HOST", str(error)) from None


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
        return readable_file(text) if text else None
    except ValueError as error:
        raise SettingsError(variable, str(error)) from None


def _state_dir(found: Mapping[str, Any]) -> Path | None:
    if "state-dir" in found:
        given: Path | None = found["state-dir"]
        return given
    return STATE_DIR if STATE_DIR.is_dir() and os.access(STATE_DIR, os.W_OK | os.X_OK) else None


def _registration(given: Address | None, admin: Address | None) -> RegistrationSettings | None:
    """What others are told of the admin server. Raises SettingsError where nobody could reach it."""
    if given is None:
        return None
    if admin is None:
        raise SettingsError("--register", "the admin server is off: there is nothing to register")
    if given == ("", 0) and ipaddress.ip_address(admin.host).is_loopback:
        reason = f"nobody else reaches {admin}: have --admin listen elsewhere, or give the address that leads there"
        raise SettingsError("--register", reason)
    return RegistrationSettings(given.host, given.port)


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
