"""How a comparison with another reader is judged: equal, or explained by a listed difference."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Explains = Callable[[bytes, str], bool]


class Difference(NamedTuple):
    """Why one side refuses what the other takes; `explains` is given the data and the reason of the refusal."""

    why: str
    example: bytes
    explains: Explains


class Peer(NamedTuple):
    """Another reader beside ours: both return what they read, or the reason of a refusal as text."""

    ours: Callable[[bytes], object]
    theirs: Callable[[bytes], object]
    we_refuse: tuple[Difference, ...]
    it_refuses: tuple[Difference, ...]

    def compare(self, data: bytes) -> None:
        """Fail where the two differ and no difference of the lists explains it."""
        ours, theirs = self.ours(data), self.theirs(data)
        if isinstance(ours, str) and isinstance(theirs, str):
            return
        if isinstance(ours, str):
            assert any(d.explains(data, ours) for d in self.we_refuse), f"we refuse ({ours}), it takes {theirs!r}"
        elif isinstance(theirs, str):
            assert any(d.explains(data, theirs) for d in self.it_refuses), f"it refuses ({theirs}), we take {ours!r}"
        else:
            assert ours == theirs

    def check_examples(self) -> None:
        """Fail where an example does not differ as its difference says."""
        for difference in self.we_refuse:
            self._check(difference, refusing=self.ours, taking=self.theirs)
        for difference in self.it_refuses:
            self._check(difference, refusing=self.theirs, taking=self.ours)

    @staticmethod
    def _check(difference: Difference, refusing: Callable[[bytes], object], taking: Callable[[bytes], object]) -> None:
        why, example, explains = difference
        refusal = refusing(example)
        assert isinstance(refusal, str), why
        assert explains(example, refusal), f"{why}: {refusal}"
        assert not isinstance(taking(example), str), why


def reason(pattern: str) -> Explains:
    """Explains refusals whose reason begins so."""
    return lambda _, given: re.match(pattern, given) is not None
