"""What a container is registered as: its ports, its `SERVICE_*` keys and the settings -> registrations."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lb import values
from lb.catalog.model import Problem
from lb.settings import RegistratorSettings
from registrator.checks import Subject, check_of, is_check_key
from registrator.keys import Complaints, Keys, Said
from registrator.model import CHECK_DIGEST, OWNER, Check, Container, Port, Registration

MAX_META = 64
"""The most pairs of meta that Consul takes (agent/structs ValidateMetadata), as the next two."""

MAX_META_KEY = 128
MAX_META_VALUE = 512
"""Octets."""

MAX_NAME = 255
"""The longest name and ID of a service, in octets."""

MAX_TAGS = 128
MAX_TAG = 1024
"""Octets."""

LOOPBACK = "127.0.0.1"
"""Where the agent looks for what has no address of its own: it is on the same host."""

SIGNALLED = 128
"""The bit of an exit status that a signal sets, as with `docker stop`."""

_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
_RESERVED = (OWNER, CHECK_DIGEST)
_OWN_KEYS = frozenset(("ignore", "name", "id", "tags", "network"))


class _Place(NamedTuple):
    """Where a service is; an empty address is the node's."""

    address: str
    port: int


def registrations(
    container: Container, settings: RegistratorSettings, node: str
) -> tuple[list[Registration], list[Problem]]:
    """Return what a container is registered as, ordered by port, and what of it cannot be used.

    `node` is the agent's node, which each registration names as its owner. A container that does not run is
    registered as nothing.
    """
    if not container.running:
        return [], []
    return _Reading(container, settings, node).all()


def service_ids(container: Container, settings: RegistratorSettings) -> frozenset[str]:
    """Return every service ID that a container may have had while it ran; where its ports were does not matter."""
    keys = Keys(container)
    found = set()
    for port in container.ports:
        found.add(_default_id(container, port, settings))
        if given := _value(keys.of(port.number), "id").strip():
            found.add(given)
    return frozenset(found)


def stays(exit_code: int, settings: RegistratorSettings) -> bool:
    """Whether a container that ended with this status stays registered (`--deregister on-success`).

    As in the original, an end by a signal is no failure: `docker stop` is one.
    """
    return settings.deregister == "on-success" and exit_code != 0 and not exit_code & SIGNALLED


def payload(registration: Registration) -> dict[str, Any]:
    """Return the body for Consul's `/v1/agent/service/register`."""
    body: dict[str, Any] = {
        "ID": registration.id,
        "Name": registration.name,
        "Address": registration.address,
        "Port": registration.port,
        "Tags": list(registration.tags),
        "Meta": dict(registration.meta),
    }
    if registration.check is not None:
        body["Check"] = dict(registration.check.definition)
    return body


def digest(check: Check) -> str:
    """Return a short text that differs for two checks that differ, but for the status they begin with."""
    definition = {name: value for name, value in check.definition.items() if name != "Status"}
    return hashlib.blake2s(json.dumps(definition, sort_keys=True).encode(), digest_size=8).hexdigest()


