"""The one check of a service: from its `SERVICE_CHECK_*` keys, else from Docker's HEALTHCHECK, else from `--ttl`.

The definitions are those of Consul's agent API (/v1/agent/check/register), its durations are Go's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lb import values
from lb.errors import OptionError
from lb.settings import RegistratorSettings
from registrator.keys import Complaints, Said
from registrator.model import Check, Container, Protocol, Status, Word

INTERVAL = "10s"
"""Between two runs of a check that says nothing else, as in the original registrator."""

HEALTH_TTL = 300.0
"""Seconds for which Docker's last word on a container's health holds, if we fall silent (without `--ttl`)."""

HEALTH_REFRESH = HEALTH_TTL / 3

SHORTEST, LONGEST = 0.001, 8760 * 3600.0
"""Seconds of any duration: what rounds to nothing, and what overflows, Consul would refuse with the whole service."""

MAX_VALUE = 4096
"""Octets of a path or a command."""

STATUSES: tuple[Status, ...] = ("passing", "warning", "critical")

_STEP = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_METHOD = re.compile(r"[A-Z]{1,16}")
_OPTIONS = frozenset(
    (
        *("interval", "timeout", "initial_status", "deregister_after"),
        *("method", "http_method", "https_method", "tls_skip_verify", "grpc_use_tls"),
    )
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: where the agent finds it (host and port), and what its container says of checks."""

    container: Container
    protocol: Protocol
    host: str
    port: int
    said: Mapping[str, Said]

    @property
    def netloc(self) -> str:
        """Host and port as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_check_key(key: str) -> bool:
    """Whether a key (lower case, without prefix and port) is about the check."""
    head, _, rest = key.partition("_")
    return head == "check" and (rest in _KINDS or rest in _OPTIONS)


def check_of(subject: Subject, settings: RegistratorSettings, complaints: Complaints) -> Check | None:
    """Make the check of one service; None if nobody wants one. What cannot be used is complained of and left out."""
    reader = _Reader(subject, complaints)
    for kind, (build, needs_tcp) in _KINDS.items():
        said = subject.said.get(f"check_{kind}")
        # What speaks TCP tells nothing of a UDP port, which it would keep critical for ever.
        if said is None or not said.value or (needs_tcp and subject.protocol == "udp"):
            continue
        try:
            if len(said.value.encode()) > MAX_VALUE:
                raise OptionError(f"has more than {MAX_VALUE} octets")
            definition = build(subject, said.value)
        except OptionError as error:
            complaints.add(said.key, str(error))
            continue
        return Check({**definition, **reader.options(kind)})
    return _own_check(subject.container, settings, reader)


def _own_check(container: Container, settings: RegistratorSettings, reader: _Reader) -> Check | None:
    """A TTL check that we feed: with what Docker says of the container's health, or with its being there."""
    if not container.health and not settings.ttl:
        return None
    ttl, refresh = (settings.ttl, settings.ttl_refresh) if settings.ttl else (HEALTH_TTL, HEALTH_REFRESH)
    status, output = _state(container, reader.status())
    definition = {"TTL": f"{round(ttl * 1000)}ms", "Status": status, **reader.deregistration()}
    return Check(definition, Word(status, output, refresh))


def _state(container: Container, initial: Status | None) -> tuple[Status, str]:
    """How a container is. One that is starting gets no traffic yet, unless SERVICE_CHECK_INITIAL_STATUS lets it."""
    if container.paused:
        return "critical", "paused"
    if container.health == "starting":
        return initial or "critical", "starting"
    return ("critical", "unhealthy") if container.health == "unhealthy" else ("passing", container.health or "running")


