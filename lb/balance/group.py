"""The endpoints of one service and port: who is next, what became of it, who came and who went.

The rules are nginx's (`ngx_http_upstream_round_robin.c` and its neighbours), so that a sequence of requests
and failures picks the same endpoints as nginx 1.22 with the same options does.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Collection, Sequence

from lb.balance.endpoint import Endpoint, EndpointSpec
from lb.balance.policies import Policy, Rng, policy_named
from lb.balance.turns import Turns, foresee, round_length


class Outcome(enum.Enum):
    """What an attempt told about its endpoint.

    FAILURE: it refused, timed out, closed or answered nonsense before its response began. NEUTRAL: nothing
    was learned, for instance because the client left first.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class Group:
    """A set of endpoints that stand for one another.

    For each attempt call `acquire`, then `release` once, whatever happened. An endpoint of weight 0 is
    listed, but gets nothing and counts for nothing. One endpoint alone is used whatever its failures, as
    nginx does: there is nothing better to turn to. `rng` is what the policy `random` draws with.
    """

    __slots__ = ("_live", "_pick", "_rng", "_turns", "_unforeseen", "_watched", "endpoints", "name", "policy")

    def __init__(self, name: str, rng: Rng = random.random) -> None:
        self.name = name
        self.endpoints: list[Endpoint] = []
        self._live: list[Endpoint] = []
        self._watched = False
        self._turns: Turns | None = None
        self._unforeseen = 0  # picks to make before the turns are worth foreseeing again
        self.policy = "round_robin"
        self._rng = rng
        self._pick: Policy = policy_named(self.policy, rng)

    def __repr__(self) -> str:
        return f"<Group {self.name} {self.policy} {self.endpoints}>"

    def acquire(self, tried: Collection[Endpoint], now: float, client: str = "") -> Endpoint | None:
        """Return the endpoint for the next attempt, or None when no endpoint is live.

        `tried` holds the endpoints that this request was already sent to, `now` is in seconds (whole ones count),
        `client` is the client's IP address as text.
        """
        turns = self._turns
        if turns is not None and not tried:
            endpoint = turns.order[turns.place]
            turns.place += 1
            if turns.place == len(turns.order):
                turns.place = 0
            endpoint.active += 1
            return endpoint
        picked = self._choose(tried, int(now), client)
        if picked is not None:
            picked.active += 1
        return picked

    def _choose(self, tried: Collection[Endpoint], now: int, client: str) -> Endpoint | None:
        """Pick by the policy among those that are eligible now."""
        endpoints = self._live
        if len(endpoints) == 1:
            (endpoint,) = endpoints
            return None if endpoint in tried or endpoint.full() else endpoint
        self._end_turns()
        eligible = endpoints
        if tried or self._watched:
            eligible = [e for e in endpoints if not (e in tried or e.suspended(now) or e.full())]
        if not eligible:
            return None
        endpoint = self._pick(endpoints, eligible, client, len(tried))
        if now - endpoint.checked > endpoint.fail_timeout:
            # After fail_timeout one live request is the probe: the time starts anew.
            endpoint.checked = now
        if not tried:
            self._foresee()
        return endpoint

    def _foresee(self) -> None:
        """Make the turns known in advance if they can be: nobody may be left out, and no load or client counts."""
        if self._watched or self.policy != "round_robin":
            return
        self._unforeseen -= 1
        if self._unforeseen < 0:
            self._turns = foresee(self._live)
            self._unforeseen = round_length(self._live)

    def _end_turns(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.end()

    def credit(self, endpoint: Endpoint) -> None:
        """Note that an attempt that goes on has succeeded: for TCP, that the connection is up."""
        if len(self._live) > 1 and endpoint.fails:
            endpoint.mark_succeeded()
            self._watch()

    def release(self, endpoint: Endpoint, outcome: Outcome, now: float) -> None:
        """End an attempt on `endpoint` and learn from it; `now` is in seconds.

        The endpoint may have left the group meanwhile.
        """
        endpoint.active -= 1
        if len(self._live) == 1:
            return
        if outcome is Outcome.SUCCESS:
            if endpoint.fails:
                endpoint.mark_succeeded()
                self._watch()
        elif outcome is Outcome.FAILURE:
            self._end_turns()
            endpoint.mark_failed(int(now))
            self._watched = True

    def _watch(self) -> None:
        """Note whether any endpoint may be suspended or full: as long as none can, nobody has to be asked."""
        self._watched = any(endpoint.fails or endpoint.max_conns for endpoint in self._live)

    def reconcile(self, specs: Sequence[EndpointSpec], policy: str) -> list[Endpoint]:
        """Make `specs`, whose keys differ, the endpoints of the group, in that order; return those that left.

        An endpoint whose key stays keeps its state. `policy` is one of `POLICY_NAMES`; KeyError is raised for
        another, and nothing has changed then.
        """
        self._end_turns()
        self._unforeseen = 0
        if policy != self.policy:
            self._pick = policy_named(policy, self._rng)
            self.policy = policy
        known = {endpoint.key: endpoint for endpoint in self.endpoints}
        endpoints: list[Endpoint] = []
        reweighted = False
        for spec in specs:
            endpoint = known.pop(spec.key, None)
            if endpoint is None:
                endpoint = Endpoint(spec)
            else:
                reweighted = reweighted or endpoint.weight != spec.weight
                endpoint.configure(spec)
            endpoints.append(endpoint)
        self.endpoints = endpoints
        self._live = [endpoint for endpoint in endpoints if endpoint.weight > 0]
        self._watch()
        if reweighted:
            # What was gathered by the old weights would be paid out in one long run.
            for endpoint in endpoints:
                endpoint.current = 0
        removed = list(known.values())
        for endpoint in removed:
            endpoint.removed = True
        return removed
