"""A request that waits, and those of the same connection that came after it: for a revision, or for what the login says."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.contract import MIN_REVISION_WAIT_SECONDS, Reason
from sidecar.http.answers import Answer
from sidecar.http.head import Head, Slot
from sidecar.replica.live import Replica

MOST_PARKED: Final = 256
"""Requests that may wait for a revision at once. Each holds one of a proxy's connections, and any client can ask for any."""
_REVISION_DIGITS: Final = 18

Later = deque[tuple[Head, bool]]
"""Requests of the same connection that came later, each with whether the connection stays open."""


def to_wait_for(head: Head, replica: Replica) -> int | Reason | None:
    """The revision that a request has to wait for; None where it need not, the reason where it must not."""
    asked = head[Slot.MIN_REVISION]
    if asked is None:
        return None
    digits = asked.strip(b" \t")
    if not digits.isdigit() or len(digits) > _REVISION_DIGITS:
        return Reason.MALFORMED_REQUEST
    state, wanted = replica.state, int(digits)
    if state is None or state.revision >= wanted:
        return None
    return Reason.STALE if replica.waiting >= MOST_PARKED else wanted


class Parked:
    """Calls `resume` once: with True when `replica` reaches `revision`, with False when that takes too long."""

    def __init__(self, replica: Replica, revision: int, resume: Callable[[bool], None]) -> None:
        self.later: Later = deque()
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


class Fetched:
    """Calls `resume` once, with the answer that `fetch` comes back with. It bounds its time itself, and does not raise."""

    def __init__(self, fetch: Callable[[], Awaitable[Answer]], resume: Callable[[Answer], None]) -> None:
        self.later: Later = deque()
        self._resume = resume
        self._task = asyncio.get_running_loop().create_task(self._run(fetch))

    def cancel(self) -> None:
        """Wait no longer: the peer has gone."""
        self._task.cancel()

    async def _run(self, fetch: Callable[[], Awaitable[Answer]]) -> None:
        self._resume(await fetch())