class _Reading:
    """Reads one container."""

    def __init__(self, container: Container, settings: RegistratorSettings, node: str) -> None:
        self._container = container
        self._settings = settings
        self._node = node
        self._complaints = Complaints(container)
        self._keys = Keys(container)
        self._ids: set[str] = set()

    def all(self) -> tuple[list[Registration], list[Problem]]:
        ports = [port for port in self._container.ports if self._is_offered(port)]
        found = []
        for port in ports:
            said = self._keys.of(port.number)
            if _value(said, "ignore") or (self._settings.explicit and not _value(said, "name")):
                continue
            place = self._place(port, said)
            if place is not None:
                found.append(self._registration(port, said, place, alone=len(ports) == 1))
        return found, self._complaints.all()

    def _is_offered(self, port: Port) -> bool:
        """Whether a port is one that is registered: a published one, unless all exposed ones are."""
        return bool(port.published) or self._settings.internal or self._container.network_mode == "host"

    def _registration(self, port: Port, said: Mapping[str, Said], place: _Place, *, alone: bool) -> Registration:
        host = place.address or LOOPBACK
        subject = Subject(self._container, port.protocol, host, place.port, said)
        check = check_of(subject, self._settings, self._complaints)
        return Registration(
            container=self._container.id,
            id=self._id(port, said),
            name=self._name(port, said, alone=alone),
            address=place.address,
            port=place.port,
            tags=self._tags(port, said),
            meta=self._meta(said, check),
            check=check,
        )

    def _id(self, port: Port, said: Mapping[str, Said]) -> str:
        """The service ID; one that is given for several ports is the first one's."""
        found = _default_id(self._container, port, self._settings)
        if given := self._text("id", said):
            if given in self._ids:
                self._complaints.add(said["id"].key, f"{given!r} is taken by another port of this container")
            else:
                found = given
        self._ids.add(found)
        return found

    def _name(self, port: Port, said: Mapping[str, Said], *, alone: bool) -> str:
        name = self._text("name", said)
        if name and (alone or said["name"].for_port):
            return name
        name = name or _base_name(self._container.image) or self._container.name
        return name if alone else f"{name}-{port.number}"

    def _text(self, key: str, said: Mapping[str, Said]) -> str:
        """A name or an ID; empty if there is none that can be used."""
        text = _value(said, key).strip()
        if not text.isprintable() or len(text.encode()) > MAX_NAME:
            self._complaints.add(said[key].key, f"is not printable text of at most {MAX_NAME} octets")
            return ""
        return text

    def _tags(self, port: Port, said: Mapping[str, Said]) -> tuple[str, ...]:
        given = values.comma_list(_value(said, "tags"))
        own = [tag for tag in given if len(tag.encode()) <= MAX_TAG][:MAX_TAGS]
        if len(own) < len(given):
            reason = f"of {len(given)} tags {len(own)} are taken: at most {MAX_TAGS}, each of at most {MAX_TAG} octets"
            self._complaints.add(said["tags"].key, reason)
        udp = ("udp",) if port.protocol == "udp" else ()
        return tuple(dict.fromkeys((*own, *self._settings.tags, *udp)))

    def _place(self, port: Port, said: Mapping[str, Said]) -> _Place | None:
        """Where the port is reached; None, and a complaint, if that is nowhere."""
        settings, container = self._settings, self._container
        if container.network_mode == "host":
            place = _Place(settings.ip, port.number)
        elif settings.internal:
            place = _Place(self._own_address(said), port.number)
        else:
            best = port.published[0]
            place = _Place(settings.ip or best.host_ip, best.host_port)
        if labelled := self._labelled_address():
            return place._replace(address=labelled)
        if settings.internal and not place.address and container.network_mode != "host":
            self._complaints.add("network", f"has no address of its own (network mode {container.network_mode!r})")
            return None
        return place

    def _own_address(self, said: Mapping[str, Said]) -> str:
        """The container's address: on the network of SERVICE_NETWORK, on its first one, or the first by name."""
        networks = self._container.networks
        wanted = _value(said, "network")
        if wanted in networks:
            return networks[wanted]
        if wanted:
            attached = ", ".join(sorted(networks)) or "none"
            self._complaints.add(said["network"].key, f"it has no address on {wanted[:60]!r}; on {attached}")
        if self._container.network_mode in networks:
            return networks[self._container.network_mode]
        return networks[min(networks)] if networks else ""

    def _labelled_address(self) -> str:
        """The address that the label of `--use-ip-from-label` holds, which may have a prefix length."""
        label = self._settings.address_label
        text = self._container.labels.get(label, "") if label else ""
        if not text:
            return ""
        try:
            return str(ipaddress.ip_interface(text).ip)
        except ValueError:
            self._complaints.add(label, f"{text[:60]!r} is no IP address")
            return ""

    def _meta(self, said: Mapping[str, Said], check: Check | None) -> dict[str, str]:
        meta = {OWNER: self._node}
        if check is not None:
            meta[CHECK_DIGEST] = digest(check)
        for key in sorted(said):
            if key in _OWN_KEYS or is_check_key(key):
                continue
            if key.startswith("check_"):
                self._complaints.add(said[key].key, "there is no such key for a check: it is taken for meta")
            if reason := _against_meta(key, said[key].value):
                self._complaints.add(said[key].key, reason)
            elif len(meta) == MAX_META:
                self._complaints.add(
                    said[key].key, f"a service has at most {MAX_META} pairs of meta: the rest is left out"
                )
                break
            else:
                meta[key] = said[key].value
        return meta


def _value(said: Mapping[str, Said], key: str) -> str:
    return said[key].value if key in said else ""


def _default_id(container: Container, port: Port, settings: RegistratorSettings) -> str:
    suffix = ":udp" if port.protocol == "udp" else ""
    return f"{settings.host}:{container.name}:{port.number}{suffix}"


def _base_name(image: str) -> str:
    """`registry:5000/team/web:1.2@sha256:...` -> `web`; empty for an image that is known by its digest alone."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return "" if name == "sha256" else name


def _against_meta(key: str, value: str) -> str:
    """What Consul would refuse a pair for; empty if it takes it."""
    if key in _RESERVED:
        return "the registrator itself uses this key of meta"
    if _META_KEY.fullmatch(key) is None:
        return "Consul takes letters, digits, - and _ in a key of meta"
    if key.startswith("consul-"):
        return "Consul keeps keys of meta that begin with consul- to itself"
    if len(key) > MAX_META_KEY:
        return f"Consul takes a key of meta of at most {MAX_META_KEY} octets"
    if len(value.encode()) > MAX_META_VALUE:
        return f"Consul takes a value of meta of at most {MAX_META_VALUE} octets"
    return ""
