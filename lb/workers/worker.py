"""One data-plane process: `python -m lb.workers.worker FD`, started by a supervisor at the other end of a channel.

It does what it is told: `start`, `update`, `confirm`, `report`, `reopen_log`, `drain`. When the supervisor is gone it
drains by itself, so that it never stays behind on ports that somebody else wants. Signals are the supervisor's
business: a terminal or systemd sends them to every process at once, and draining has an order.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import signal
import socket
import sys
from typing import Any

import uvloop

from dnsserver.stats import DnsStats
from lb.balance.places import BoardPlaces
from lb.board.area import Board, Column
from lb.catalog.delta import changed
from lb.catalog.model import Snapshot
from lb.dataplane import DataPlane
from lb.errors import EdgeError
from lb.observe import log as logs
from lb.observe.reports import LogReporter
from lb.observe.stats import Stats
from lb.pauses import ShortPauses
from lb.settings import Address, Settings
from lb.sockets import Place, adopt
from lb.workers.channel import Body, Channel, ChannelError

REPORT_INTERVAL = 0.05
"""Seconds between reports of what was counted. What a process that is killed had not reported is lost."""

_SUPERVISORS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Worker:
    """Hosts a data plane, and does what comes over the channel until it is told to drain, or the channel ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._messages: asyncio.Queue[tuple[str, Body, list[int]]] = asyncio.Queue()
        self._channel = Channel(sock, lambda *message: self._messages.put_nowait(message), self._orphaned)
        self._stats = Stats(reporting=True)
        self._dns_stats = DnsStats()
        self._log_reporter: LogReporter | None = None
        self._snapshot = Snapshot()
        self._rows: dict[str, int] = {}
        self._settings = Settings()
        self._places: BoardPlaces
        self._column: Column
        self._plane: DataPlane

    async def run(self) -> None:
        """Serve until there is nothing left to do."""
        self._start(*await self._messages.get())
        loop = asyncio.get_running_loop()
        reporting = loop.create_task(self._report_often(), name="reports")
        grace = await self._obey()
        draining = loop.create_task(self._plane.drain(grace), name="drain")
        obeying = loop.create_task(self._hurry(), name="obey while draining")
        await draining
        obeying.cancel()
        reporting.cancel()
        self._report(asked=True)
        await self._channel.flush()
        self._channel.close()

    def _start(self, kind: str, body: Body, descriptors: list[int]) -> None:
        if kind != "start":
            raise ChannelError(f"{kind!r} came before 'start'")
        self._settings = pickle.loads(base64.b64decode(body["settings"]))  # noqa: S301  from our own supervisor
        secrets = logs.setup(self._settings.log, [self._settings.consul.token])
        board = Board.open(descriptors[0])
        self._column = board.columns[body["column"]]
        self._places = BoardPlaces(board, body["column"], 0, self._rows)
        self._plane = DataPlane(self._settings, self._stats, self._dns_stats, self._places, secrets.add)
        if self._plane.access_log is not None:
            self._log_reporter = LogReporter(self._plane.access_log)

    async def _obey(self) -> float:
        """Do what the messages say until it is to drain; return how long that may take."""
        started = False
        while True:
            kind, body, descriptors = await self._messages.get()
            if kind == "drain":
                return float(body["grace"])
            if kind == "update":
                shares = _shares(body["open"], descriptors)
                self._take_over(body)
                if started:
                    for place, socks in shares.items():
                        self._plane.listen(place, socks)
                else:
                    await self._plane.start(shares)
                    started = True
                self._channel.send("applied", {"version": body["version"]})
            else:
                self._answer(kind, body)

    def _take_over(self, body: Body) -> None:
        """Apply what an update says of the catalog, of rows in shared memory, and of ports that are to be closed."""
        self._places.widen(body["columns"])
        gone = [name for name, row in body["rows"].items() if row is None]
        self._rows.update((name, row) for name, row in body["rows"].items() if row is not None)
        if body["catalog"] is not None:
            first = not self._snapshot.generation
            self._snapshot = changed(self._snapshot, body["catalog"])
            self._plane.apply(self._snapshot)
            if first:
                ShortPauses()
        for name in gone:
            self._rows.pop(name, None)
        for kind, host, port in body["close"]:
            self._plane.close(Place(kind, Address(host, port)))
        if body["close"]:
            self._stats.keep_listeners([str(place) for place in self._plane.places])
        self._column.acknowledge(body["version"])

    def _answer(self, kind: str, body: Body) -> None:
        if kind == "report":
            self._report(asked=True)
        elif kind == "confirm":
            self._plane.confirm(body["age"])
        elif kind == "reopen_log":
            self._plane.reopen_log()

    async def _hurry(self) -> None:
        """Answer while draining, and end it when it is to end."""
        while True:
            kind, body, _ = await self._messages.get()
            if kind == "drain":
                await self._plane.drain(float(body["grace"]))
            else:
                self._answer(kind, body)

    def _orphaned(self) -> None:
        """The supervisor is gone, and nobody will say so."""
        self._messages.put_nowait(("drain", {"grace": self._settings.drain.timeout}, []))

    async def _report_often(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            self._report()

    def _report(self, *, asked: bool = False) -> None:
        """Tell what was counted since the last report, if there is anything to tell or it was asked for."""
        counts = {
            "stats": self._stats.changes(),
            # To look at the whole cache takes milliseconds: for who asks alone.
            "dns": self._dns_stats.changes(gauges=asked),
            "log": self._log_reporter.changes() if self._log_reporter is not None else None,
        }
        if asked or any(counts.values()):
            self._channel.send("report", {"asked": asked, **counts})


def _shares(places: list[list[Any]], descriptors: list[int]) -> dict[Place, list[socket.socket]]:
    """Make sockets of descriptors: so many for each place, in order."""
    rest = iter(descriptors)
    shares: dict[Place, list[socket.socket]] = {}
    for kind, host, port, count in places:
        shares[Place(kind, Address(host, port))] = [adopt(next(rest)) for _ in range(count)]
    return shares


async def _main(descriptor: int) -> None:
    await Worker(socket.socket(fileno=descriptor)).run()


def main() -> int:
    """Serve at the end of the channel that the only argument is the descriptor of."""
    for number in _SUPERVISORS:
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_main(int(sys.argv[1])))
        except EdgeError as error:
            print(f"consul-edge: worker: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
