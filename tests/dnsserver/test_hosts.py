"""A hosts file: what of its text is taken, what is answered from it, and when it is read again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from random import Random

import pytest

from dnsserver.answers import Asked
from dnsserver.hosts import Hosts, parse_hosts
from dnsserver.hostsfile import HostsFile
from dnsserver.message import parse_query
from dnsserver.replies import Encoder, Room
from dnsserver.wire import MAX_MESSAGE
from lb.settings import DnsSettings
from tests.support.dns import make_query, read_reply

TEXT = """\
# a comment
127.0.0.1\tlocalhost  # and another

10.1.0.1   db.corp.example db  Db2.
10.1.0.2   db
2001:db8::1 db
10.1.0.1   again
::ffff:10.1.0.9 mapped
"""


def ask(hosts: Hosts, name: str, qtype: str = "A") -> list[tuple[str, str]] | None:
    """Type and data of the answers, sorted; None where the file does not hold the name."""
    query = parse_query(make_query(name, qtype))
    assert query is not None
    answer = hosts.answer(Asked(query.qname, query.labels, query.qtype))
    if answer is None:
        return None
    encoder = Encoder(query, answer, Room(MAX_MESSAGE), DnsSettings(), recursive=False)
    seen = read_reply(b"\0\7" + encoder.rotation(Random(1)).first)
    assert seen.rcode == "NOERROR"
    assert all(row[0] == name + "." for row in seen.answer)
    return sorted((row[1], row[3]) for row in seen.answer)


@pytest.mark.parametrize(
    ("name", "qtype", "answers"),
    [
        ("localhost", "A", [("A", "127.0.0.1")]),
        ("LocalHost", "A", [("A", "127.0.0.1")]),
        ("db", "A", [("A", "10.1.0.1"), ("A", "10.1.0.2")]),
        ("db", "AAAA", [("AAAA", "2001:db8::1")]),
        ("db", "ANY", [("A", "10.1.0.1"), ("A", "10.1.0.2"), ("AAAA", "2001:db8::1")]),
        ("db2", "A", [("A", "10.1.0.1")]),
        ("localhost", "AAAA", []),
        ("db", "MX", []),
        ("mapped", "A", [("A", "10.1.0.9")]),
        ("mapped", "AAAA", []),
        ("1.0.1.10.in-addr.arpa", "PTR", [("PTR", "db.corp.example.")]),
        ("1.0.1.10.in-addr.arpa", "A", []),
        (f"1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa", "PTR", [("PTR", "db.")]),
        ("nosuch", "A", None),
        ("corp.example", "A", None),
        ("3.0.1.10.in-addr.arpa", "PTR", None),
    ],
)
def test_answers(name: str, qtype: str, answers: list[tuple[str, str]] | None) -> None:
    hosts, problems = parse_hosts(TEXT)
    assert problems == []
    assert ask(hosts, name, qtype) == answers


@pytest.mark.parametrize(
    ("line", "problem", "kept"),
    [
        ("10.0.0.256 bad", "'10.0.0.256' is not an IP address", None),
        ("name 10.0.0.1", "'name' is not an IP address", None),
        ("fe80::1%eth0 bad", "'fe80::1%eth0' is not an IP address", None),
        ("10.0.0.1", "10.0.0.1 has no name", None),
        ("10.0.0.1 # name", "10.0.0.1 has no name", None),
        ("10.0.0.1 bad..name good", "'bad..name' is not a host name", "good"),
        ("10.0.0.1 b\u00e4d good", "'b\u00e4d' is not a host name", "good"),
        (f"10.0.0.1 {'x' * 64} good", f"'{'x' * 64}': a label has 1 to 63 octets, not 64", "good"),
    ],
)
def test_faults_are_named_and_cost_no_other_line(line: str, problem: str, kept: str | None) -> None:
    hosts, problems = parse_hosts(f"10.9.9.1 before\n{line}\r\n10.9.9.2 after\n")
    assert problems == [f"2: {problem}"]
    assert ask(hosts, "before") == [("A", "10.9.9.1")]
    assert ask(hosts, "after") == [("A", "10.9.9.2")]
    assert ask(hosts, "bad") is None
    if kept:
        assert ask(hosts, kept) == [("A", "10.0.0.1")]


def test_a_file_is_read_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 web\n")
    file = HostsFile(path)
    assert file.read_if_changed() is not None
    assert file.read_if_changed() is None
    other = tmp_path / "other"
    other.write_text("10.0.0.2 web\n")
    other.replace(path)
    changed = file.read_if_changed()
    assert changed is not None
    assert ask(changed, "web") == [("A", "10.0.0.2")]
    os.utime(path, (1, 1))
    assert file.read_if_changed() is not None


def test_a_file_that_cannot_be_read_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hosts"
    file = HostsFile(path)
    assert (file.read_if_changed(), file.read_if_changed()) == (None, None)
    (told,) = caplog.messages
    assert told == f"DNS: {path} cannot be read: No such file or directory; what it said last is kept"
    path.write_text("10.0.0.1 web\n")
    assert file.read_if_changed() is not None
    monkeypatch.setattr("dnsserver.hostsfile.MAX_SIZE", 20)
    path.write_text("10.0.0.1 web web1 web2\n")
    assert (file.read_if_changed(), file.read_if_changed()) == (None, None)
    assert "more than 20 octets" in caplog.messages[-1]


def test_faults_are_logged_with_file_and_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 web\n" + "bad\n" * 30)
    caplog.set_level(logging.WARNING)
    assert HostsFile(path).read_if_changed() is not None
    assert caplog.messages[0] == f"DNS: {path}:2: 'bad' is not an IP address; skipped"
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == f"DNS: {path}: 20 more faults were skipped"
