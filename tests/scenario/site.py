"""The whole of it: hosts, cables, cluster, Docker daemons, edges and samples, made and unmade."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.scenario.clients import Place
from tests.scenario.cluster import Cluster
from tests.scenario.edges import Edge
from tests.scenario.engine import Engine, remove_cgroups
from tests.scenario.host import Host, running_host
from tests.scenario.image import make_image
from tests.scenario.layout import CLIENT, CLIENT_ADDRESS, EDGES, HOSTS, SECURE_NAME, VERSION
from tests.scenario.network import Switch
from tests.scenario.outside import start_names
from tests.scenario.samples import SAMPLES, Sample, run_sample
from tests.support.certificates import Certificate, make_certificate
from tests.support.process import wait_until


class Site:
    """Everything that was started, by the names of the hosts."""

    def __init__(self, hosts: dict[str, Host], client: Host, switch: Switch, certificate: Certificate) -> None:
        self.hosts = hosts
        self.client = Place(client)
        self.switch = switch
        self.certificate = certificate
        self._samples: set[str] = set()
        self.cluster = Cluster(hosts.values())
        self.engines = {name: Engine(host) for name, host in hosts.items()}
        self.edges = {name: Edge(host, self.engines[name]) for name, host in hosts.items()}

    @property
    def balancers(self) -> list[Edge]:
        """The two edges that balance."""
        return [self.edges[name] for name in EDGES]

    def on(self, name: str, container: str = "") -> Place:
        """Return a host, or a container of it, as a place for clients."""
        return Place(self.hosts[name], self.engines[name], container) if container else Place(self.hosts[name])

    def start(self, archive: Path, tell: Callable[[str], None]) -> None:
        """Start everything but the samples."""
        for engine in self.engines.values():
            engine.start()
        self.cluster.start()
        outside = start_names(self.client.host)
        tell("Consul servers and Docker daemons")
        make_image(archive, self.certificate.certificate, self.certificate.key)
        in_parallel([partial(self._load, engine, archive) for engine in self.engines.values()])
        self.cluster.wait_whole()
        outside.require_running()
        tell("consul-edge")
        for edge in self.edges.values():
            edge.start()
        for edge in self.edges.values():
            wait_until(edge.ready, timeout=30, what=f"consul-edge serves on {edge.host}")

    def run_sample(self, program: str) -> None:
        """Start a container of a sample on every host, unless that was done."""
        if program not in self._samples:
            in_parallel([partial(self.start_container, name, SAMPLES[program]) for name in self.hosts])
            self._samples.add(program)

    def start_container(self, host: str, sample: Sample, *, container: str = "", version: str = VERSION) -> None:
        """Start one container of a sample."""
        run_sample(self.engines[host], sample, container=container, version=version)

    def stop_container(self, host: str, container: str) -> None:
        """Kill a container and remove it."""
        self.engines[host].remove(container)

    def served(self, program: str) -> dict[str, int]:
        """Return how many requests or connections each host's container of a sample says that it served."""
        return {name: engine.served(program) for name, engine in self.engines.items()}

    def _load(self, engine: Engine, archive: Path) -> None:
        engine.wait_ready()
        engine.load(archive)


def in_parallel(calls: Sequence[Callable[[], None]]) -> None:
    """Make the calls at the same time; raises what one of them raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


@contextlib.contextmanager
def three_hosts(tell: Callable[[str], None] = print) -> Iterator[Site]:
    """Make all hosts and start everything on them; nothing of it is left when the block ends, however it ends.

    Raises `Unavailable` where the machine cannot do it.
    """
    with contextlib.ExitStack() as held:
        directory = Path(tempfile.mkdtemp(prefix="three-hosts-"))
        held.callback(shutil.rmtree, directory)
        certificate = make_certificate(directory, SECURE_NAME)
        tell("hosts")
        switch = Switch(held.enter_context(running_host("switch", "", (), directory / "switch")))
        client = held.enter_context(running_host(CLIENT, CLIENT_ADDRESS, (CLIENT_ADDRESS,), directory / CLIENT))
        hosts = {}
        for name, address in HOSTS.items():
            held.callback(remove_cgroups, name)
            # Itself first; an edge forwards what it does not know to the second.
            servers = (address, CLIENT_ADDRESS)
            hosts[name] = held.enter_context(running_host(name, address, servers, directory / name))
        for host in (client, *hosts.values()):
            switch.plug(host)
        site = Site(hosts, client, switch, certificate)
        site.start(directory / "samples.tar", tell)
        yield site
