"""Who keeps the listening sockets open: those that the settings name, and those that the catalog asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping

from lb.catalog.model import Problem
from lb.errors import ListenError
from lb.observe.log import fields
from lb.observe.stats import Stats
from lb.settings import Address, Settings
from lb.sockets import Inherited, Place, SharedSockets, open_pair, open_place

RETRY_FIRST = 1.0
RETRY_LONGEST = 30.0

_FIXED = ("http", "tls", "admin", "dns-udp", "dns-tcp")

log = logging.getLogger(__name__)


class _Refused:
    """A TCP port that a service asks for and that cannot be opened; it is tried again."""

    __slots__ = ("delay", "reason", "retry", "service")

    def __init__(self, service: str) -> None:
        self.service = service
        self.reason = ""
        self.delay = RETRY_FIRST
        self.retry: asyncio.TimerHandle | None = None


class SocketKeeper:
    """Opens sockets for so many workers and keeps them until they are not wanted any more.

    `opened` and `closed` are called as TCP ports come and go with the catalog. A port that cannot be opened is a
    problem with a name and a reason; it is tried again, and hurts no other. To be used in a running loop.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        inherited: Inherited,
        stats: Stats,
        opened: Callable[[SharedSockets], None],
        closed: Callable[[Place], None],
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._inherited = inherited
        self._stats = stats
        self._opened = opened
        self._closed = closed
        self._tcp: dict[Place, str] = {}  # to the service that asked for it
        self._refused: dict[Place, _Refused] = {}
        self._withdrawn = False
        self.places: dict[Place, SharedSockets] = {}

    def addresses(self, kind: str) -> tuple[Address, ...]:
        """Where sockets of one kind are open."""
        return tuple(place.address for place in self.places if place.kind == kind)

    @property
    def names(self) -> list[str]:
        """What is open or asked for, as metrics and status call it."""
        return [str(place) for place in (*self.places, *self._refused)]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The ports that are asked for and not open."""
        return tuple(
            Problem("listener", f"{refused.service} port {place.address.port}", refused.reason)
            for place, refused in sorted(self._refused.items())
        )

    def open_fixed(self) -> None:
        """Open all that the settings name, or nothing. Raises ListenError naming the listener and the reason."""
        settings = self._settings
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for address in settings.http.listen if settings.http is not None else ():
                self._open("HTTP listener", Place("http", address))
            for address in settings.tls.listen if settings.tls is not None else ():
                self._open("TLS listener", Place("tls", address))
            if settings.admin.listen is not None:
                self._open("admin", Place("admin", settings.admin.listen), workers=1)
            for address in settings.dns.listen if settings.dns is not None else ():
                try:
                    pair = open_pair(address, self._workers, self._inherited)
                except ListenError as error:
                    raise ListenError(f"DNS listener {error}") from error
                for shared in pair:
                    self.places[shared.place] = shared
            undo.pop_all()
        self._close_unwanted(_FIXED)

    def _close_unwanted(self, kinds: Collection[str]) -> None:
        for address in self._inherited.close(kinds):
            log.info("inherited socket closed: nobody wants its address", extra=fields(address=str(address)))

    def _open(self, what: str, place: Place, workers: int | None = None) -> None:
        try:
            shared = open_place(place, workers or self._workers, self._inherited)
        except ListenError as error:
            raise ListenError(f"{what} {error}") from error
        self.places[shared.place] = shared

    def want(self, services: Mapping[int, str], *, certain: bool = True) -> None:
        """Open the TCP ports that services ask for, by port, and close those that none does any more.

        Inherited sockets that no service asks for are closed once it is `certain` that none does: a catalog that was
        read from disk may be old, and a socket of systemd cannot be opened again.
        """
        if self._withdrawn:
            return
        host = self._settings.tcp.host if self._settings.tcp is not None else None
        wanted = {} if host is None else {Place("tcp", Address(host, port)): name for port, name in services.items()}
        for place in [place for place in self._refused if place not in wanted]:
            self._give_up(place)
            self._stats.listener(str(place)).closed()
        for place in [place for place in self._tcp if place not in wanted]:
            service = self._tcp.pop(place)
            self._closed(place)
            self.places.pop(place).close()
            log.info("TCP port closed", extra=fields(port=place.address.port, service=service))
        for place, service in sorted(wanted.items()):
            if place in self._tcp:
                self._tcp[place] = service
            elif place in self._refused:
                self._refused[place].service = service
            else:
                self._try(place, _Refused(service))
        if certain:
            self._close_unwanted(("", "tcp"))

    def _try(self, place: Place, refused: _Refused) -> None:
        """Open a TCP port, and if that fails again later."""
        try:
            shared = open_place(place, self._workers, self._inherited)
        except ListenError as error:
            reason = str(error)
            if refused.reason != reason:
                log.error("TCP port cannot be opened", extra=fields(service=refused.service, reason=reason))
            refused.reason = reason
            self._stats.listener(str(place)).failed(reason)
            refused.retry = asyncio.get_running_loop().call_later(refused.delay, self._try, place, refused)
            refused.delay = min(refused.delay * 2, RETRY_LONGEST)
            self._refused[place] = refused
            return
        self._refused.pop(place, None)
        self._stats.listener(str(place)).opened()
        self._tcp[place] = refused.service
        self.places[place] = shared
        log.info("TCP port open", extra=fields(port=place.address.port, service=refused.service))
        self._opened(shared)

    def _give_up(self, place: Place) -> None:
        refused = self._refused.pop(place)
        if refused.retry is not None:
            refused.retry.cancel()

    def withdraw(self) -> None:
        """Close all listeners but the admin server's, and open none again: this node drains."""
        self._withdrawn = True
        for place in list(self._refused):
            self._give_up(place)
        for place in [place for place in self.places if place.kind != "admin"]:
            self.places.pop(place).close()
        self._tcp.clear()

    def close(self) -> None:
        """Close everything and try nothing again."""
        self.withdraw()
        for shared in self.places.values():
            shared.close()
        self.places.clear()
        self._inherited.close(("", "tcp", *_FIXED))
