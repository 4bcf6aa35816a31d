from __future__ import annotations

from lb.catalog import changes
from lb.catalog.decode import FailingCheck
from lb.catalog.model import Health, Instance, Service


def failing(service: str, status: str) -> FailingCheck:
    return FailingCheck(service, f"{service}-1" if service else "", status)


def test_what_came_went_or_differs() -> None:
    assert changes.differing({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5}) == {"a", "c", "d"}
    assert changes.differing({"a": 1}, {"a": 1}) == set()


def test_checks_point_to_their_service_or_to_their_node() -> None:
    old = {
        ("n1", "serfHealth"): failing("", "critical"),
        ("n1", "same"): failing("same", "critical"),
        ("n1", "worse"): failing("worse", "warning"),
        ("n1", "healed"): failing("healed", "critical"),
    }
    new = {
        ("n1", "same"): failing("same", "critical"),
        ("n1", "worse"): failing("worse", "critical"),
        ("n2", "failed"): failing("failed", "critical"),
        ("n3", "_node_maintenance"): failing("", "critical"),
    }
    services, nodes = changes.services_by_checks(old, new)
    assert services == {"worse", "healed", "failed"}
    assert nodes == {"n1", "n3"}


def test_a_check_that_moved_concerns_both_services() -> None:
    old = {("n1", "c"): failing("old", "critical")}
    new = {("n1", "c"): failing("new", "critical")}
    assert changes.services_by_checks(old, new) == ({"old", "new"}, set())


def test_the_services_with_an_instance_on_a_node() -> None:
    def on(name: str, *nodes: str) -> Service:
        return Service(name, tuple(Instance(name, name, node, "10.0.0.1", 80) for node in nodes))

    services = {s.name: s for s in (on("a", "n1", "n2"), on("b", "n2"), on("c"))}
    assert changes.services_on({"n1"}, services) == {"a"}
    assert changes.services_on({"n1", "n2"}, services) == {"a", "b"}
    assert changes.services_on((), services) == set()


def test_health_that_contradicts_the_checks_is_seen() -> None:
    def service(name: str, health: Health) -> Service:
        return Service(name, (Instance(name, f"{name}-1", "n1", "10.0.0.1", 80, health),))

    checks = {("n1", "c"): failing("sick", "critical"), ("n2", "c"): failing("well", "critical")}
    keys = changes.failing_keys(checks)
    assert changes.disagreeing([service("sick", "critical"), service("well", "passing")], keys) == set()
    assert changes.disagreeing([service("sick", "passing"), service("well", "warning")], keys) == {"sick", "well"}
    whole_node = changes.failing_keys({("n1", "serfHealth"): failing("", "critical")})
    assert changes.disagreeing([service("sick", "critical"), service("well", "passing")], whole_node) == {"well"}
