"""When the agent is told of TTL checks."""

from __future__ import annotations

from registrator.heartbeat import Told, due, next_due
from registrator.model import Check, Registration, Word

GOOD, BAD = Word("passing", "healthy", 10), Word("critical", "unhealthy", 10)


def service(service_id: str, word: Word | None) -> Registration:
    check = None if word is None else Check({"TTL": "30s"}, word)
    return Registration("c1", service_id, "web", "", 80, check=check)


WEB = service("web", GOOD)


def test_what_was_never_told_is_due_at_once() -> None:
    services = [WEB, service("a", BAD)]
    assert due(services, {}, 0) == services
    assert next_due(services, {}) == float("-inf")


def test_a_word_is_told_again_when_its_time_comes_and_not_before() -> None:
    told = {"service:web": Told(GOOD, 100)}
    assert next_due([WEB], told) == 110
    assert due([WEB], told, 109.9) == []
    assert due([WEB], told, 110) == [WEB]


def test_a_new_word_is_told_at_once() -> None:
    sick = service("web", BAD)
    assert due([sick], {"service:web": Told(GOOD, 100)}, 100) == [sick]
    still = service("web", Word("critical", "paused", 10))
    assert due([still], {"service:web": Told(BAD, 100)}, 100) == [still]


def test_only_checks_that_we_feed_are_told_of() -> None:
    services = [service("a", None), Registration("c1", "b", "web", "", 80, check=Check({"TTL": "30s"}))]
    services.append(Registration("c1", "c", "web", "", 80))
    assert due(services, {}, 0) == []
    assert next_due(services, {}) is None


def test_the_earliest_is_next() -> None:
    told = {"service:web": Told(GOOD, 100), "service:a": Told(BAD, 95)}
    assert next_due([WEB, service("a", BAD)], told) == 105


def test_what_the_agent_shows_otherwise_is_told_again() -> None:
    told = {"service:web": Told(GOOD, 100)}
    assert due([WEB], told, 101, {"service:web": "critical"}) == [WEB]
    assert due([WEB], told, 101, {"service:web": "passing", "service:other": "critical"}) == []
