"""From the outbox to the queues, some events at a time, in one transaction of the database's own."""

from pathlib import Path
from typing import Any, Final

import asyncpg
import structlog

from control_plane.db.queries import load

SQL = load(Path(__file__).with_name("queue.sql"))

_MOST: Final = 500

_log = structlog.get_logger()


class FanOut:
    """How many events are taken at once: fewer where so many endpoints hear of each that the statement takes too long."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._most = _MOST

    async def some(self) -> bool:
        """Take some events from the outbox. Whether there may be more for this worker to take."""
        try:
            taken = await self._pool.fetchval(SQL.fan_out, self._most)
        except (asyncpg.QueryCanceledError, TimeoutError):
            if self._most == 1:
                raise
            self._most = max(self._most // 4, 1)
            _log.warning("fanning out takes too long", events_at_once=self._most)
            return True
        # What is committed from now on rings.
        is_full: bool = taken == self._most
        if taken is not None:
            self._most = min(self._most + max(self._most // 8, 1), _MOST)
        return is_full
