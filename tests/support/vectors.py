"""Balancing vectors: scripts of requests and failures, and the picks that nginx 1.22 makes for them.

The same script is played against a running proxy (nginx or consul-edge) in front of scripted peers, and
against a bare `Group`. What comes of it is a trace: for each request the peers that saw an attempt, in
order, and how it ended (`ba` is: b was asked, then a, which answered; `b:504`: b was asked, the client got
504).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from tests.support.peers import Behaviour, Plane

CLIENT = "127.0.0.1"


@dataclass(frozen=True)
class Ask:
    """Make requests (or short connections), one after the other, from a loopback address."""

    count: int = 1
    client: str = CLIENT


@dataclass(frozen=True)
class Hold:
    """Make requests (or connections) that stay open, one after the other."""

    count: int = 1


@dataclass(frozen=True)
class End:
    """End what is held open on a peer."""

    peer: str


@dataclass(frozen=True)
class Behave:
    """From now on a peer behaves so."""

    peer: str
    behaviour: Behaviour


@dataclass(frozen=True)
class Wait:
    """Let time pass: a little more than so many seconds."""

    seconds: int


Step = Ask | Hold | End | Behave | Wait


@dataclass(frozen=True)
class Vector:
    """A script for peers with these weights, and the trace it leaves over HTTP, with a space between requests."""

    name: str
    weights: dict[str, int]
    script: tuple[Step, ...]
    trace: str
    planes: tuple[Plane, ...] = ("http", "tcp")
    policy: str = "round_robin"
    max_fails: int = 3
    fail_timeout: int = 10
    max_conns: int = 0

    @property
    def read_timeout(self) -> int:
        """Seconds for which a proxy must wait for an answer: few if a peer is silent, more if requests are held."""
        return 1 if any(isinstance(step, Behave) and step.behaviour == "hang" for step in self.script) else 60

    @property
    def duration(self) -> int:
        """Seconds that the script waits at least."""
        return sum(step.seconds for step in self.script if isinstance(step, Wait))

    def expected(self, plane: Plane) -> list[str]:
        """Return the trace; over TCP a client is told nothing but the end."""
        trace = self.trace if plane == "http" else re.sub(r":\d+", ":eof", self.trace)
        return trace.split()


class Driver(Protocol):
    """Plays the steps of a script."""

    def ask(self, client: str) -> str:
        """Make a request that ends; return its part of the trace."""

    def hold(self) -> str:
        """Make a request that stays open; return its part of the trace."""

    def end(self, peer: str) -> None:
        """End what is held open on a peer."""

    def behave(self, peer: str, behaviour: Behaviour) -> None:
        """Change how a peer behaves."""

    def wait(self, seconds: int) -> None:
        """Let time pass."""


def play(vector: Vector, driver: Driver) -> list[str]:
    """Play a vector's script and return the trace."""
    trace: list[str] = []
    for step in vector.script:
        match step:
            case Ask(count, client):
                trace += [driver.ask(client) for _ in range(count)]
            case Hold(count):
                trace += [driver.hold() for _ in range(count)]
            case End(peer):
                driver.end(peer)
            case Behave(peer, behaviour):
                driver.behave(peer, behaviour)
            case Wait(seconds):
                driver.wait(seconds)
    return trace


TWO = {"a": 1, "b": 1}

WEIGHTS = (
    Vector("equal", TWO, (Ask(30),), "a b " * 15),
    Vector("weights", {"a": 5, "b": 1, "c": 1}, (Ask(21),), "a a b a c a a " * 3),
    Vector("more-weights", {"a": 1, "b": 3, "c": 2}, (Ask(12),), "b c a b c b " * 2),
)

FAILURES = (
    Vector("failing-peer", TWO, (Behave("b", "close"), Ask(30)), "a ba a ba a ba " + "a " * 24, planes=("http",)),
    Vector("resetting-peer", TWO, (Behave("b", "reset"), Ask(10)), "a ba a ba a ba a a a a", planes=("http",)),
    Vector("refusing-peer", {**TWO, "c": 1}, (Behave("b", "refuse"), Ask(12)), "a c c a c a c a c a c a"),
    Vector(
        # A failure lowers the weight in force, which comes back pick by pick.
        "failing-heavy-peer",
        {"a": 10, "b": 2, "c": 1},
        (Ask(3), Behave("a", "refuse"), Ask(2), Behave("a", "answer"), Ask(30)),
        "a a b c c a b a a c a a a b a a a a b a a a c a a a b a a a a b a a a",
    ),
    Vector("closing-is-no-failure", TWO, (Behave("b", "close"), Ask(10)), "a b:eof " * 5, planes=("tcp",)),
    Vector("silent-peer", TWO, (Behave("b", "hang"), Ask(6)), "a ba a ba a a", planes=("http",), max_fails=2),
    Vector("stalled-peer", TWO, (Behave("b", "stall"), Ask(6)), "a a a a a a", max_fails=2),
    Vector(
        "all-down",
        TWO,
        (
            *(Behave("a", "refuse"), Behave("b", "refuse"), Ask(4)),
            *(Behave("a", "answer"), Behave("b", "answer"), Ask(3)),
        ),
        ":502 " * 7,
        max_fails=2,
    ),
    Vector(
        # The last attempt decides what the client is told.
        "all-silent",
        TWO,
        (Behave("a", "hang"), Behave("b", "close"), Ask(3)),
        "ab:502 ba:504 :502",
        planes=("http",),
        max_fails=2,
    ),
    Vector(
        # With a peer left that may not be asked, it is 502 whatever the last attempt was.
        "last-word",
        TWO,
        (Behave("b", "close"), Ask(2), Behave("a", "hang"), Ask(2)),
        "a ba a:502 :502",
        planes=("http",),
        max_fails=1,
    ),
    Vector(
        "one-peer",
        {"a": 1},
        (Behave("a", "refuse"), Ask(4), Behave("a", "answer"), Ask(2)),
        ":502 :502 :502 :502 a a",
        max_fails=1,
    ),
    Vector("never-suspended", TWO, (Behave("b", "close"), Ask(8)), "a ba " * 4, planes=("http",), max_fails=0),
)

