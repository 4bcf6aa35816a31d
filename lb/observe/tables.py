"""The tables of `consul-edge status` and `consul-edge routes`, and how they ask a running node."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lb.errors import EdgeError
from lb.settings import Address

SERVER_NAME = "consul-edge"
"""What the admin server calls itself in the `Server` field."""

_MAX_ANSWER = 64 << 20


def fetch(admin: Address, path: str, timeout: float = 5.0) -> Any:
    """Get the JSON that the admin server of a running node gives for `path`.

    Raises EdgeError, in words for the user, if nothing answers there, or something else than consul-edge.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is not asked through a proxy
    try:
        with opener.open(f"http://{admin}{path}", timeout=timeout) as reply:
            if reply.headers.get("Server") != SERVER_NAME:
                raise EdgeError(f"what answers on {admin} is not consul-edge's admin server")
            body = reply.read(_MAX_ANSWER + 1)
        if len(body) > _MAX_ANSWER:
            raise EdgeError(f"the answer of {admin} is longer than {_MAX_ANSWER >> 20} MiB")
        return json.loads(body)
    except urllib.error.HTTPError as error:
        raise EdgeError(
            f"{admin} answers {error.code} for {path}: is that the admin address of consul-edge?"
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError):
            raise EdgeError(
                f"no consul-edge answers on {admin}: is it running? (--admin names another address)"
            ) from error
        raise EdgeError(f"no answer from {admin}: {reason}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise EdgeError(f"what answers on {admin} does not speak as consul-edge's admin server") from error


def status_text(status: Mapping[str, Any]) -> str:
    """Show the answer of `/api/status` as text."""
    catalog = status["catalog"]
    ready = "yes" if status["ready"] else "no: " + "; ".join(status["reasons"])
    facts = [
        ("version", status["version"]),
        ("process", status["pid"]),
        ("uptime", duration(status["uptime"])),
        ("ready", ready),
        ("consul", _agent(catalog)),
        ("catalog", _catalog(catalog)),
        ("routes", ", ".join(f"{count} {kind}" for kind, count in status["routes"].items()) or "none"),
        ("traffic", _traffic(status["traffic"])),
        ("dns", _dns(status["dns"])),
    ]
    if status.get("registrator"):
        facts.append(("registrator", registrator(status["registrator"])))
    if status["upgrades"]["failed"]:
        facts.append(("upgrade", failed_upgrade(status["upgrades"])))
    width = max(len(name) for name, _ in facts)
    blocks = ["\n".join(f"{name:<{width}}  {plain(value)}" for name, value in facts)]
    rows: list[tuple[object, ...]]
    if status["workers"]:
        rows = list(map(worker_row, status["workers"]))
        blocks.append(table(("WORKER", "PROCESS", "UPTIME", "MEMORY", "DESCRIPTORS"), rows))
    if status["listeners"]:
        rows = [
            (each["listener"], _state(each), each["accepted"], each["active"], _rejected(each))
            for each in status["listeners"]
        ]
        blocks.append(table(("LISTENER", "STATE", "ACCEPTED", "ACTIVE", "REJECTED"), rows))
    if status["problems"]:
        rows = [(each["kind"], each["subject"], each["reason"]) for each in status["problems"]]
        blocks.append(table(("PROBLEM", "OF", "REASON"), rows))
    return "\n\n".join(blocks) + "\n"


def routes_text(routes: Iterable[Mapping[str, Any]]) -> str:
    """Show the answer of `/api/routes` as a table: one line for each endpoint of each route."""
    rows: list[tuple[object, ...]] = []
    for route in routes:
        head: tuple[object, ...] = (places(route), route["service"], route["policy"])
        for each in route["endpoints"]:
            rows.append((*head, each["endpoint"], each["weight"], each["active"], each["fails"], each["state"]))
            head = ("", "", "")
        if not route["endpoints"]:
            rows.append((*head, "no passing instance", "", "", "", ""))
    if not rows:
        return "no routes\n"
    return table(("ROUTE", "SERVICE", "POLICY", "ENDPOINT", "WEIGHT", "ACTIVE", "FAILS", "STATE"), rows) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Align rows under their heads, two spaces between columns; numbers to the right."""
    lines = [tuple(head), *(tuple(plain(cell) for cell in row) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [any(cells) and all(cell.isdigit() or not cell for cell in cells) for _, *cells in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def places(route: Mapping[str, Any]) -> str:
    """Where a route is reached: `http web.example.com/shop, ...`, `tcp :9999` or `tls web.example.com, ...`."""
    if route["kind"] == "tcp":
        return f"tcp :{route['port']}"
    path = "" if route["kind"] == "tls" or route["path"] == "/" else route["path"]
    return f"{route['kind']} " + (", ".join(host + path for host in route["hosts"]) or "(no host)")


def worker_row(worker: Mapping[str, Any]) -> tuple[object, ...]:
    """One worker: number, process, uptime, memory, open descriptors."""
    memory = f"{worker['resident_bytes'] / (1 << 20):.1f} MiB"
    return worker["number"], worker["pid"], duration(worker["uptime"]), memory, worker["open_fds"]


def failed_upgrade(upgrades: Mapping[str, Any]) -> str:
    """Say how the last upgrade that failed did so, and how many have failed."""
    count = f" ({upgrades['failed']} have failed)" if upgrades["failed"] > 1 else ""
    return f"failed: {upgrades['error']}{count}"


def registrator(status: Mapping[str, Any]) -> str:
    """Say what the registrator has done, and what keeps it from doing more."""
    docker, consul = status["docker"], status["consul"]
    counts = f"{docker['engine']}: {status['containers']} containers, {status['services']} services"
    troubles = [f"Docker: {docker['error']}"] if docker["error"] else []
    troubles += [f"Consul: {consul['error']}"] if consul["error"] else []
    if status["failure"]:
        troubles = [f"given up: {status['failure']}"]
    return "; ".join([counts, *troubles])


def duration(seconds: float) -> str:
    """Write a duration in its two largest units: `3d 4h`, `2m 5s`, `0s`."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def plain(value: object) -> str:
    """Escape what would steer a terminal: names and reasons come from the catalog."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _agent(catalog: Mapping[str, Any]) -> str:
    state = "connected" if catalog["connected"] else "not connected"
    if catalog["age"] is None:
        age = "" if catalog["connected"] else ", no answer yet"  # of an agent that is only written to
    else:
        age = f", last answer {catalog['age']:.1f} s ago"
    error = "" if catalog["connected"] or not catalog["last_error"] else f"; {catalog['last_error']}"
    return f"{catalog['agent']} ({state}{age}{error})"


def _catalog(catalog: Mapping[str, Any]) -> str:
    if not catalog["generation"]:
        return "none yet"
    health = ", ".join(f"{count} {name}" for name, count in catalog["instances"].items())
    origin = "" if catalog["fresh"] else ", from disk, not yet confirmed"
    return f"{catalog['datacenter']}: {catalog['services']} services, instances: {health}{origin}"


def _traffic(traffic: Mapping[str, Any]) -> str:
    return (
        f"{traffic['http_requests']} requests"
        f" ({traffic['http_active']} active, {traffic['http_errors']} errors, {traffic['retries']} retries),"
        f" {traffic['tcp_sessions']} TCP sessions ({traffic['tcp_active']} active),"
        f" {traffic['tls_sessions']} TLS sessions ({traffic['tls_active']} active)"
    )


def _dns(dns: Mapping[str, Any] | None) -> str:
    return "off" if dns is None else f"{', '.join(dns['listen'])} ({dns['replies']} replies)"


def _rejected(listener: Mapping[str, Any]) -> str:
    """What a listener turned away: requests by status, connections by kind."""
    counts = {**listener["rejected"], **listener["rejected_connections"]}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "-"


def _state(listener: Mapping[str, Any]) -> str:
    return "up" if listener["up"] else f"down: {listener['error'] or 'not open'}"
