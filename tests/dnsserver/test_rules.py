"""Which recursors a name is asked of, by its suffix."""

from __future__ import annotations

import pytest

from dnsserver.rules import ForwardRules
from lb.settings import Address, ForwardRule

DEFAULT, CORP, CORP2, LAB, TEN = (Address(f"10.0.0.{number}", 53) for number in range(1, 6))
RULES = [
    ForwardRule("corp.example", CORP),
    ForwardRule("lab.corp.example", LAB),
    ForwardRule("10.in-addr.arpa", TEN),
    ForwardRule("corp.example", CORP2),
    ForwardRule("corp.example", CORP),
]


def choose(rules: ForwardRules, name: str) -> list[Address]:
    return list(rules.choose(tuple(name.encode().split(b".")) if name else ()))


@pytest.mark.parametrize(
    ("name", "recursors"),
    [
        ("corp.example", [CORP, CORP2]),
        ("www.corp.example", [CORP, CORP2]),
        ("a.b.c.d.e.corp.example", [CORP, CORP2]),
        ("lab.corp.example", [LAB]),
        ("x.lab.corp.example", [LAB]),
        ("xlab.corp.example", [CORP, CORP2]),
        ("xcorp.example", [DEFAULT]),
        ("example", [DEFAULT]),
        ("corp.example.org", [DEFAULT]),
        ("", [DEFAULT]),
        ("4.3.2.10.in-addr.arpa", [TEN]),
        ("4.3.2.110.in-addr.arpa", [DEFAULT]),
    ],
)
def test_the_longest_suffix_of_whole_labels_wins(name: str, recursors: list[Address]) -> None:
    assert choose(ForwardRules(RULES, [DEFAULT]), name) == recursors


def test_without_recursors_only_names_of_rules_are_asked() -> None:
    rules = ForwardRules(RULES, [])
    assert choose(rules, "www.example.org") == []
    assert choose(rules, "www.corp.example") == [CORP, CORP2]
    assert rules.recursors == (CORP, CORP2, LAB, TEN)


def test_rules_as_the_log_tells_them() -> None:
    assert str(ForwardRules(RULES[:2], [DEFAULT])) == (
        "10.0.0.1:53, corp.example=10.0.0.2:53, lab.corp.example=10.0.0.4:53"
    )


def test_names_of_a_suffix_without_recursors_go_to_nobody_else() -> None:
    rules = ForwardRules(RULES, [DEFAULT, LAB], never=[LAB])
    assert choose(rules, "x.lab.corp.example") == []
    assert choose(rules, "www.example.org") == [DEFAULT]
    assert LAB not in rules.recursors


def test_what_a_recursor_is_there_for() -> None:
    rules = ForwardRules([*RULES, ForwardRule("other.example", DEFAULT)], [DEFAULT])
    assert rules.zone_of(DEFAULT) == b"\0"
    assert rules.zone_of(LAB) == b"\3lab\4corp\7example\0"
