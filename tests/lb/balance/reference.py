"""nginx's rules once more, written down as plainly as the table of them: the model that the group is compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(eq=False)
class ReferencePeer:
    """One peer, in nginx's own terms."""

    name: str
    weight: int
    max_fails: int
    fail_timeout: int
    max_conns: int
    effective_weight: int = 0
    current_weight: int = 0
    fails: int = 0
    accessed: int = 0
    checked: int = 0
    conns: int = 0

    def __post_init__(self) -> None:
        self.effective_weight = self.weight


class Reference:
    """A group of several peers with the policy round_robin or least_conn."""

    def __init__(self, peers: list[ReferencePeer], policy: str) -> None:
        self.peers = peers
        self.policy = policy

    def eligible(self, peer: ReferencePeer, tried: Collection[str], now: int) -> bool:
        if peer.name in tried:
            return False
        if peer.max_fails and peer.fails >= peer.max_fails and now - peer.checked <= peer.fail_timeout:
            return False
        return not (peer.max_conns and peer.conns >= peer.max_conns)

    def acquire(self, tried: Collection[str], now: int) -> str | None:
        if self.policy == "round_robin":
            best = self.next_in_turn([p for p in self.peers if self.eligible(p, tried, now)])
        else:
            best = self.least_connected(tried, now)
        if best is None:
            return None
        if now - best.checked > best.fail_timeout:
            best.checked = now
        best.conns += 1
        return best.name

    def next_in_turn(self, peers: list[ReferencePeer]) -> ReferencePeer | None:
        best = None
        total = 0
        for peer in peers:
            peer.current_weight += peer.effective_weight
            total += peer.effective_weight
            if peer.effective_weight < peer.weight:
                peer.effective_weight += 1
            if best is None or peer.current_weight > best.current_weight:
                best = peer
        if best is not None:
            best.current_weight -= total
        return best

    def least_connected(self, tried: Collection[str], now: int) -> ReferencePeer | None:
        peers = [peer for peer in self.peers if self.eligible(peer, tried, now)]
        if not peers:
            return None
        least = min(peer.conns / peer.weight for peer in peers)
        tied = [peer for peer in peers if peer.conns / peer.weight == least]
        return tied[0] if len(tied) == 1 else self.next_in_turn(tied)

    def release(self, name: str, failed: bool, now: int) -> None:
        (peer,) = (p for p in self.peers if p.name == name)
        peer.conns -= 1
        if failed:
            peer.fails += 1
            peer.accessed = now
            peer.checked = now
            if peer.max_fails:
                peer.effective_weight -= peer.weight // peer.max_fails
            peer.effective_weight = max(peer.effective_weight, 0)
        elif peer.accessed < peer.checked:
            peer.fails = 0
