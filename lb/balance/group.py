"""The endpoints of one service and port: who is next, what became of it, who came and who went.

The rules are nginx's (`ngx_http_upstream_round_robin.c` and its neighbours), so that a sequence of requests
and failures picks the same endpoints as nginx 1.22 with the same options does.

Several workers may each have the group, over the same cells (`lb.balance.places`). As long as one call ends before the
next begins, in whatever worker, all pick as one process would. What a worker concludes from the cells (that nobody
fails, whose turn comes when) is good until the bell rings. So whoever changes what others may have concluded from
writes first and rings then, and whoever heard the bell looks at everything anew. Of calls that overlap, one may
miss what the other is about to ring for, as if it had come an instant earlier; the next call hears it.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Collection, Sequence
from hashlib import blake2b

from lb.balance.endpoint import Endpoint, EndpointSpec
from lb.balance.loads import Loads, are_readable_at_once, weigh
from lb.balance.places import LocalPlaces, Places
from lb.balance.policies import Policy, Rng, policy_named
from lb.balance.turns import Turns, foresee, is_foreseeable, round_length


class Outcome(enum.Enum):
    """What an attempt told about its endpoint.

    FAILURE: it refused, timed out, closed or answered nonsense before its response began. NEUTRAL: nothing
    was learned, for instance because the client left first.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


_SUCCESS, _FAILURE = Outcome.SUCCESS, Outcome.FAILURE  # to look up a member of an enumeration takes a while


