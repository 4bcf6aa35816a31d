"""How much memory a peer holds. Unlike loads, checks start their peer anew: memory once used is not given back.

To add a check: a class here, and an entry in `make_checks`.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.macro import catalog, probes
from benchmarks.macro.changes import Changer, catalog_changes
from benchmarks.macro.httpload import WrkLoad
from benchmarks.macro.loads import SMALL
from benchmarks.macro.peer import Kind, Peer, Running
from benchmarks.macro.processes import BenchmarkError, allow_open_files, on_cpus, output_of
from benchmarks.macro.site import DOMAIN, Site

CLIENTS = 10_000
PAIRS = 5_000
REQUESTS = 2_000_000
CHANGES = 10_000

SPARE_FILES = 500
"""Descriptors that a peer or the clients' program need beside those for idle clients."""

PIECE = 1
"""Seconds of one piece of the endurance load: memory is read between two pieces, when no client is connected."""

MARGIN = 60.0
"""Seconds that a program may take beyond its time before it counts as hung."""

LAST_SERVICE = "changing-last"

MIXED = WrkLoad("endurance", "every other request never seen before", "http", "requests", "second", "mixed")


@dataclass(frozen=True, slots=True)
class IdleClients:
    """What a peer held before and after clients connected, made one request each, and were idle."""

    check: str
    peer: str
    clients: int
    before: int
    after: int
    """Resident bytes, as `before`."""
    errors: int
    """Clients that got no reply or lost their connection."""

    @property
    def per_client(self) -> float:
        """Return the resident bytes for one client."""
        return (self.after - self.before) / self.clients


@dataclass(frozen=True, slots=True)
class Reading:
    """How many bytes of a peer were resident after so many requests and changes."""

    requests: int
    changes: int
    resident: int


@dataclass(frozen=True, slots=True)
class Endurance:
    """What a peer held at the start, after the warm-up, and at each tenth of the way."""

    check = "endurance"
    peer: str
    readings: Sequence[Reading]
    seconds: float
    errors: int
    lag: float | None
    """Seconds until the last change of the catalog had taken effect; None when it had not."""

    @property
    def growth(self) -> int:
        """Return the resident bytes that came between the warm-up and the end."""
        return self.readings[-1].resident - self.readings[1].resident

    @property
    def late_growth(self) -> int:
        """Return the resident bytes that came in the second half: what grows without end grows there, too."""
        last = self.readings[-1]
        middle = next(reading for reading in self.readings if reading.requests * 2 >= last.requests)
        return last.resident - middle.resident


Result = IdleClients | Endurance


class Check(ABC):
    """One question about the memory of a peer."""

    name: str
    about: str
    peers: frozenset[str]
    tool = "wrk"
    """The program that makes requests."""

    def suits(self, peer: Peer) -> bool:
        """Tell whether the peer takes part."""
        return peer.name in self.peers

    @abstractmethod
    def command(self, site: Site, port: int) -> list[str]:
        """Return the command that puts the peer on this port to the test."""

    @abstractmethod
    def measure(self, site: Site, peer: Peer, running: Running) -> Result:
        """Find out, with a peer that was just started; raise `BenchmarkError` when that is not possible."""


