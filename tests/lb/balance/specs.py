"""Short ways to write endpoints."""

from __future__ import annotations

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group
from lb.routing.options import EndpointOptions


def spec(
    name: str,
    weight: int = 1,
    *,
    max_fails: int = 3,
    fail_timeout: int = 10,
    max_conns: int = 0,
) -> EndpointOptions:
    """Return the spec of an endpoint that is told from others by its name."""
    return EndpointOptions(("node", name, name, 80), name, 80, weight, max_fails, fail_timeout, max_conns)


def group_of(*specs: EndpointOptions, policy: str = "round_robin") -> Group:
    """Return a group of these endpoints."""
    group = Group("web")
    group.reconcile(specs, policy)
    return group


def by_name(group: Group, name: str) -> Endpoint:
    """Return the endpoint of that name."""
    (endpoint,) = (e for e in group.endpoints if e.host == name)
    return endpoint