class Group:
    """A set of endpoints that stand for one another.

    For each attempt call `acquire`, then `release` once, whatever happened. An endpoint of weight 0 is
    listed, but gets nothing and counts for nothing. One endpoint alone is used whatever its failures, as
    nginx does: there is nothing better to turn to. `places` is where state is kept, by default here; `rng` is
    what the policy `random` draws with.
    """

    __slots__ = (
        "_live",
        "_loads",
        "_only",
        "_pick",
        "_places",
        "_repeats",
        "_rng",
        "_rung",
        "_state",
        "_turns",
        "_unforeseen",
        "_watched",
        "_weighs",
        "endpoints",
        "name",
        "policy",
    )

    def __init__(self, name: str, rng: Rng = random.random, places: Places | None = None) -> None:
        self.name = name
        self.endpoints: list[Endpoint] = []
        self.policy = "round_robin"
        self._rng = rng
        self._pick: Policy = policy_named(self.policy, rng)
        self._places = places if places is not None else LocalPlaces()
        self._state = LocalPlaces().group(name)  # until there are endpoints
        self._live: list[Endpoint] = []
        self._only: Endpoint | None = None  # if there is no choice, and nothing to ask
        self._repeats = False  # whether turns can be foreseen as long as nobody fails
        self._weighs = False  # whether loads can be read at once as long as nobody fails
        self._unforeseen = 0  # picks to make before the turns are worth foreseeing again
        # Conclusions, since the ring that is noted first.
        self._rung = 0
        self._watched = False
        self._turns: Turns | None = None
        self._loads: Loads | None = None

    def __repr__(self) -> str:
        return f"<Group {self.name} {self.policy} {self.endpoints}>"

    def acquire(self, tried: Collection[Endpoint], now: float, client: str = "") -> Endpoint | None:
        """Return the endpoint for the next attempt, or None when no endpoint is live.

        `tried` holds the endpoints that this request was already sent to, `now` is in seconds (whole ones count),
        `client` is the client's IP address as text.
        """
        if not tried:
            # Nearly all picks are made here; `take` and `begin` are written out.
            turns = self._turns
            if turns is not None:
                cells = turns.cells
                if cells[turns.bell_row] == turns.rung:
                    turn = cells[turns.turn_row]
                    cells[turns.turn_row] = turn + 1
                    endpoint = turns.order[turn % turns.length]
                    endpoint.cells[endpoint.row] += 1
                    return endpoint
            elif (only := self._only) is not None:
                only.cells[only.row] += 1
                return only
            elif (loads := self._loads) is not None and self._state.cells[self._state.bell_row] == loads.rung:
                endpoint = loads.take()
                endpoint.cells[endpoint.row] += 1
                return endpoint
        picked = self._choose(tried, int(now), client)
        if picked is not None:
            picked.begin()
        return picked

    def _choose(self, tried: Collection[Endpoint], now: int, client: str) -> Endpoint | None:
        """Pick by the policy among those that are eligible now."""
        endpoints = self._live
        if len(endpoints) == 1:
            (endpoint,) = endpoints
            return None if endpoint in tried or endpoint.full() else endpoint
        self._listen()
        shortcut = None if tried or self._watched else self._foresee() if self._repeats else self._weigh()
        if shortcut is not None:
            return shortcut.take()
        eligible = endpoints
        if tried or self._watched:
            eligible = [e for e in endpoints if not (e in tried or e.suspended(now) or e.full())]
        if not eligible:
            return None
        self._end_turns()
        endpoint = self._pick(endpoints, eligible, client, len(tried))
        if self._watched:
            endpoint.mark_tried(now)
        if self._repeats:
            # Another worker may be looking ahead, just now, from where they stood before.
            self._state.bell.ring()
        return endpoint

    def credit(self, endpoint: Endpoint) -> None:
        """Note that an attempt that goes on has succeeded: for TCP, that the connection is up."""
        state = self._state
        if state.cells[state.bell_row] != self._rung:
            self._look()
        if self._watched and endpoint.mark_succeeded() and not endpoint.removed:
            self._end_turns()
            self._state.bell.ring()

    def release(self, endpoint: Endpoint, outcome: Outcome, now: float) -> None:
        """End an attempt on `endpoint` and learn from it; `now` is in seconds.

        The endpoint may have left the group meanwhile.
        """
        if outcome is _SUCCESS:
            state = self._state
            if self._watched or state.cells[state.bell_row] != self._rung:
                self.credit(endpoint)
        elif outcome is _FAILURE and len(self._live) != 1:
            self._blame(endpoint, int(now))
        # Last, because the endpoint's cells may be another's afterwards.
        endpoint.cells[endpoint.row] -= 1

    def _blame(self, endpoint: Endpoint, now: int) -> None:
        if endpoint.removed:
            endpoint.mark_failed(now)
            return
        self._listen()
        self._end_turns()  # they were taken with all weights in force
        endpoint.mark_failed(now)
        self._state.bell.ring()

    def _listen(self) -> None:
        """Draw conclusions anew if the bell rang."""
        if self._state.bell.value != self._rung:
            self._look()

    def _look(self) -> None:
        """Note whether any endpoint may be suspended or full: as long as none can, nobody has to be asked."""
        self._rung = self._state.bell.value
        self._turns = self._loads = None
        live = self._live
        self._watched = len(live) > 1 and any(endpoint.max_conns or endpoint.fails for endpoint in live)

    def _foresee(self) -> Turns | None:
        """Make the turns known in advance if they can be: nobody may be left out, and no load or client counts.

        Turns that another worker takes already are joined at once.
        """
        under_way = self._state.turns(self._rung) is not None
        self._unforeseen -= 1
        if self._unforeseen >= 0 and not under_way:
            return None
        self._unforeseen = round_length([endpoint.weight for endpoint in self._live])
        self._turns = foresee(self._state, self._rung, self._live)
        if self._turns is not None and not under_way:
            self._state.begin_turns(self._rung)
        return self._turns

    def _weigh(self) -> Loads | None:
        """Have the loads read at once from now on, if they can be."""
        if self._weighs:
            self._loads = weigh(self._rung, self._live)
        return self._loads

    def _end_turns(self) -> None:
        """Bring the endpoints to where the turns have led them, if any worker takes turns; that is rung for.

        The bell must have been listened to.
        """
        taken = self._state.turns(self._rung) if self._repeats else None
        if taken is None:
            return
        turns = self._turns or foresee(self._state, self._rung, self._live)
        if turns is not None:
            turns.end(taken)
        self._state.bell.ring()
        self._look()

    def reconcile(self, specs: Sequence[EndpointSpec], policy: str) -> list[Endpoint]:
        """Make `specs`, whose keys differ, the endpoints of the group, in that order; return those that left.

        An endpoint whose key stays keeps its state. `policy` is one of `POLICY_NAMES`; KeyError is raised for
        another, and nothing has changed then.

        All workers do this, each in its own time. The first brings what they share up to date, and the others find it
        so by `GroupState.listing`.
        """
        if policy != self.policy:
            self._pick = policy_named(policy, self._rng)
            self.policy = policy
        before = {endpoint.key: endpoint for endpoint in self.endpoints}
        if specs and not before:
            self._state = self._places.group(self.name)
        endpoints = [before.get(spec.key) or self._places.endpoint(self.name, spec) for spec in specs]
        listing = _listing(specs, policy)
        changed = self._state.listing != listing
        if changed:
            self._listen()
            self._end_turns()
            self._unforeseen = 0
        for endpoint, spec in zip(endpoints, specs, strict=True):
            endpoint.configure(spec)
        self._enlist(endpoints)
        if changed:
            self._state.listing = listing
            self._state.bell.ring()
        kept = {spec.key for spec in specs}
        removed = [endpoint for key, endpoint in before.items() if key not in kept]
        self._dismiss(removed)
        self._look()
        return removed

    def _dismiss(self, removed: list[Endpoint]) -> None:
        """Let go of endpoints that left, and of the group's own cells if none is left."""
        for endpoint in removed:
            endpoint.removed = True
            self._places.leave(self.name, endpoint.key)
        if removed and not self.endpoints:
            self._places.leave(self.name)
            self._state = LocalPlaces().group(self.name)

    def _enlist(self, endpoints: list[Endpoint]) -> None:
        """Take over the endpoints, whose options are in force, and settle where they stand.

        They stand apart, each worker taking turns of its own, if not all workers know all of them, or if their turns
        cannot be foreseen because that would take too long: so many that it does not matter where each worker
        begins, and all workers would write to all cells for each pick.
        """
        self.endpoints = endpoints
        self._live = live = [endpoint for endpoint in endpoints if endpoint.weight > 0]
        weights = [endpoint.weight for endpoint in live]
        foreseeable = len(live) > 1 and is_foreseeable(weights)
        limited = any(endpoint.max_conns for endpoint in live)
        together = all(endpoint.shared == self._state.shared for endpoint in endpoints)
        apart = self._state.shared and len(live) > 1 and not (together and foreseeable)
        self._repeats = foreseeable and not limited and not apart and self.policy == "round_robin"
        for endpoint in endpoints:
            endpoint.stand_apart(apart)
        self._only = live[0] if len(live) == 1 and not limited else None
        self._weighs = self.policy == "least_conn" and len(live) > 1 and not limited and are_readable_at_once(live)
        if any(endpoint.stands_by_other_weight() for endpoint in endpoints):
            # What was gathered by the old weights would be paid out in one long run.
            for endpoint in endpoints:
                endpoint.move(-endpoint.current)
        for endpoint in endpoints:
            endpoint.accept_weight()


def _listing(specs: Sequence[EndpointSpec], policy: str) -> int:
    """Return what stands for a list: another number when what the turns depend on is different."""
    limited = any(spec.max_conns for spec in specs if spec.weight > 0)
    text = ascii((policy, limited, [(spec.key, spec.weight) for spec in specs]))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
