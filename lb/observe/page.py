"""The admin server's page for people: one HTML document without scripts or outside resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

from lb.observe.tables import duration, failed_upgrade, places, registrator, worker_row

MAX_ROWS = 200
"""Routes, and problems, on the page; the API has them all."""

_STYLE = """ body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0
1rem; color: #222; } table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; } th, td {
text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; } th
{ font-weight: 600; color: #555; } .good { color: #17692b; } .bad { color: #b3261e; }
"""


class _Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def page(status: Mapping[str, Any], routes: Iterable[Mapping[str, Any]]) -> str:
    """Render the answers of `/api/status` and `/api/routes`; every value is escaped."""
    rest = iter(routes)
    shown = list(islice(rest, MAX_ROWS))
    more = next(rest, None) is not None
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">',
        f"<title>consul-edge</title><style>{_STYLE}</style></head><body><h1>consul-edge</h1>",
        _facts(status),
        _workers(status["workers"]),
        _listeners(status["listeners"]),
        _problems(status["problems"]),
        "<h2>Routes</h2>",
        _routes(shown),
        f"<p>Only the first {MAX_ROWS} routes are shown.</p>" if more else "",
        '<p>More: <a href="/api/status">status</a>, <a href="/api/routes">routes</a>,',
        ' <a href="/api/services">services</a>, <a href="/metrics">metrics</a>.</p></body></html>\n',
    ]
    return "".join(parts)


def _facts(status: Mapping[str, Any]) -> str:
    catalog, traffic = status["catalog"], status["traffic"]
    ready = _mark("ready") if status["ready"] else _mark("; ".join(status["reasons"]) or "not ready", good=False)
    connected = _mark("connected") if catalog["connected"] else _mark("not connected", good=False)
    age = "" if catalog["age"] is None else f", last answer {catalog['age']:.1f} s ago"
    health = ", ".join(f"{count} {name}" for name, count in catalog["instances"].items())
    return _table(
        (),
        [
            ("State", ready),
            ("Version", status["version"]),
            ("Process", status["pid"]),
            ("Uptime", duration(status["uptime"])),
            ("Consul", _Markup(f"{_cell(catalog['agent'])} {connected}{escape(age)}")),
            ("Catalog", f"{catalog['datacenter']}: {catalog['services']} services; instances: {health}"),
            ("HTTP", f"{traffic['http_requests']} requests, {traffic['http_active']} active"),
            ("TCP", f"{traffic['tcp_sessions']} sessions, {traffic['tcp_active']} active"),
            ("TLS", f"{traffic['tls_sessions']} sessions, {traffic['tls_active']} active"),
            ("DNS", "off" if status["dns"] is None else f"{status['dns']['replies']} replies"),
            *_registrator(status.get("registrator")),
            *_upgrade(status["upgrades"]),
        ],
    )


def _registrator(status: Mapping[str, Any] | None) -> list[tuple[object, ...]]:
    if status is None:
        return []
    well = status["docker"]["connected"] and status["consul"]["connected"]
    return [("Registrator", _mark(registrator(status), good=well))]


def _upgrade(upgrades: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [("Upgrade", _mark(failed_upgrade(upgrades), good=False))] if upgrades["failed"] else []


def _workers(workers: Sequence[Mapping[str, Any]] | None) -> str:
    if not workers:
        return ""
    head = ("Worker", "Process", "Uptime", "Memory", "Descriptors")
    return "<h2>Workers</h2>" + _table(head, map(worker_row, workers))


def _listeners(listeners: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            each["listener"],
            _mark("up") if each["up"] else _mark(each["error"] or "not open", good=False),
            each["accepted"],
            each["active"],
        )
        for each in listeners
    ]
    return "<h2>Listeners</h2>" + _table(("Listener", "State", "Accepted", "Active"), rows)


def _problems(problems: Sequence[Mapping[str, Any]]) -> str:
    if not problems:
        return ""
    rows = [(each["kind"], each["subject"], each["reason"]) for each in problems[:MAX_ROWS]]
    return f"<h2>Problems: {len(problems)}</h2>" + _table(("Kind", "Of", "Reason"), rows)


def _routes(routes: Iterable[Mapping[str, Any]]) -> str:
    rows = [(places(route), route["service"], route["policy"], _endpoints(route["endpoints"])) for route in routes]
    return _table(("Route", "Service", "Policy", "Endpoints"), rows)


def _endpoints(endpoints: Sequence[Mapping[str, Any]]) -> _Markup:
    if not endpoints:
        return _mark("no passing instance", good=False)
    lines = [
        f"{_cell(each['endpoint'])} (weight {_cell(each['weight'])}, active {_cell(each['active'])}) "
        + _mark(each["state"], good=each["state"] == "up")
        for each in endpoints
    ]
    return _Markup("<br>".join(lines))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "<tr>" + "".join(f"<th>{_cell(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _mark(text: str, *, good: bool = True) -> _Markup:
    return _Markup(f'<span class="{"good" if good else "bad"}">{escape(text)}</span>')


def _cell(value: object) -> str:
    return value if isinstance(value, _Markup) else escape(str(value))
