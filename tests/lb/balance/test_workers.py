"""Several workers over one board: as long as one call ends before the next begins, all pick as one process would."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from lb.balance.endpoint import Endpoint
from lb.balance.group import Group, Outcome
from lb.routing.options import EndpointOptions
from tests.lb.balance.specs import spec
from tests.lb.balance.workers import Workers

STEPS = 400


@dataclass
class Lease:
    """An attempt under way: in a worker, and in the one process."""

    worker: int
    endpoint: Endpoint
    alone: Endpoint


class Twins:
    """Workers, and one process that is asked for the same; what happens is drawn at random."""

    def __init__(self, workers: Workers, seed: int) -> None:
        self.rng = random.Random(seed)
        self.workers = workers
        self.alone = Group("web")
        self.now = 1000
        self.names = 0
        self.leases: list[Lease] = []
        self.specs: list[EndpointOptions] = []
        self.limits = [0] if self.rng.random() < 0.7 else [0, 2, 5]
        self.change(members=self.rng.randint(1, 5))

    # What may happen

    def request(self) -> None:
        """One request: attempts fail in turn, until one does not or nobody is left."""
        worker = self.any_worker()
        failing = self.rng.random() < 0.2
        tried: list[str] = []
        while (lease := self.acquire(worker, tried)) is not None:
            failed = failing and self.rng.random() < 0.7
            self.release(lease, Outcome.FAILURE if failed else Outcome.SUCCESS)
            if not failed:
                return
            tried.append(lease.endpoint.host)

    def hold(self) -> None:
        names = [one.host for one in self.specs]
        tried = self.rng.sample(names, self.rng.randint(0, len(names))) if self.rng.random() < 0.2 else []
        lease = self.acquire(self.any_worker(), tried)
        if lease is not None:
            self.leases.append(lease)

    def credit(self) -> None:
        if self.leases:
            lease = self.rng.choice(self.leases)
            self.workers.groups[lease.worker].credit(lease.endpoint)
            self.alone.credit(lease.alone)

    def end(self) -> None:
        if self.leases:
            lease = self.leases.pop(self.rng.randrange(len(self.leases)))
            self.release(lease, self.rng.choice([*Outcome, Outcome.SUCCESS]))

    def wait(self) -> None:
        self.now += self.rng.randint(1, 5)

    def change(self, members: int = 0) -> None:
        """Let endpoints leave, come, and have new options."""
        kept = self.rng.sample(self.specs, self.rng.randint(0, len(self.specs)))
        changed = [self.options(one.host) if self.rng.random() < 0.3 else one for one in kept]
        added = [self.options() for _ in range(members or self.rng.randint(0, 3))]
        self.specs = [*changed, *added]
        policy = self.rng.choice(["round_robin", "least_conn"])
        self.workers.reconcile(self.specs, policy)
        self.alone.reconcile(self.specs, policy)

    def apply_again(self) -> None:
        self.workers.apply(self.any_worker())

    def replace(self) -> None:
        """A worker dies; to the one process it is as if what it had under way had taught nothing."""
        worker = self.any_worker()
        self.workers.kill(worker)
        for lease in self.leases:
            if lease.worker == worker:
                self.alone.release(lease.alone, Outcome.NEUTRAL, self.now)
        self.leases = [lease for lease in self.leases if lease.worker != worker]
        self.workers.start(worker)

    def step(self) -> None:
        """Let something happen, and see that all know the same afterwards."""
        happens = {self.request: 60, self.hold: 12, self.end: 12, self.credit: 5, self.wait: 6}
        happens |= {self.apply_again: 2, self.change: 2, self.replace: 1}
        (event,) = self.rng.choices([*happens], [*happens.values()])
        event()
        expected = [(e.host, e.active, e.fails) for e in self.alone.endpoints]
        for group in (*self.workers.groups, self.workers.supervisor):
            assert [(e.host, e.active, e.fails) for e in group.endpoints] == expected

    # How

    def any_worker(self) -> int:
        return self.rng.randrange(len(self.workers.groups))

    def options(self, name: str = "") -> EndpointOptions:
        self.names += not name
        return spec(
            name or f"{self.names}",
            self.rng.choice([0, 1, 1, 1, 2, 3, 5, 10]),
            max_fails=self.rng.randint(0, 3),
            fail_timeout=self.rng.randint(0, 4),
            max_conns=self.rng.choice(self.limits),
        )

    def acquire(self, worker: int, tried: list[str]) -> Lease | None:
        group = self.workers.groups[worker]
        picked = group.acquire({e for e in group.endpoints if e.host in tried}, self.now)
        expected = self.alone.acquire({e for e in self.alone.endpoints if e.host in tried}, self.now)
        assert (picked and picked.host) == (expected and expected.host)
        return Lease(worker, picked, expected) if picked and expected else None

    def release(self, lease: Lease, outcome: Outcome) -> None:
        self.workers.groups[lease.worker].release(lease.endpoint, outcome, self.now)
        self.alone.release(lease.alone, outcome, self.now)


@pytest.mark.parametrize("seed", range(60))
def test_any_number_of_workers_picks_as_one_process_does(seed: int) -> None:
    with Workers(1 + seed % 4) as workers:
        twins = Twins(workers, seed)
        for _ in range(STEPS):
            twins.step()
