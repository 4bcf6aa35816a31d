"""Listening sockets: shared by workers, inherited from another program."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator

import pytest

from lb.errors import ListenError
from lb.settings import Address
from lb.sockets import Inherited, Place, SharedSockets, address_of, adopt, join, listen, open_pair, open_place

LOCAL = Address("127.0.0.1", 0)


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def accepted(socks: list[socket.socket]) -> int:
    """How many connections wait on these sockets."""
    count = 0
    for sock in socks:
        while select.select([sock], [], [], 0)[0]:
            sock.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("kind", ["http", "dns-udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_worker_has_a_socket_of_the_same_address(kind: str, host: str, closing: contextlib.ExitStack) -> None:
    socks = [closing.enter_context(sock) for sock in listen(Place(kind, Address(host, 0)), 4)]
    assert len(socks) == 4
    (address,) = {address_of(sock) for sock in socks}
    assert address.port
    assert not any(sock.getblocking() for sock in socks)


@pytest.mark.parametrize("kind", ["http", "dns-udp"])
def test_an_address_that_another_program_shares_is_taken(kind: str, closing: contextlib.ExitStack) -> None:
    """SO_REUSEPORT alone would let a second program of the same user in, unnoticed."""
    first = [closing.enter_context(sock) for sock in listen(Place(kind, LOCAL), 2)]
    with pytest.raises(ListenError, match=rf"{address_of(first[0])}: Address already in use"):
        listen(Place(kind, address_of(first[0])), 2)


def test_all_connections_reach_one_of_the_workers(closing: contextlib.ExitStack) -> None:
    place = Place("http", LOCAL)
    socks = [closing.enter_context(sock) for sock in listen(place, 3)]
    for _ in range(60):
        closing.enter_context(socket.create_connection(address_of(socks[0])))
    shares = [accepted([sock]) for sock in socks]
    assert sum(shares) == 60
    assert all(shares)


def test_dns_has_both_transports_on_one_port(closing: contextlib.ExitStack) -> None:
    udp, tcp = open_pair(LOCAL, 2, Inherited())
    closing.callback(udp.close)
    closing.callback(tcp.close)
    assert udp.place.address == tcp.place.address
    assert [sock.type for sock in udp.socks] == [socket.SOCK_DGRAM] * 2
    assert [sock.type for sock in tcp.socks] == [socket.SOCK_STREAM] * 2


@pytest.mark.parametrize(("sockets", "workers"), [(1, 1), (4, 4), (4, 2), (5, 2), (3, 1)])
def test_workers_leave_no_socket_out(sockets: int, workers: int, closing: contextlib.ExitStack) -> None:
    """Of more sockets than workers, as after an upgrade to fewer, each still has somebody who accepts."""
    socks = [closing.enter_context(sock) for sock in listen(Place("http", LOCAL), sockets)]
    shared = SharedSockets(Place("http", address_of(socks[0])), socks)
    shares = [shared.share(number, workers) for number in range(workers)]
    assert sorted(sock.fileno() for share in shares for sock in share) == sorted(sock.fileno() for sock in socks)


class TestInherited:
    def test_sockets_of_an_upgrade_are_taken_by_kind_and_address(self, closing: contextlib.ExitStack) -> None:
        place = Place("http", LOCAL)
        mine = [closing.enter_context(sock) for sock in listen(place, 2)]
        others = [closing.enter_context(sock) for sock in listen(place, 2)]
        unwanted = address_of(others[0])
        inherited = Inherited([("http", mine[0]), ("http", others[0]), ("http", mine[1]), ("tls", others[1])])
        assert list(open_place(Place("http", address_of(mine[0])), 2, inherited).socks) == mine
        assert inherited.close(["http"]) == [unwanted]
        assert others[0].fileno() == -1
        assert others[1].fileno() != -1, "it is of another kind"

    def test_port_0_is_the_port_of_before(self, closing: contextlib.ExitStack) -> None:
        socks = [closing.enter_context(sock) for sock in listen(Place("http", LOCAL), 2)]
        shared = open_place(Place("http", LOCAL), 2, Inherited(("http", sock) for sock in socks))
        assert shared.place.address == address_of(socks[0])
        assert list(shared.socks) == socks

    def test_more_workers_than_before_join_those_that_are_there(self, closing: contextlib.ExitStack) -> None:
        socks = [closing.enter_context(sock) for sock in listen(Place("http", LOCAL), 1)]
        shared = open_place(Place("http", address_of(socks[0])), 3, Inherited([("http", socks[0])]))
        closing.callback(shared.close)
        assert {address_of(sock) for sock in shared.socks} == {address_of(socks[0])}
        assert [len(shared.share(number, 3)) for number in range(3)] == [1, 1, 1]

    def test_a_socket_of_systemd_is_for_all_workers(self, closing: contextlib.ExitStack) -> None:
        sock = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = address_of(sock)
        assert Inherited([("", sock)]).take(Place("http", LOCAL)) == [], "port 0 means a port of one's own"
        shared = open_place(Place("http", address), 2, Inherited([("", sock)]))
        assert [shared.share(number, 2) for number in range(2)] == [(sock,), (sock,)]

    def test_a_socket_of_another_protocol_is_left_alone(self, closing: contextlib.ExitStack) -> None:
        udp = closing.enter_context(listen(Place("dns-udp", LOCAL))[0])
        inherited = Inherited([("", udp)])
        assert inherited.take(Place("http", address_of(udp))) == []
        assert inherited.take(Place("dns-udp", address_of(udp))) == [udp]


def test_who_adopts_a_socket_and_duplicates_it_makes_it_block_for_nobody(closing: contextlib.ExitStack) -> None:
    """Processes share the mode: a worker that found nothing to accept would hang, as another has just started."""
    (mine,) = listen(Place("http", LOCAL))
    closing.enter_context(mine)
    theirs = closing.enter_context(adopt(os.dup(mine.fileno())))
    assert not os.get_blocking(mine.fileno())
    modes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "settimeout", lambda _, seconds: modes.append(seconds))
        closing.enter_context(theirs.dup())
    assert modes == [0.0], "it never blocks, not even for a moment"


def test_joining_an_address_that_is_not_shared_is_refused(closing: contextlib.ExitStack) -> None:
    alone = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
    with pytest.raises(ListenError, match="Address already in use"):
        join(Place("http", address_of(alone)), 1)
