"""The numbered parts of the scenario, each checked with real clients, to the letter of what they print."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.scenario.clients import Place, fingerprint, resolve_to
from tests.scenario.layout import (
    BACKEND_NAME,
    BACKEND_PORT,
    DATACENTER,
    ECHO,
    ECHO_PORT,
    EDGES,
    FRONT,
    FRONT_NAME,
    HOSTS,
    NEXT_VERSION,
    OUTSIDE_ADDRESS,
    OUTSIDE_NAME,
    SECURE_NAME,
    SECURE_PORT,
    VERSION,
)
from tests.scenario.samples import SAMPLES
from tests.scenario.site import Site
from tests.scenario.table import Report

SERVERS = f"consul.service.{DATACENTER}.consul"
BACKEND_URL = f"{BACKEND_NAME}:{BACKEND_PORT}"
BACKEND_SAYS = f"this is httpbackendservice, version: {VERSION}\n"
FRONT_SAYS = f"this is httpfrontservice, version: {VERSION}, calling backendservice ok, its resp: [{BACKEND_SAYS}]\n"
SECURE_SAYS = f"this is tlsfrontservice, version: {VERSION}\n"
ECHOED = re.compile(r"\[v1\.0\.0\]\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00 \[hello\n\]")
ECHO_SAYS = "[v1.0.0]<timestamp> [hello\n]"
RULES = "what nginx's template set: policy, max_fails, fail_timeout, weight (equal)"
TRIES = 12
"""Calls of a client that looks at how it is balanced."""


def internal_service(site: Site, report: Report) -> None:
    """Part 1: an internal service, by DNS."""
    report.part("1. Internal service, by DNS")
    site.run_sample("httpbackend")
    for name in HOSTS:
        _names_on_host(report, site.on(name))
        _names_in_container(report, site.on(name, "httpbackend"))


def _names_on_host(report: Report, place: Place) -> None:
    """Ask for names on a host.

    There the C library sorts the addresses of a name: the host's own goes first (RFC 6724, rule 9), whatever
    the order of the answer. So it is `dig` that shows one server after the other, and `ping` that each of them answers.
    """
    every = set(HOSTS.values())
    report.expect(f"dig {BACKEND_NAME} {place}", every, lambda: set(place.dig(BACKEND_NAME)))
    report.expect(f"dig {SERVERS} {place}: the first of each of {TRIES} answers", every, lambda: first(place, SERVERS))
    report.expect_one(f"ping {SERVERS} {place}", every, lambda: place.ping(SERVERS))
    report.expect(f"curl {BACKEND_URL} {place}", BACKEND_SAYS, lambda: place.curl(BACKEND_URL))
    report.expect(f"dig {OUTSIDE_NAME} {place}", [OUTSIDE_ADDRESS], lambda: place.dig(OUTSIDE_NAME))


def _names_in_container(report: Report, place: Place) -> None:
    every = set(HOSTS.values())
    report.expect(f"ping {SERVERS} {place}, {TRIES} times", every, lambda: {place.ping(SERVERS) for _ in range(TRIES)})
    report.expect(f"curl {BACKEND_URL} {place}", BACKEND_SAYS, lambda: place.curl(BACKEND_URL))
    report.expect(f"the address of {OUTSIDE_NAME} {place}", OUTSIDE_ADDRESS, lambda: place.look_up(OUTSIDE_NAME))


def http_outside(site: Site, report: Report) -> None:
    """Part 2: HTTP to the outside."""
    report.part("2. HTTP to the outside")
    site.run_sample("httpbackend")
    for edge in EDGES:
        before = partial(status_of, site.client, edge)
        report.expect(f"status of {FRONT_NAME} by {edge}, before there is one", "404", before)
    site.run_sample("httpfront")
    for edge in EDGES:
        ask = partial(front, site.client, edge)
        report.expect(f"curl {FRONT_NAME} by {edge}", FRONT_SAYS, ask)
        balanced(site, report, f"curl {FRONT_NAME} by {edge}", "httpfront", ask)
    report.expect(f"curl {FRONT_NAME}", FRONT_SAYS, lambda: site.client.curl(FRONT_NAME))
    report.expect(RULES, {("round_robin", 3, 60, 1)}, lambda: rules(site, FRONT))


def tcp_outside(site: Site, report: Report) -> None:
    """Part 3: TCP to the outside."""
    report.part("3. TCP to the outside")
    site.run_sample("tcpfront")
    for edge in EDGES:
        ask = partial(echo, site.client, edge)
        report.expect(f"echo hello | nc {edge} {ECHO_PORT}", ECHO_SAYS, ask)
        balanced(site, report, f"nc {edge} {ECHO_PORT}", "tcpfront", ask)
    report.expect(RULES, {("least_conn", 3, 30, 1)}, lambda: rules(site, ECHO))


def tls_passed_through(site: Site, report: Report) -> None:
    """Part 4: HTTPS passed through; the certificate stays with the service."""
    report.part("4. HTTPS passed through")
    site.run_sample("tlsfront")
    own = fingerprint(site.client.host, site.certificate.certificate.read_bytes())
    url = f"https://{SECURE_NAME}:{SECURE_PORT}/"
    for edge in EDGES:
        shown = partial(site.client.certificate, HOSTS[edge], SECURE_PORT, SECURE_NAME)
        report.expect(f"openssl s_client -connect {edge}:{SECURE_PORT}: the service's own certificate", own, shown)
        via = resolve_to(SECURE_NAME, SECURE_PORT, HOSTS[edge])
        ask = partial(site.client.curl, url, "--cacert", str(site.certificate.certificate), *via)
        report.expect(f"curl {url} by {edge}", SECURE_SAYS, ask)
        balanced(site, report, f"curl {url} by {edge}", "tlsfront", ask)


def gray_release(site: Site, report: Report) -> None:
    """Part 6: what its author wished for: a new version for some clients, by what the container's labels say."""
    report.part("6. Gray release, by service Meta")
    for program in ("httpbackend", "httpfront"):
        site.run_sample(program)
    labels = ("SERVICE_TAGS=http", f"SERVICE_LB_HOST={FRONT_NAME}", "SERVICE_LB_PATH=/gray")
    gray = replace(SAMPLES["httpfront"], service="httpfront-gray", labels=labels)
    site.start_container("consul-3", gray, container="httpfront-gray", version=NEXT_VERSION)
    new = FRONT_SAYS.replace(VERSION, NEXT_VERSION, 1)
    for edge in EDGES:
        for path, expected in (("/gray", new), ("/gray/more", new), ("/", FRONT_SAYS), ("/grayish", FRONT_SAYS)):
            ask = partial(front, site.client, edge, path)
            report.expect(f"curl {FRONT_NAME}{path} by {edge}", expected, ask)
    site.stop_container("consul-3", "httpfront-gray")
    for edge in EDGES:
        ask = partial(front, site.client, edge, "/gray")
        report.expect(f"curl {FRONT_NAME}/gray by {edge} when the new version has gone", FRONT_SAYS, ask)


