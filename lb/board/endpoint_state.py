"""What nginx keeps in a `zone`: fails, accessed, checked and active of an endpoint, over all workers.

nginx changes them under a lock (`ngx_http_upstream_rr_peer_lock`). Here each worker writes to its own column, and
what the endpoint is said to have is computed from all columns when it is asked for. As long as one operation ends
before the next begins, wherever they run, every worker reads what one process alone would have.

active
    The sum. Each worker counts its own attempts.

accessed, checked
    The latest of all columns. In one process the last writer wins; time never goes back, and the workers' clock
    is the same (CLOCK_MONOTONIC), so the last writer is the one with the latest time.

fails
    Each worker adds up its own failures, but any worker may have to clear everybody's, and may not write to their
    cells. So a cell holds an epoch and a count. The highest epoch of all columns is the one in force; the fails
    are the sum of the counts of that epoch, and other counts are void. To clear, a worker writes a count of 0 at
    one epoch higher, which voids all others. To fail, it adds 1 to its count, or writes a count of 1 at the epoch
    in force if its own count was void. An epoch and its count are one 64-bit number, so they change together.

When operations overlap, each may miss another that is not complete, for as long as its own few instructions take:

- Two failures: both count, they are in different cells.
- Two clearings: both write the same epoch, or the later one voids the earlier: cleared either way.
- A failure and a clearing: the failure may be written at the epoch that the clearing voids, as if it had come just
  before. A failure that begins once the clearing is written counts: it sees the new epoch.
- Two picks: both may see that `max_conns` leaves room for one, or both may become the probe after `fail_timeout`.
- A failure writes `accessed`, then `checked`, then the count. A success that comes in between sees
  `accessed >= checked` and clears nothing; a pick that comes in between sees the endpoint as before.

So at worst one request of each worker is decided, or one failure counted, as if it had come an instant earlier or
later than it did. No cell is ever written by two, so no error adds up.

The epoch grows once per clearing, and an endpoint is cleared at most once in a second: 31 bits last 68 years. A
count beyond 32 bits runs over into the epoch, which amounts to clearing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lb.board.area import Cells, Kind
from lb.board.ledger import Shape

_FAILS, _ACCESSED, _CHECKED = 1, 2, 3  # rows after the first, which counts what is active

_EPOCH_BIT = 32
_COUNT = (1 << _EPOCH_BIT) - 1


class EndpointState:
    """The state of one endpoint, as one worker reads and changes it.

    `columns` are the columns of all workers, `cells` this worker's, `row` the first row of a block of `SHAPE`. Moments
    are whole seconds of the clock that all workers share. `columns` may grow while the state is in use.

    `cells[row]` is the worker's part of `active`: on a hot path it may be changed in place. Call `end`, or take the
    attempt off, last: the rows may be another's afterwards.
    """

    SHAPE: Shape = (Kind.GAUGE, Kind.STATE, Kind.STATE, Kind.STATE)

    __slots__ = ("cells", "columns", "row")

    def __init__(self, columns: Sequence[Cells], cells: Cells, row: int) -> None:
        self.columns = columns
        self.cells = cells
        self.row = row

    def __repr__(self) -> str:
        moments = f"accessed={self.accessed} checked={self.checked}"
        return f"<EndpointState row={self.row} active={self.active} fails={self.fails} {moments}>"

    @property
    def active(self) -> int:
        """Attempts that began and have not ended, of all workers."""
        row = self.row
        total = 0
        for cells in self.columns:
            total += cells[row]
        return total

    @property
    def fails(self) -> int:
        """Failures since the last clearing, of all workers."""
        row = self.row + _FAILS
        epoch = count = 0
        for cells in self.columns:
            value = cells[row]
            its_epoch = value >> _EPOCH_BIT
            if its_epoch == epoch:
                count += value & _COUNT
            elif its_epoch > epoch:
                epoch, count = its_epoch, value & _COUNT
        return count

    @property
    def accessed(self) -> int:
        """When any worker noted a failure last; 0 if none ever did."""
        return self._highest(self.row + _ACCESSED)

    @property
    def checked(self) -> int:
        """When any worker noted a failure or a new trial last; 0 if none ever did."""
        return self._highest(self.row + _CHECKED)

    def begin(self) -> None:
        """Count an attempt that begins."""
        self.cells[self.row] += 1

    def end(self) -> None:
        """Count an attempt of this worker as ended."""
        self.cells[self.row] -= 1

    def check(self, now: int) -> None:
        """Note that the endpoint is tried again."""
        self.cells[self.row + _CHECKED] = now

    def fail(self, now: int) -> None:
        """Note a failure."""
        row, own = self.row, self.cells
        own[row + _ACCESSED] = now
        own[row + _CHECKED] = now
        # A void count is below the epoch in force; one that is valid is not.
        own[row + _FAILS] = max(own[row + _FAILS], self._epoch() << _EPOCH_BIT) + 1

    def clear(self) -> None:
        """Forget the failures of all workers."""
        self.cells[self.row + _FAILS] = (self._epoch() + 1) << _EPOCH_BIT

    def _epoch(self) -> int:
        """The epoch in force."""
        return self._highest(self.row + _FAILS) >> _EPOCH_BIT

    def _highest(self, row: int) -> int:
        highest = 0
        for cells in self.columns:
            value = cells[row]
            if value > highest:  # noqa: PLR1730  max() would be a call for each cell
                highest = value
        return highest
