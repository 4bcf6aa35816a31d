"""What DNS peers know and what they are asked: records of services, and of foreign names behind a recursor. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from benchmarks.macro.site import DNS_NAMES, dns_address, dns_addresses, dns_name

SERVICE_PORT = 8080

FOREIGN_DOMAIN = "bench.example"
FOREIGN_TTL = 86_400
"""Seconds: no foreign record runs out while a benchmark runs."""


class Question(NamedTuple):
    """A name and a type, as text."""

    name: str
    kind: str


class Record(NamedTuple):
    """A record of class IN: owner without the dot at its end, type and data as in a zone file."""

    owner: str
    kind: str
    data: str


def service_records() -> Iterator[Record]:
    """Yield A and SRV of all services, as Consul answers them, and A of the SRV targets."""
    for index in range(DNS_NAMES):
        for address in dns_addresses(index):
            yield Record(dns_name(index), "A", address)
            yield Record(dns_name(index), "SRV", f"1 1 {SERVICE_PORT} {target_name(address)}.")
            yield Record(target_name(address), "A", address)


def foreign_records() -> Iterator[Record]:
    """Yield what the recursor alone knows: one address for each of as many names."""
    for index in range(DNS_NAMES):
        yield Record(f"host{index}.{FOREIGN_DOMAIN}", "A", dns_address(index, 9))


def target_name(address: str) -> str:
    """Return the name that Consul gives to an instance with an address (IPv4) of its own."""
    digits = "".join(f"{int(octet):02x}" for octet in address.split("."))
    return f"{digits}.addr.dc1.consul"


def answer_to(question: Question) -> frozenset[Record]:
    """Return the records that answer a question, whatever its case; the owner is in lower case."""
    return _answers()[question.name.lower(), question.kind]


def answers_to(questions: Iterable[Question]) -> dict[Question, frozenset[Record]]:
    """Return the records that answer each of the questions."""
    return {question: answer_to(question) for question in questions}


def address_questions(names: int) -> list[Question]:
    """Return questions for the addresses of the first services."""
    return [Question(dns_name(index), "A") for index in range(names)]


def mixed_questions() -> list[Question]:
    """Return questions for A and SRV of every service, in turn."""
    return [Question(dns_name(index), kind) for index in range(DNS_NAMES) for kind in ("A", "SRV")]


def foreign_questions() -> list[Question]:
    """Return a question for each foreign name."""
    return [Question(record.owner, record.kind) for record in foreign_records()]


def unseen(questions: Sequence[Question], number: int) -> Question:
    """Return the `number`-th of the questions that have never been asked, which all have a letter in upper case.

    The questions are gone through again and again, each time in another pattern of upper and lower case.
    """
    again, place = divmod(number, len(questions))
    name, kind = questions[place]
    return Question(_in_pattern(name, again + 1), kind)


def _in_pattern(name: str, pattern: int) -> str:
    """Return a name in lower case but for its n-th letters where the n-th bit of `pattern` is set."""
    characters = []
    for character in name:
        if character.isalpha():
            characters.append(character.upper() if pattern & 1 else character)
            pattern >>= 1
        else:
            characters.append(character)
    return "".join(characters)


def dnsperf_input(questions: Iterable[Question]) -> str:
    """Return dnsperf's input: one question a line."""
    return "".join(f"{name} {kind}\n" for name, kind in questions)


@cache
def _answers() -> Mapping[tuple[str, str], frozenset[Record]]:
    grouped: dict[tuple[str, str], set[Record]] = {}
    for record in (*service_records(), *foreign_records()):
        grouped.setdefault((record.owner, record.kind), set()).add(record)
    return {key: frozenset(records) for key, records in grouped.items()}