def first(place: Place, name: str) -> set[str]:
    """Ask for a name several times; return the addresses that came first."""
    return {place.dig(name)[0] for _ in range(TRIES)}


def front(place: Place, edge: str, path: str = "") -> str:
    """Ask an edge for the front and return what it says."""
    return place.curl(FRONT_NAME + path, *resolve_to(FRONT_NAME, 80, HOSTS[edge]))


def echo(place: Place, edge: str) -> str:
    """Say hello to an edge's TCP port; return what comes back, a right timestamp replaced by `<timestamp>`."""
    said = place.nc(HOSTS[edge], ECHO_PORT, "hello\n")
    return ECHO_SAYS if ECHOED.fullmatch(said) else said


def status_of(place: Place, edge: str) -> str:
    """Return the status that an edge answers with for the front."""
    options = ("-s", "-o", "/dev/null", "-w", "%{http_code}", *resolve_to(FRONT_NAME, 80, HOSTS[edge]))
    return place.run("curl", *options, FRONT_NAME)


def rules(site: Site, service: str) -> set[tuple[object, ...]]:
    """Return policy, max_fails, fail_timeout (seconds) and weight of a service's instances, by both edges."""
    return {
        (route["policy"], each["max_fails"], each["fail_timeout"], each["weight"])
        for edge in site.balancers
        for route in edge.get("/api/routes")
        if route["service"] == service
        for each in route["endpoints"]
    }


def balanced(site: Site, report: Report, step: str, program: str, call: Callable[[], str]) -> None:
    """Look at how many of some calls each host's container serves.

    More than once if need be: an instance that is registered before it listens is left out for a while.
    """

    def count() -> dict[str, int]:
        before = site.served(program)
        for _ in range(TRIES):
            call()
        return {name: served - before[name] for name, served in site.served(program).items()}

    equal = dict.fromkeys(HOSTS, TRIES // len(HOSTS))
    report.expect(f"{step}, {TRIES} times: served by", equal, count, within=70)


PARTS = {"1": internal_service, "2": http_outside, "3": tcp_outside, "4": tls_passed_through, "6": gray_release}
