"""What only an agent knows - prepared queries, the mesh, other datacenters: what to ask it, how to read the answer.

No I/O. The paths are those of Consul's HTTP API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

from dnsserver.names import MeshName, NodeName, QueryName, ServiceName
from lb.catalog import decode
from lb.catalog.model import Instance, Node
from lb.errors import AgentRefused, BadAnswer, EdgeError, InstanceError

Json = Any
RemoteName = ServiceName | NodeName | MeshName | QueryName

MAX_TTL = (1 << 31) - 1
"""Seconds (RFC 2181 section 8)."""

_NO_DATACENTER = "No path to datacenter"
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"(\d{1,9}\.?\d{0,9}|\.\d{1,9})(h|ms|m|s|us|µs|μs|ns)")


class Form(Enum):
    """How the agent's answer is to be read."""

    INSTANCES = "instances"
    QUERY = "query"
    NODE = "node"


class AgentQuestion(NamedTuple):
    """A path of the agent's API, not yet quoted, and the datacenter that is asked about."""

    form: Form
    path: str
    datacenter: str


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What an agent has answered: instances with their nodes, or one node alone; nothing, if it does not exist.

    `datacenter` is where they are, `service` whose instances they are; `ttl` is the prepared query's own.
    """

    instances: tuple[Instance, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    datacenter: str = ""
    service: str = ""
    ttl: int | None = None


NOTHING = AgentAnswer()

Known = Mapping[AgentQuestion, AgentAnswer | None]
"""What was found out for one query so far; None: the agent could not be asked."""


class AgentNeeded(EdgeError):
    """An answer depends on what only an agent knows: `question` is to be asked first."""

    def __init__(self, question: AgentQuestion) -> None:
        super().__init__(question.path)
        self.question = question


def agent_question(name: RemoteName, own: str) -> AgentQuestion | None:
    """Return what to ask for a name, `own` being the datacenter that it means when it says none.

    None for a name that no path of the API can carry, so that nothing in Consul has it.
    """
    match name:
        case ServiceName(service=what):
            form, prefix, suffix = Form.INSTANCES, "/v1/health/service/", ""
        case MeshName(kind=kind, service=what):
            form, prefix, suffix = Form.INSTANCES, f"/v1/health/{kind}/", ""
        case QueryName(query=what):
            form, prefix, suffix = Form.QUERY, "/v1/query/", "/execute"
        case NodeName(node=what):
            form, prefix, suffix = Form.NODE, "/v1/catalog/node/", ""
    try:
        text, datacenter = what.decode(), name.datacenter.decode() or own
    except UnicodeDecodeError:
        return None
    if not text.isprintable() or not datacenter.isprintable() or "/" in text or not text.strip("."):
        return None
    return AgentQuestion(form, f"{prefix}{text}{suffix}", datacenter)


def read_found(question: AgentQuestion, body: Json) -> AgentAnswer:
    """Read the agent's answer; an instance that cannot be used is left out. Raises BadAnswer."""
    if question.form is Form.NODE:
        node = _map(body).get("Node")
        return AgentAnswer(nodes=_nodes([node]), datacenter=question.datacenter) if node else NOTHING
    datacenter, service, ttl = question.datacenter, "", None
    entries = body
    if question.form is Form.QUERY:
        answer = _map(body)
        entries = answer.get("Nodes")
        datacenter = str(answer.get("Datacenter") or datacenter)
        service = str(answer.get("Service") or "")
        ttl = _ttl(_map(answer.get("DNS")).get("TTL"))
    if entries is not None and not isinstance(entries, list):
        raise BadAnswer("instances: no list")
    described = [_map(entry) for entry in entries or ()]
    instances = []
    for entry in described:
        try:
            instances.append(decode.instance(entry))
        except (InstanceError, BadAnswer):
            continue
    nodes = _nodes([entry.get("Node") for entry in described])
    return AgentAnswer(tuple(instances), nodes, datacenter, service, ttl)


def is_nothing(question: AgentQuestion, refused: AgentRefused) -> bool:
    """Tell whether a refusal means that there is no such query or datacenter; else the agent has failed."""
    if refused.status == 404:
        return question.form is Form.QUERY
    return _NO_DATACENTER in str(refused)


def go_seconds(text: str) -> float:
    """Return the seconds of a duration as Go writes it (`1m30s`, `500ms`); raise ValueError for anything else."""
    parts = _DURATION_PART.findall(text)
    if text != "0" and (not parts or "".join(number + unit for number, unit in parts) != text):
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _ttl(value: Json) -> int | None:
    """The TTL of a prepared query: None where it has none, or one that says nothing."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return min(int(go_seconds(value)), MAX_TTL)
    except ValueError:
        return None


def _nodes(described: list[Json]) -> Mapping[str, Node]:
    return MappingProxyType(decode.nodes(described))


def _map(value: Json) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadAnswer("a map was expected")
    return value
