"""The garbage collector's pauses, kept short: while it walks over all that lives, no client is served.

A catalog and the caches made of it are hundreds of thousands of objects, and to walk over them takes tens of
milliseconds. What has survived one walk over the oldest generation is therefore frozen: the next one finds only what is
new. What is frozen and dies in a circle is found when everything is thawed, now and then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

THRESHOLDS = (700, 10, 3)
"""The oldest generation is walked over after some 20,000 new objects, two milliseconds' worth.

After a walk over everything Python first waits for a quarter as many new ones: that walk takes up to a quarter as long,
too.
"""

THAW_EVERY = 900.0
"""Seconds between two walks over everything, at least."""


class ShortPauses:
    """Freezes what is old from now on. `clock` tells seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._thawed_at = clock()
        gc.set_threshold(*THRESHOLDS)
        gc.freeze()
        gc.callbacks.append(self._on_collection)

    def end(self) -> None:
        """Leave the collector to itself."""
        gc.callbacks.remove(self._on_collection)
        gc.unfreeze()

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "stop":
            gc.freeze()
        elif self._clock() - self._thawed_at >= THAW_EVERY:
            self._thawed_at = self._clock()
            gc.unfreeze()
