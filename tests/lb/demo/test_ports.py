"""Which ports are free, and how addresses are written."""

from __future__ import annotations

import argparse
import socket

import pytest

from lb.demo.ports import TCP, UDP, choose_port, is_free, parse_address, parse_target
from lb.settings import Address

HOST = "127.0.0.1"


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_port_that_is_taken_is_replaced_by_a_free_one(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((HOST, 0))
        if kind == TCP:
            taken.listen()
        port = taken.getsockname()[1]
        chosen = choose_port([HOST], port, [TCP, UDP])
        assert chosen != port
        assert is_free(Address(HOST, chosen), [TCP, UDP])
    assert choose_port([HOST], port, [kind]) == port


def test_port_must_be_free_on_every_host() -> None:
    with socket.create_server(("127.0.0.12", 0)) as taken:
        port = taken.getsockname()[1]
        assert is_free(Address("127.0.0.11", port))
        assert choose_port(["127.0.0.11", "127.0.0.12"], port) != port


def test_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        choose_port(["192.0.2.1"], 80)


def test_target_is_a_name_and_a_port() -> None:
    assert parse_target("a.service.consul:80") == Address("a.service.consul", 80)


@pytest.mark.parametrize("text", ["a", "a:", ":80", "a:b", "a:0", "a:65536", "a:-1"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not NAME:PORT"):
        parse_target(text)


def test_what_is_no_address_is_an_error_of_argparse() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="name"):
        parse_address("name:80")
