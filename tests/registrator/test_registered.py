"""What the agent shows, as its API does, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest

from lb.errors import BadAnswer
from registrator.model import Registered
from registrator.registered import registered

SERVICES: dict[str, Any] = {
    "h:web:80": {
        "ID": "h:web:80",
        "Service": "web",
        "Tags": ["http"],
        "Meta": {"registrator": "node-1"},
        "Port": 32768,
        "Address": "",
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
    },
    "bare": {"ID": "bare", "Service": "db", "Tags": None, "Meta": None},
}
CHECKS: dict[str, Any] = {
    "service:h:web:80": {"CheckID": "service:h:web:80", "Status": "passing", "ServiceID": "h:web:80", "Definition": {}},
    "_service_maintenance:h:web:80": {"Status": "critical", "ServiceID": "h:web:80"},
    "disk": {"Status": "passing", "ServiceID": ""},
    "late": {"Status": "passing", "ServiceID": "came-later"},
}


def test_services_and_their_checks() -> None:
    assert registered(SERVICES, CHECKS) == [
        Registered("bare", "db", "", 0),
        Registered(
            "h:web:80",
            "web",
            "",
            32768,
            ("http",),
            {"registrator": "node-1"},
            {"service:h:web:80": "passing", "_service_maintenance:h:web:80": "critical"},
        ),
    ]
    assert registered({}, CHECKS) == []


@pytest.mark.parametrize(
    ("services", "checks", "reason"),
    [
        ({"a": None}, {}, "/v1/agent/services: a is no object"),
        ({"a": {}}, {}, "/v1/agent/services: a has no name, address or port"),
        ({"a": {"Service": "a", "Port": "80"}}, {}, "/v1/agent/services: a has no name, address or port"),
        ({"a": {"Service": "a", "Tags": "x"}}, {}, "/v1/agent/services: a has no tags or no meta"),
        ({"a": {"Service": "a", "Meta": ["x"]}}, {}, "/v1/agent/services: a has no tags or no meta"),
        ({}, {"c": []}, "/v1/agent/checks: c is no object"),
        ({"a": {"Service": "a"}}, {"c": {"ServiceID": "a"}}, "/v1/agent/checks: c has no status"),
    ],
)
def test_what_is_not_consuls_word_is_refused_with_its_name(
    services: dict[str, Any], checks: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadAnswer) as refused:
        registered(services, checks)
    assert str(refused.value) == reason