class _Reader:
    """Reads the options of a check."""

    def __init__(self, subject: Subject, complaints: Complaints) -> None:
        self._subject = subject
        self._complaints = complaints

    def options(self, kind: str) -> dict[str, Any]:
        """What goes beside the definition of a check of some kind."""
        status = self.status()
        found: dict[str, Any] = {"Status": status} if status else {}
        found |= self.deregistration()
        if kind == "ttl":
            return found
        found["Interval"] = self._read("interval", duration) or INTERVAL
        found |= self._given("Timeout", self._read("timeout", duration))
        if kind in ("http", "https"):
            # The longer name is the original's; the shorter one does for both.
            method = self._read(f"{kind}_method", _method) or self._read("method", _method)
            found |= self._given("Method", method)
        if kind == "grpc":
            found |= self._given("GRPCUseTLS", self._read("grpc_use_tls", _boolean))
        if kind in ("https", "grpc"):
            found |= self._given("TLSSkipVerify", self._read("tls_skip_verify", _boolean))
        return found

    def status(self) -> Status | None:
        """The status before the first run."""
        found: Status | None = self._read("initial_status", _status)
        return found

    def deregistration(self) -> dict[str, Any]:
        """After how long a critical service is removed by the agent."""
        return self._given("DeregisterCriticalServiceAfter", self._read("deregister_after", duration))

    @staticmethod
    def _given(name: str, value: object) -> dict[str, Any]:
        return {name: value} if value else {}

    def _read(self, key: str, parse: Callable[[str], Any]) -> Any:
        said = self._subject.said.get(f"check_{key}")
        if said is None or not said.value:
            return None
        try:
            return parse(said.value)
        except OptionError as error:
            self._complaints.add(said.key, str(error))
            return None


def duration(text: str) -> str:
    """Return a duration as Go writes it (`10s`, `1m30s`), from a millisecond to a year. Raises OptionError."""
    rest, seconds = text[:64], 0.0
    while match := _STEP.match(rest):
        seconds += float(match[1]) * _SECONDS[match[2]]
        rest = rest[match.end() :]
    if rest or len(text) > 64 or not SHORTEST <= seconds <= LONGEST:
        raise OptionError(f"{text[:40]!r} is not a duration, such as 10s or 1m30s")
    return text


def _status(text: str) -> Status:
    for status in STATUSES:
        if text == status:
            return status
    raise OptionError(f"{text[:40]!r} is not one of {', '.join(STATUSES)}")


def _method(text: str) -> str:
    if _METHOD.fullmatch(text.upper()) is None:
        raise OptionError(f"{text[:40]!r} is no method of HTTP")
    return text.upper()


def _boolean(text: str) -> bool:
    try:
        return values.boolean(text[:40])
    except ValueError as error:
        raise OptionError(str(error)) from None


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise OptionError(f"{text[:40]!r} is not a path: it does not begin with /")
    if " " in text or not text.isprintable():
        raise OptionError("a path has no spaces and no control characters")
    return text


def _http(subject: Subject, text: str) -> dict[str, Any]:
    return {"HTTP": f"http://{subject.netloc}{_path(text)}"}


def _https(subject: Subject, text: str) -> dict[str, Any]:
    return {"HTTP": f"https://{subject.netloc}{_path(text)}"}


def _cmd(subject: Subject, text: str) -> dict[str, Any]:
    # Consul's own check inside of a container, for which the agent asks the engine: `docker exec` in effect.
    return {"DockerContainerID": subject.container.id, "Shell": "/bin/sh", "Args": ["/bin/sh", "-c", text]}


def _script(subject: Subject, text: str) -> dict[str, Any]:
    text = text.replace("$SERVICE_IP", subject.host).replace("$SERVICE_PORT", str(subject.port))
    return {"Args": ["/bin/sh", "-c", text]}


def _ttl(_: Subject, text: str) -> dict[str, Any]:
    return {"TTL": duration(text)}


def _tcp(subject: Subject, _: str) -> dict[str, Any]:
    return {"TCP": subject.netloc}


def _grpc(subject: Subject, _: str) -> dict[str, Any]:
    return {"GRPC": subject.netloc}


# Kind -> how its definition is made, and whether it connects to the port by TCP; the first that is given counts.
_KINDS: Mapping[str, tuple[Callable[[Subject, str], dict[str, Any]], bool]] = {
    "http": (_http, True),
    "https": (_https, True),
    "cmd": (_cmd, False),
    "script": (_script, False),
    "ttl": (_ttl, False),
    "tcp": (_tcp, True),
    "grpc": (_grpc, True),
}
