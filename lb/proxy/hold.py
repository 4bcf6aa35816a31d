"""Why a client is not read from: bits of a number, as there may be several reasons at a time.

Plain integers: arithmetic on `enum.IntFlag` costs a microsecond, and this is done for every request.
"""

from __future__ import annotations

from typing import Final

UPSTREAM: Final = 1
"""The instance takes no more."""
DIALING: Final = 2
"""Enough is kept for an instance that is not connected yet."""
PIPELINE: Final = 4
"""Enough of the next requests is here."""
