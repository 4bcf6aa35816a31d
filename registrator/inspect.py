"""Docker's inspection of a container (`GET /containers/{id}/json`, API 1.24 and later) -> `Container`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, get_args

from lb.errors import InspectError
from registrator.model import Container, Health, Port, Protocol, Published

Json = Mapping[str, Any]

_HEALTHS: Mapping[str, Health] = {name: name for name in get_args(Health)}
_PROTOCOLS: Mapping[str, Protocol] = {name: name for name in get_args(Protocol)}


def container(document: Json) -> Container:
    """Make a container of its inspection. Raises `InspectError`, which names the field, for what Docker does not say.

    A port is one that the image or the command exposes, or that is published. Protocols other than TCP and UDP, which
    Consul's services do not know, are left out.
    """
    state = _object(document, "State")
    config = _object(document, "Config")
    host = _object(document, "HostConfig")
    network = _object(document, "NetworkSettings")
    attached = _objects(network, "Networks")
    mode = _network_mode(_text(host, "NetworkMode"), attached)
    return Container(
        id=_required(document, "Id"),
        name=_required(document, "Name").removeprefix("/"),
        image=_text(config, "Image"),
        # One that is between two attempts of its restart policy is said to run; it has no ports then.
        running=_flag(state, "Running") and not _flag(state, "Restarting"),
        paused=_flag(state, "Paused"),
        exit_code=_number(state, "ExitCode"),
        # "none" is none, and so is whatever a newer engine may say.
        health=_HEALTHS.get(_text(_object(state, "Health"), "Status"), ""),
        network_mode=mode,
        networks={} if mode == "host" else _addresses(attached),
        ports=_ports(config, host, network),
        labels=_labels(config),
        environment=_environment(config),
    )


def _network_mode(mode: str, attached: Mapping[str, Json]) -> str:
    """The network that a container was made with, by name, where it is one of those it is attached to."""
    if mode in ("", "default"):
        return "bridge"
    for name, network in attached.items():
        if _text(network, "NetworkID") == mode:
            return name
    return mode


def _addresses(attached: Mapping[str, Json]) -> dict[str, str]:
    """The address on each network, the IPv4 one if there are two; networks that give none are left out."""
    found = {}
    for name in sorted(attached):
        address = _text(attached[name], "IPAddress") or _text(attached[name], "GlobalIPv6Address")
        if address:
            found[name] = _address(address, f"NetworkSettings.Networks.{name}")
    return found


def _ports(config: Json, host: Json, network: Json) -> tuple[Port, ...]:
    published = _mapping(network, "Ports")
    found: dict[tuple[int, Protocol], Port] = {}
    for name in sorted({*_mapping(config, "ExposedPorts"), *_mapping(host, "PortBindings"), *published}):
        number, _, protocol = name.partition("/")
        if (known := _PROTOCOLS.get(protocol or "tcp")) is not None:
            key = (_port(number, f"port {_clean(name)}"), known)
            found[key] = Port(*key, _published(published.get(name) or [], name))
    return tuple(found[key] for key in sorted(found))


def _published(bindings: object, name: str) -> tuple[Published, ...]:
    """Where a port is published, best first: on all addresses, on one of the network, on loopback; IPv4 before IPv6.

    The twins that Docker lists for IPv4 and IPv6 are one.
    """
    if not isinstance(bindings, list) or not all(isinstance(binding, Mapping) for binding in bindings):
        raise InspectError(f"NetworkSettings.Ports.{_clean(name)} is no list of bindings")
    ranked = set()
    for binding in bindings:
        if _text(binding, "HostPort") in ("", "0"):
            continue  # wanted, but not there
        where = _text(binding, "HostIp")
        address = ipaddress.ip_address(_address(where, f"port {_clean(name)}") if where else "0.0.0.0")
        port = _port(_text(binding, "HostPort"), f"port {_clean(name)}")
        host_ip = "" if address.is_unspecified else str(address)
        ranked.add((address.is_loopback, bool(host_ip), address.version, port, host_ip))
    return tuple(dict.fromkeys(Published(host_ip, port) for _, _, _, port, host_ip in sorted(ranked)))


def _labels(config: Json) -> dict[str, str]:
    labels = _mapping(config, "Labels")
    return {_clean(name): _text(labels, name) for name in labels}


def _environment(config: Json) -> dict[str, str]:
    """The variables; of one that is set twice the last. A name alone, which only takes a variable away, is none."""
    lines = config.get("Env") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InspectError("Config.Env is no list of texts")
    pairs = (_clean(line).partition("=") for line in lines)
    return {name: value for name, sign, value in pairs if sign}


def _object(document: Json, key: str) -> Json:
    """A part that may be missing or null, as Docker leaves out what is empty."""
    part = document.get(key)
    if part is None:
        return {}
    if not isinstance(part, Mapping):
        raise InspectError(f"{_clean(key)} is no object")
    return part


_mapping = _object


def _objects(document: Json, key: str) -> dict[str, Json]:
    part = _object(document, key)
    return {_clean(name): _object(part, name) for name in part}


def _text(document: Json, key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InspectError(f"{_clean(key)} is no text")
    return _clean(value)


def _required(document: Json, key: str) -> str:
    text = _text(document, key)
    if not text.strip("/"):
        raise InspectError(f"{key} is missing")
    return text


def _clean(text: str) -> str:
    """Text without the half characters that JSON can hold and UTF-8 cannot: Consul would give back another text."""
    return text.encode(errors="replace").decode()


def _flag(document: Json, key: str) -> bool:
    value = document.get(key) or False
    if not isinstance(value, bool):
        raise InspectError(f"{key} is neither true nor false")
    return value


def _number(document: Json, key: str) -> int:
    value = document.get(key) or 0
    if not isinstance(value, int):
        raise InspectError(f"{key} is no whole number")
    return value


def _port(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise InspectError(f"{what}: {text[:20]!r} is no port")
    return int(text)


def _address(text: str, what: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InspectError(f"{what}: {text[:60]!r} is no address") from None