class IdleClientsCheck(Check):
    """What an idle client costs. There are fewer than `clients` when descriptors do not suffice."""

    name = "idle-clients"
    about = "kept-alive clients that made one request each and are idle"
    peers = frozenset({"consul-edge", "nginx-tuned"})
    kind: Kind = "http"
    files = 1
    """Descriptors that the peer needs for each client."""

    def __init__(self, clients: int = CLIENTS) -> None:
        self._clients = clients

    def command(self, site: Site, port: int) -> list[str]:
        """Return the command of the clients' program."""
        count = min(self._clients, (allow_open_files() - SPARE_FILES) // self.files)
        return [sys.executable, "-m", "benchmarks.macro.clients", f"127.0.0.1:{port}", str(count)]

    def measure(self, site: Site, peer: Peer, running: Running) -> IdleClients:
        """Read the memory after some requests, and again when all clients are idle."""
        port = running.ports[self.kind]
        output_of(SMALL.command(site, port, PIECE), site.other_cpus, MARGIN)
        before = running.program.resident_bytes()
        command = self.command(site, port)
        clients = subprocess.Popen(
            on_cpus(command, site.other_cpus),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        try:
            connected = _read_connected(clients)
            if not connected:
                raise BenchmarkError("no client got a reply")
            after = running.program.resident_bytes()
            rest, _ = clients.communicate(timeout=MARGIN)
            still = json.loads(rest)["connected"]
        except (ValueError, subprocess.TimeoutExpired) as error:
            raise BenchmarkError(f"the idle clients failed: {error!r}") from error
        finally:
            clients.kill()
            clients.wait()
        return IdleClients(self.name, peer.name, connected, before, after, errors=int(command[-1]) - still)


def _read_connected(clients: subprocess.Popen[str]) -> int:
    assert clients.stdout
    if not select.select([clients.stdout], [], [], MARGIN)[0]:
        raise BenchmarkError(f"the clients were not connected within {MARGIN:.0f} s")
    return int(json.loads(clients.stdout.readline())["connected"])


class IdlePairsCheck(IdleClientsCheck):
    """What an idle TCP connection costs: a client's and the one to its instance."""

    name = "idle-pairs"
    about = "TCP connections, each with its own to an instance, that passed one request and its reply and are idle"
    peers = frozenset({"consul-edge", "nginx-stream"})
    kind = "tcp"
    files = 2


class EnduranceCheck(Check):
    """Whether memory grows under many requests with new heads and many changes of the catalog."""

    name = Endurance.check
    peers = frozenset({"consul-edge"})

    def __init__(self, requests: int = REQUESTS, changes: int = CHANGES) -> None:
        self._requests = requests
        self._changes = changes
        self.about = (
            f"{requests:,} requests over 64 connections, every other one with a path and a cookie never seen before, "
            f"while {changes:,} changes are made in the catalog"
        )

    def command(self, site: Site, port: int) -> list[str]:
        """Return the wrk command of one piece."""
        return MIXED.command(site, port, PIECE)

    def measure(self, site: Site, peer: Peer, running: Running) -> Endurance:
        """Make requests and changes, as evenly beside each other as can be, and read the memory between pieces."""
        assert running.agent is not None
        command = self.command(site, running.ports["http"])
        readings = [Reading(0, 0, running.program.resident_bytes())]
        points = reading_points(self._requests)
        requests = errors = 0
        piece = points[0]
        begin = time.monotonic()
        with (
            closing(Changer(running.agent, catalog_changes(site.origin_ports[0]))) as changer,
            ThreadPoolExecutor(1, "changer") as thread,
        ):
            while requests < self._requests or changer.made < self._changes:
                due = round(self._changes * min(1.0, (requests + piece) / self._requests))
                changing = thread.submit(changer.advance, due)
                count = MIXED.parse(output_of(command, site.other_cpus, PIECE + MARGIN))
                changing.result()
                piece = int(count.work)
                if not piece:
                    raise BenchmarkError("no request was answered")
                requests += piece
                errors += count.errors
                if points and requests >= points[0]:
                    points = [point for point in points if point > requests]
                    readings.append(Reading(requests, changer.made, running.program.resident_bytes()))
            seconds = time.monotonic() - begin
            readings[-1] = Reading(requests, changer.made, running.program.resident_bytes())
        return Endurance(peer.name, readings, seconds, errors, lag=_last_change(site, running))


def reading_points(requests: int) -> list[int]:
    """Return after how many requests memory is read: the first 5 % are the warm-up, then each tenth."""
    return [requests // 20, *(requests * tenth // 10 for tenth in range(1, 11))]


def _last_change(site: Site, running: Running, patience: float = 10.0) -> float | None:
    """Register one more service, and return how many seconds pass until it is served; None after `patience`."""
    assert running.agent is not None
    catalog.request(
        running.agent, "PUT", catalog.REGISTER, catalog.origin_instance(LAST_SERVICE, 0, site.origin_ports[0])
    )
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < patience:
        with suppress(OSError):
            if probes.http_reply(running.ports["http"], f"{LAST_SERVICE}.{DOMAIN}"):
                return waited
        time.sleep(0.001)
    return None


def make_checks(
    clients: int = CLIENTS, pairs: int = PAIRS, requests: int = REQUESTS, changes: int = CHANGES
) -> tuple[Check, ...]:
    """Return all checks."""
    return (IdleClientsCheck(clients), IdlePairsCheck(pairs), EnduranceCheck(requests, changes))


def run_checks(site: Site, checks: Sequence[Check], peers: Sequence[Peer]) -> Iterator[Result]:
    """Yield results as they come. A check that fails is named on stderr and left out."""
    for check in checks:
        for peer in peers:
            if not check.suits(peer):
                continue
            if reason := peer.missing():
                print(f"{check.name}: {peer.name} is left out: {reason}", file=sys.stderr)
                continue
            try:
                with started_anew(site, peer, check.name) as running:
                    result = check.measure(site, peer, running)
            except (BenchmarkError, OSError) as error:
                print(f"{check.name} on {peer.name} failed: {error}", file=sys.stderr)
                continue
            yield result


@contextmanager
def started_anew(site: Site, peer: Peer, purpose: str) -> Iterator[Running]:
    """Start one more process of a peer, in a folder of its own and with the proxy's core to itself, and end it."""
    folder = site.work / f"{purpose}-{peer.name}"
    folder.mkdir()
    with ExitStack() as held:
        running = peer.start(replace(site, work=folder, held=held))
        running.program.pin(site.proxy_cpus)
        yield running