RECOVERY = (
    Vector(
        "recovery",
        TWO,
        (Behave("b", "refuse"), Ask(6), Behave("b", "answer"), Ask(4), Wait(3), Ask(8)),
        "a a a a a a  a a a a  a b a b a b a b",
        max_fails=2,
        fail_timeout=2,
    ),
    Vector(
        "failed-probe",
        TWO,
        (Behave("b", "close"), Ask(6), Wait(3), Ask(6), Behave("b", "answer"), Wait(3), Ask(6)),
        "a ba a ba a a  a ba a a a a  a b a b a b",
        planes=("http",),
        max_fails=2,
        fail_timeout=2,
    ),
    Vector(
        "success-does-not-clear",
        TWO,
        (Behave("b", "close"), Ask(4), Behave("b", "answer"), Ask(6), Behave("b", "close"), Ask(6)),
        "a ba a ba  a b a b a b  a ba a a a a",
        planes=("http",),
    ),
    Vector(
        # One live request is the probe: until it ends well, the peer gets no other.
        "one-probe",
        TWO,
        (Behave("b", "refuse"), Ask(4), Behave("b", "answer"), Wait(3), Hold(6), End("b"), Ask(4)),
        "a a a a  a b a a a a  a b a b",
        planes=("http",),
        max_fails=2,
        fail_timeout=2,
    ),
    Vector(
        # Over TCP a connection that is up is a success, however long it lasts.
        "credited-at-connect",
        TWO,
        (Behave("b", "refuse"), Ask(4), Behave("b", "answer"), Wait(3), Hold(6)),
        "a a a a  a b a b a b",
        planes=("tcp",),
        max_fails=2,
        fail_timeout=2,
    ),
)

CONNECTIONS = (
    Vector(
        "max-conns",
        {"a": 2, "b": 1},
        (Hold(5), End("a"), Ask(2), Hold(3)),
        "a b a b :502  a a  a a :502",
        max_conns=2,
    ),
    Vector(
        "least-conn",
        TWO,
        (Hold(10), End("b"), Hold(5), Ask(2), End("a"), Hold(3)),
        "a b b a a b b a a b  b b b b b  b a  a a a",
        policy="least_conn",
    ),
    Vector("busy-peer", TWO, (Hold(1), Ask(10)), "a " + "b " * 10, policy="least_conn"),
    Vector(
        "least-conn-weights",
        {"a": 3, "b": 1, "c": 2},
        (Hold(12), End("a"), Hold(6)),
        "a c b a c a b c a a c a  a a a a a a",
        policy="least_conn",
    ),
)

_CLIENTS = tuple(Ask(1, f"127.{n * 7 % 256}.{n * 31 % 256}.{n}") for n in range(1, 25))
_NETWORKS = tuple(Ask(1, f"127.0.{n}.1") for n in range(1, 60))

HASHES = (
    Vector(
        "ip-hash",
        {"a": 1, "b": 3, "c": 1, "d": 2},
        (*_CLIENTS, Behave("b", "close"), *_CLIENTS),
        "c a c a b d b d " * 3 + "c a c a bc d bd d  c a c a bc d d d  c a c a d d d d",
        planes=("http",),
        policy="ip_hash",
    ),
    Vector(
        # Where the hash's walk misses too often, the eligible take turns.
        "ip-hash-misses",
        {"a": 1, "b": 40, "c": 1},
        (Behave("b", "refuse"), *_NETWORKS),
        "a a a c a a a a c a c c c c a c c a c c a c a a c c a c c c a a c a a c a c c a c a c a a c c c "
        "c c a c c c c c a a a ",
        planes=("http",),
        policy="ip_hash",
    ),
    Vector(
        # What earlier attempts of the request were given does not count as a miss.
        "ip-hash-retries",
        {"a": 1, "b": 30, "c": 1, "d": 30, "e": 1},
        (Behave("b", "close"), Behave("d", "close"), *_NETWORKS),
        "bda bda bda be ba bdc bde ba bc bda bde bda bdc bdc bde bde bde bdc bde bda bda bde c dba dbc "
        "dbc dba dbc dbe dba dba dba dba dbc dbe dba dbc dbe dbc dbc dc dbc de da dba dc dbe dbe dbe dba "
        "dbe dba dba e a bdc bdc bde bda ",
        planes=("http",),
        policy="ip_hash",
        max_fails=0,
    ),
)

VECTORS = WEIGHTS + FAILURES + RECOVERY + CONNECTIONS + HASHES

CASES = [(vector, plane) for vector in VECTORS for plane in vector.planes]
CASE_NAMES = [f"{vector.name}-{plane}" for vector, plane in CASES]
