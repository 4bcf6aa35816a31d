"""Who keeps the listening sockets open."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lb.errors import ListenError
from lb.keeper import SocketKeeper
from lb.observe.stats import Stats
from lb.settings import Address, AdminSettings, DnsSettings, HttpSettings, Settings, TcpSettings, TlsSettings
from lb.sockets import Inherited, Place, SharedSockets, address_of, listen
from tests.support.process import free_port, port_open

ANYWHERE = (Address("127.0.0.1", 0),)
SETTINGS = Settings(
    http=HttpSettings(listen=ANYWHERE),
    tls=TlsSettings(listen=ANYWHERE),
    tcp=TcpSettings(host="127.0.0.1"),
    dns=DnsSettings(listen=ANYWHERE),
    admin=AdminSettings(ANYWHERE[0]),
)


class Kept:
    """A keeper, and what it told."""

    def __init__(self, settings: Settings = SETTINGS, workers: int = 2, inherited: Inherited | None = None) -> None:
        self.opened: list[SharedSockets] = []
        self.closed: list[Place] = []
        self.stats = Stats()
        self.keeper = SocketKeeper(
            settings, workers, inherited or Inherited(), self.stats, self.opened.append, self.closed.append
        )


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(limited())


def test_every_place_has_a_socket_for_each_worker_and_the_admin_server_one() -> None:
    async def test() -> None:
        kept = Kept(workers=3)
        kept.keeper.open_fixed()
        counts = {place.kind: len(shared.socks) for place, shared in kept.keeper.places.items()}
        assert counts == {"http": 3, "tls": 3, "dns-udp": 3, "dns-tcp": 3, "admin": 1}
        assert kept.keeper.addresses("dns-udp") == kept.keeper.addresses("dns-tcp")
        kept.keeper.close()

    run(test)


@pytest.mark.parametrize(
    ("section", "name"),
    [("http", "HTTP listener"), ("tls", "TLS listener"), ("dns", "DNS listener"), ("admin", "admin")],
)
def test_an_address_that_is_taken_is_named_and_nothing_stays_open(section: str, name: str) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = address_of(taken)
            place = address if section == "admin" else (address,)
            settings = replace(SETTINGS, **{section: replace(getattr(SETTINGS, section), listen=place)})
            free = Address("127.0.0.1", free_port())
            if section != "http":
                settings = replace(settings, http=HttpSettings(listen=(free,)))
            kept = Kept(settings)
            with pytest.raises(ListenError) as caught:
                kept.keeper.open_fixed()
            assert str(caught.value) == f"{name} {address}: Address already in use"
            assert not port_open(free.port)
            assert not kept.keeper.places

    run(test)


def test_tcp_ports_come_and_go() -> None:
    async def test() -> None:
        kept, (one, two) = Kept(), (free_port(), free_port())
        kept.keeper.want({one: "a"})
        assert [shared.place for shared in kept.opened] == [Place("tcp", Address("127.0.0.1", one))]
        kept.keeper.want({one: "b", two: "c"})
        assert len(kept.opened) == 2, "a port that stays is not opened again"
        kept.keeper.want({two: "c"})
        assert kept.closed == [Place("tcp", Address("127.0.0.1", one))]
        assert not port_open(one)
        assert port_open(two)
        kept.keeper.withdraw()
        assert not port_open(two)
        kept.keeper.want({two: "c"})
        assert not port_open(two), "a node that drains opens nothing again"

    run(test)


def test_a_port_that_is_taken_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb.keeper.RETRY_FIRST", 0.01)

    async def test() -> None:
        kept, free = Kept(), free_port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = address_of(taken).port
            kept.keeper.want({port: "taken", free: "free"})
            assert port_open(free)
            (problem,) = kept.keeper.problems
            assert (problem.kind, problem.subject) == ("listener", f"taken port {port}")
            assert problem.reason == f"127.0.0.1:{port}: Address already in use"
            assert not kept.stats.listener(f"tcp 127.0.0.1:{port}").up
        while not kept.opened[1:]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert kept.keeper.problems == ()
        assert port_open(port)
        kept.keeper.close()

    run(test)


def test_of_what_was_inherited_the_wanted_is_taken_and_the_rest_closed() -> None:
    async def test() -> None:
        http, tls, tcp, old = (listen(Place(kind, ANYWHERE[0]))[0] for kind in ("http", "tls", "tcp", "tcp"))
        inherited = Inherited([("http", http), ("tls", tls), ("tcp", tcp), ("tcp", old)])
        ports = {sock: address_of(sock).port for sock in (http, tls, tcp, old)}
        kept = Kept(replace(SETTINGS, tls=None), workers=1, inherited=inherited)
        kept.keeper.open_fixed()
        assert kept.keeper.addresses("http") == (Address("127.0.0.1", ports[http]),)
        assert not port_open(ports[tls])
        assert port_open(ports[old]), "what the catalog wants is not known yet"
        kept.keeper.want({ports[tcp]: "echo"})
        assert kept.opened[0].socks == (tcp,)
        assert not port_open(ports[old])
        kept.keeper.close()

    run(test)


def test_a_socket_is_not_closed_on_the_word_of_an_old_catalog(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        ours, strange = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))  # as systemd opens them
        kept = Kept(inherited=Inherited([("", ours), ("", strange)]))
        kept.keeper.want({}, certain=False)
        with caplog.at_level(logging.INFO):
            kept.keeper.want({address_of(ours).port: "echo"})
        assert kept.opened[0].socks == (ours,)
        assert strange.fileno() == -1
        assert [record.getMessage() for record in caplog.records][-1].startswith("inherited socket closed")
        kept.keeper.close()

    run(test)


def test_a_node_without_tcp_opens_no_port() -> None:
    async def test() -> None:
        kept, port = Kept(replace(SETTINGS, tcp=None)), free_port()
        kept.keeper.want({port: "echo"})
        assert kept.opened == []
        assert not port_open(port)

    run(test)
