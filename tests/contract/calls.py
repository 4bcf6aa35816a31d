"""Calls that the contract tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.consul import ConsulApi
from tests.support.process import wait_until

NODE = "consul-1"
"""The node of the agent that is asked."""


@dataclass(frozen=True)
class Answer:
    """A decoded answer and the index that came with it."""

    index: int
    body: Any


def ask(api: ConsulApi, path: str, **params: Any) -> Answer:
    """Ask a question and return answer and index."""
    status, headers, body = api.request("GET", path, **params)
    assert status == 200, f"{path}: {status} {body!r}"
    return Answer(int(headers["X-Consul-Index"]), json.loads(body))


def index(api: ConsulApi, path: str) -> int:
    """Return the index of a question."""
    return ask(api, path).index


def refusal(api: ConsulApi, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, str]:
    """Return status and text of a call that is refused."""
    status, _, text = api.request(method, path, body, **params)
    assert status != 200, f"{method} {path} was accepted: {text!r}"
    return status, text.decode()


def health(api: ConsulApi, name: str, **params: Any) -> list[Any]:
    """Return the instances of a service with their checks."""
    found: list[Any] = ask(api, f"/v1/health/service/{name}", **params).body
    return found


def statuses(api: ConsulApi, name: str) -> dict[str, str]:
    """Return the statuses of the checks of a service's instances, without those of the node."""
    return {check["CheckID"]: check["Status"] for check in ask(api, f"/v1/health/checks/{name}").body}


def settled(probe: Callable[[], Any], what: str) -> Any:
    """Wait for what a call to the agent leads to: a real agent writes to the catalog a little later."""
    return wait_until(probe, timeout=10, what=what)


@contextmanager
def asking(api: ConsulApi, path: str, **params: Any) -> Iterator[Future[Answer]]:
    """Ask a blocking question in the background."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask, api, path, **params)
