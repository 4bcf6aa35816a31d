"""The empty guard: a service that vanishes whole is believed on the second word only (pure, the clock is an argument).

An agent that has just been restarted, or a new leader, may say that everything is gone. What a service had
is kept until a later answer says the same: at least `seconds` after the first one, and under default
consistency, so that a leader stands behind it. A service whose instances are all critical has not vanished.
"""

from __future__ import annotations


class EmptyGuard:
    """Which vanished services are held, and since when."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, name: str) -> bool:
        return name in self._since

    def believes(self, name: str, now: float, *, leader: bool) -> bool:
        """Judge an answer without instances for a service that had some; True when it is to be taken off.

        `leader` tells that the answer came under default consistency. With a guard of 0 seconds every answer
        is believed.
        """
        if self._seconds > 0:
            since = self._since.setdefault(name, now)
            if not leader or now < since + self._seconds:
                return False
        self._since.pop(name, None)
        return True

    def due(self, name: str) -> float:
        """Return when to ask about a held service again."""
        return self._since[name] + self._seconds

    def release(self, name: str) -> None:
        """Forget about a service: it has instances again."""
        self._since.pop(name, None)
