"""A request that waits for a revision."""

import asyncio
from collections import deque
from collections.abc import Callable

from sidecar.contract import MIN_REVISION_WAIT_SECONDS
from sidecar.http.head import Head
from sidecar.replica.live import Replica


class Parked:
    """Calls `resume` once: with True when `replica` reaches `revision`, with False when that takes too long.

    `later` holds the requests of the same connection that came after it, each with whether the connection stays open.
    """

    def __init__(self, replica: Replica, revision: int, resume: Callable[[bool], None]) -> None:
        self.later: deque[tuple[Head, bool]] = deque()
        self._replica = replica
        self._resume = resume
        self._ticket = replica.wait_for(revision, self._reached)
        self._timer = asyncio.get_running_loop().call_later(MIN_REVISION_WAIT_SECONDS, self._too_late)

    def cancel(self) -> None:
        """Wait no longer."""
        self._timer.cancel()
        self._replica.cancel(self._ticket)

    def _reached(self) -> None:
        self._timer.cancel()
        self._resume(True)

    def _too_late(self) -> None:
        self._replica.cancel(self._ticket)
        self._resume(False)
