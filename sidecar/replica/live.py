"""What the check sees of the replica."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final, Literal

from sidecar.replica.state import State

Status = Literal["loading", "live", "stale"]
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds that never go back and, on Linux, count while the machine sleeps: a laptop that wakes up knows that it is stale."""
    return time.clock_gettime(_CLOCK)


class Replica:
    """The state in force, and how fresh it is. Written by the feed alone, within one turn of the loop.

    `state` is None until the first complete read, and after changes that could not be applied. `confirmed_at` (`clock`) is when
    the last question was sent whose answer proved that nothing is missing; `confirmed_timestamp` is the same in epoch seconds.
    `apply_lag` is how many seconds the last revision took from its commit to here. The rest counts since the start;
    `doorbells_unverified` are those that were not believed.
    """

    def __init__(self, max_staleness: float = 30.0, clock: Callable[[], float] = clock) -> None:
        self.state: State | None = None
        self.confirmed_at = float("-inf")
        self.confirmed_timestamp = 0.0
        self.apply_lag = 0.0
        self.full_reads = 0
        self.revisions_applied = 0
        self.doorbells_applied = 0
        self.doorbells_unverified = 0
        self.connections = 0
        self._max_staleness = max_staleness
        self._clock = clock
        self._waiting: dict[int, tuple[int, Callable[[], None]]] = {}
        self._tickets: Iterator[int] = count()

    @property
    def resyncs(self) -> int:
        """How often everything had to be read again after the first time."""
        return max(0, self.full_reads - 1)

    @property
    def revision(self) -> int:
        """The revision of the state; 0 where there is none."""
        return 0 if self.state is None else self.state.revision

    @property
    def principals(self) -> int:
        """How many profiles are known."""
        return 0 if self.state is None else self.state.principals

    @property
    def status(self) -> Status:
        """Whether decisions can be made, and whether they can be relied on."""
        if self.state is None:
            return "loading"
        return "stale" if self._clock() - self.confirmed_at > self._max_staleness else "live"

    @property
    def waiting(self) -> int:
        """How many functions wait to be called."""
        return len(self._waiting)

    def wait_for(self, revision: int, callback: Callable[[], None]) -> int:
        """Have a function called, once, when this revision is reached. The ticket is for `cancel`."""
        ticket = next(self._tickets)
        self._waiting[ticket] = revision, callback
        return ticket

    def cancel(self, ticket: int) -> None:
        """Wait no longer."""
        self._waiting.pop(ticket, None)

    # --- the feed's side -------------------------------------------------------------------------------------------------------

    def take(self, state: State) -> State | None:
        """Put a state in force that was read in full. The one before, retired, is handed back."""
        before, self.state = self.state, state
        self.full_reads += 1
        if before is not None:
            before.retire()
        self._call_reached()
        return before

    def applied(self, lag: float) -> None:
        """Note that the state has reached its revision, `lag` seconds after the commit."""
        self.apply_lag = max(0.0, lag)
        self.revisions_applied += 1
        self._call_reached()

    def lost(self) -> None:
        """Changes could not be applied: there is nothing to decide by until all has been read anew."""
        self.state = None

    def confirm(self, at: float, timestamp: float) -> None:
        """Note that at this moment (`clock`, and epoch seconds) nothing was missing."""
        self.confirmed_at = max(self.confirmed_at, at)
        self.confirmed_timestamp = timestamp

    def _call_reached(self) -> None:
        if self._waiting:
            reached = [ticket for ticket, (revision, _) in self._waiting.items() if revision <= self.revision]
            for callback in [self._waiting.pop(ticket)[1] for ticket in reached]:
                callback()
