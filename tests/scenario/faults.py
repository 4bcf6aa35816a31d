"""Part 5: changes and faults under load. Traffic goes on: what clients lose is counted at every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from itertools import count

from tests.scenario.layout import BACKEND, BACKEND_NAME, ECHO, EDGES, FRONT, HOSTS, OUTSIDE_ADDRESS, OUTSIDE_NAME
from tests.scenario.load import Exchange, Load, Losses, running_load
from tests.scenario.samples import SAMPLES
from tests.scenario.site import Site
from tests.scenario.table import Report, Row, converge, show

SERVICES = (BACKEND, FRONT, ECHO)
AT_ONCE = 5.0
"""Seconds for what only takes an event."""

DETECTION = 20.0
"""Seconds in which Consul's servers must agree that a host is gone; 3 to 8 were seen."""

HEALING = 60.0
"""Seconds until all is as before after a host or a server has come back; up to 37 were seen."""

NOBODY_THERE = ("ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "no-answer")
"""What clients of an edge see that is not there."""

Excuse = Callable[[Exchange, float], bool]
"""Tells whether a failure has to be, given when the fault was complete."""


def change(site: Site, report: Report) -> None:
    """Part 5: containers come and go, hosts, servers and edges fail and come back."""
    report.part("5. Change, under load")
    for program in ("httpbackend", "httpfront", "tcpfront"):
        site.run_sample(program)
    with running_load(site.client.host) as load:
        faults = Faults(site, report, load)
        for fault in (
            faults.containers,
            faults.host_cut_off,
            faults.follower_killed,
            faults.leader_killed,
            faults.agent_cut_off,
            faults.edge_without_consul,
            faults.changes_after_all,
        ):
            site.cluster.wait_whole()
            fault()


def none(_: Exchange, __: float) -> bool:
    """Excuse nothing."""
    return False


def in_flight(lost: Exchange, complete: float) -> bool:
    """Excuse TCP connections that were open to an instance when it was lost: nobody can bring them back."""
    return lost.protocol == "tcp" and lost.begin < complete


class Faults:
    """The steps; each begins and ends with everything whole."""

    def __init__(self, site: Site, report: Report, load: Load) -> None:
        self._site = site
        self._report = report
        self._load = load
        self._versions = count(1)

    def containers(self) -> None:
        """A container that stops loses its traffic, one that starts takes it."""
        for name, program in (("consul-3", "httpfront"), ("consul-1", "httpfront"), ("consul-3", "tcpfront")):
            self._container_replaced(name, program)

    def host_cut_off(self) -> None:
        """A host loses its cable: what had been sent to it comes from the others."""
        name = "consul-3"
        host = self._site.hosts[name]
        cut, mend = (partial(way, host) for way in (self._site.switch.cut, self._site.switch.mend))
        self._step(f"{name} cut off", cut, self._all_but(name), self._in_use, DETECTION, in_flight)
        self._step(f"{name} on the network again", mend, self._all_but(), self._in_use, HEALING)

    def follower_killed(self) -> None:
        """A server that does not lead is killed; Consul gives up everything on its host, though it runs."""
        leader = self._site.cluster.leader()
        self._server_killed("a Consul server", next(name for name in reversed(HOSTS) if name != leader))

    def leader_killed(self) -> None:
        """The leader is killed; elections go on meanwhile."""
        self._server_killed("the leading Consul server", self._site.cluster.leader())

    def agent_cut_off(self) -> None:
        """An edge's own agent loses the others, and what it knows stands still without any error.

        Worst is the leader: it does not even look for another one.
        """
        leader = self._site.cluster.leader()
        name = leader if leader in EDGES else EDGES[0]
        host = self._site.hosts[name]
        self._step(
            f"the Consul server on {name} cut off from the others",
            partial(self._site.switch.cut_consul, host),
            self._all_but(name),
            self._in_use,
            DETECTION,
        )
        mend = partial(self._site.switch.mend_consul, host)
        self._step(f"the Consul server on {name} heard again", mend, self._all_but(), self._in_use, HEALING)

    def edge_without_consul(self) -> None:
        """All of Consul is gone; then an edge crashes too, and finds the last good catalog on its disk."""
        name = "consul-1"
        edge, servers = self._site.edges[name], self._site.cluster.servers.values()
        gone = 0.0

        def crash() -> None:
            nonlocal gone
            edge.kill()
            gone = time.monotonic()
            edge.start()

        # About a second after the last change; a crash sooner would bring back the catalog before that.
        self._report.expect(f"what {name} has on its disk", set(HOSTS), partial(edge.kept, FRONT))
        kill_all = partial(one_by_one, [server.kill for server in servers])
        self._step(
            "every Consul server killed",
            kill_all,
            {"in use": set(HOSTS), "followed by": set()},
            lambda: {"in use": self._in_use(), "followed by": self._following()},
            DETECTION,
        )
        self._step(
            f"consul-edge killed (-9) on {name} and started again, without any Consul",
            crash,
            {"serves": {"http", "tcp"}, "instances": set(HOSTS), "names": {*HOSTS.values(), OUTSIDE_ADDRESS}},
            lambda: self._answers(name, gone),
            DETECTION,
            lambda lost, _: lost.edge == name and lost.result in NOBODY_THERE,
        )
        start_all = partial(one_by_one, [server.start for server in servers])
        self._step("every Consul server back: followed by", start_all, set(EDGES), self._following, HEALING)

    def changes_after_all(self) -> None:
        """After everything was healed, changes are followed as at first."""
        for name in ("consul-3", "consul-1"):
            self._container_replaced(name, "httpfront")

    def _container_replaced(self, name: str, program: str) -> None:
        """Kill a container, then start one of a version that no other has: clients see which one answers."""
        sample = SAMPLES[program]
        version = f"v1.0.{next(self._versions)}"

        def takers() -> set[str]:
            """Return the edges through which clients have met it."""
            return {met.edge for met in self._load.exchanges(0) if met.version == version}

        kill = partial(self._site.stop_container, name, program)
        in_use = partial(self._in_use, [sample.service])
        self._step(f"{program} killed on {name}", kill, self._all_but(name), in_use, AT_ONCE, in_flight)
        start = partial(self._site.start_container, name, sample, version=version)
        self._step(f"{program} {version} started on {name}: takes traffic from", start, set(EDGES), takers, DETECTION)

    def _server_killed(self, what: str, name: str) -> None:
        server = self._site.cluster.servers[name]
        self._step(f"{what} killed, on {name}", server.kill, self._all_but(name), self._in_use, DETECTION)
        self._step(f"{what} back, on {name}", server.start, self._all_but(), self._in_use, HEALING)

    def _answers(self, name: str, since: float) -> dict[str, set[str]]:
        """Return what an edge serves since that moment: protocols, instances, and names of both kinds."""
        edge, place = self._site.edges[name], self._site.on(name)
        answered = (each for each in self._load.exchanges(since) if each.result == "ok" and each.begin >= since)
        served = {each.protocol for each in answered if each.edge == name}
        names = {*place.dig(BACKEND_NAME), *place.dig(OUTSIDE_NAME)}
        return {"serves": served, "instances": edge.instances(FRONT), "names": names}

    def _following(self) -> set[str]:
        """Return the edges that follow an agent's catalog."""
        return {edge.host.name for edge in self._site.balancers if edge.get("/api/status")["catalog"]["connected"]}

    def _step(
        self,
        step: str,
        fault: Callable[[], None],
        expected: object,
        ask: Callable[[], object],
        within: float,
        excused: Excuse = none,
    ) -> None:
        """Do something under load, wait until it shows as expected and until every client had an answer after that."""
        begin = time.monotonic()
        fault()
        complete = time.monotonic()
        seen, seconds = converge(ask, lambda answer: answer == expected, within)
        self._load.settle()
        exchanges = self._load.exchanges(begin)
        lost = [each for each in exchanges if each.result != "ok" and not excused(each, complete)]
        took = complete - begin + (within if seconds is None else seconds)
        passed = seconds is not None and not lost
        self._report.add(Row(step, show(expected), show(seen), took, passed, str(Losses.of(exchanges))))

    def _all_but(self, *names: str) -> set[str]:
        return set(HOSTS) - set(names)

    def _in_use(self, services: Collection[str] = SERVICES) -> object:
        """Return the hosts whose instances of all these services both edges use, or what each uses if they differ."""
        views = {
            edge.host.name: set.intersection(*(edge.instances(service) for service in services))
            for edge in self._site.balancers
        }
        first, *others = views.values()
        return first if others == [first] else views


def one_by_one(calls: Collection[Callable[[], None]]) -> None:
    """Make all calls."""
    for call in calls:
        call()
