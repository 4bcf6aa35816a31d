"""Changes of a catalog: instances come, change, fail, recover and go, beside the service that takes the traffic."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.macro.catalog import REGISTER, TIMEOUT, origin_instance
from benchmarks.macro.processes import BenchmarkError
from benchmarks.macro.site import SERVICE

SERVICES = 300
"""Services that change one after the other."""

STEPS = 6
"""Changes of one service until it is as at first."""

BUSY_EVERY = 50
"""After so many changes of these, the service that takes the traffic is changed: the weight of an instance."""


@dataclass(frozen=True, slots=True)
class Change:
    """One request (PUT) to an agent."""

    path: str
    body: dict[str, Any] | None = None


def catalog_changes(origin_port: int) -> Iterator[Change]:
    """Yield changes without end; each one leaves the catalog different from what it was before.

    A service gets two instances; then one has new meta data, the other one fails, recovers and goes; and again.
    `origin_port` is that of the first instance of the service that takes the traffic.
    """
    number = 0
    while True:
        yield _change(*divmod(number // SERVICES, STEPS), number % SERVICES)
        number += 1
        if number % BUSY_EVERY == 0:
            weights = {"Passing": 2 + number // BUSY_EVERY % 2, "Warning": 1}
            yield Change(REGISTER, {**origin_instance(SERVICE, 0, origin_port), "Weights": weights})


def _change(cycle: int, step: int, service: int) -> Change:
    check = f"service:{_instance_id(service, 1)}"
    match step:
        case 0:
            return Change(REGISTER, _instance(service, 0, release=2 * cycle))
        case 1:
            return Change(REGISTER, _instance(service, 1, release=cycle))
        case 2:
            return Change(REGISTER, _instance(service, 0, release=2 * cycle + 1))
        case 3:
            return Change(f"/v1/agent/check/fail/{check}")
        case 4:
            return Change(f"/v1/agent/check/pass/{check}")
        case _:
            return Change(f"/v1/agent/service/deregister/{_instance_id(service, 1)}")


def _instance(service: int, number: int, release: int) -> dict[str, Any]:
    return {
        "ID": _instance_id(service, number),
        "Name": f"changing-{service}",
        "Tags": ["http"],
        "Address": f"10.9.{service // 250}.{1 + service % 250}",
        "Port": 8080 + number,
        "Meta": {"release": str(release), "lb_max_fails": str(1 + release % 5)},
        "Check": {"TTL": "24h", "Status": "passing"},
    }


def _instance_id(service: int, number: int) -> str:
    return f"changing-{service}-{number}"


class Changer:
    """Makes changes at the agent on HTTP port `agent`, one after the other."""

    def __init__(self, agent: int, changes: Iterator[Change]) -> None:
        self.made = 0
        self._changes = changes
        self._connection = http.client.HTTPConnection("127.0.0.1", agent, timeout=TIMEOUT)

    def advance(self, target: int) -> None:
        """Make changes until there were `target` of them; raise `BenchmarkError` when one is refused or lost."""
        while self.made < target:
            self._make(next(self._changes))
            self.made += 1

    def close(self) -> None:
        """Close the connection to the agent."""
        self._connection.close()

    def _make(self, change: Change) -> None:
        body = None if change.body is None else json.dumps(change.body)
        try:
            self._connection.request("PUT", change.path, body)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"the agent did not take {change.path}: {error!r}") from error
        if answer.status != http.HTTPStatus.OK:
            raise BenchmarkError(f"the agent refused {change.path}: {answer.status} {text[:200]!r}")
