"""The endpoints' configurations, opened: each once, until it changes."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from cachetools import LRUCache

from control_plane.db.queries import load
from control_plane.delivery.endpoint import Endpoint, opened
from control_plane.errors import OperatorError
from control_plane.sealing import Keyring

SQL = load(Path(__file__).with_name("queue.sql"))

_MOST: Final = 2000
_BATCH: Final = 50

Stamp = tuple[datetime, tuple[UUID, ...]]
"""What a configuration is known by: when it was changed, and which of its secrets are valid."""

_log = structlog.get_logger()


class Configurations:
    """Those of the endpoints that this worker has served."""

    def __init__(self, pool: Any, ring: Keyring) -> None:
        self._pool = pool
        self._ring = ring
        self._known: LRUCache[UUID, tuple[Stamp, Endpoint]] = LRUCache(_MOST)

    async def get(self, webhook: UUID, stamp: Stamp) -> Endpoint | None:
        """The endpoint, opened; None where it is gone. OperatorError where a secret of it does not open."""
        known = self._known.get(webhook)
        if known is not None and known[0] == stamp:
            return known[1]
        row = await self._pool.fetchrow(SQL.configuration, webhook)
        if row is None:
            return None
        endpoint = opened(self._ring, row)
        self._known[webhook] = ((row["updated_at"], tuple(sorted(each[2] for each in row["secrets"]))), endpoint)
        return endpoint

    async def examine(self) -> None:
        """Open everything once and forget it. OperatorError where nothing opens; who is closed alone is told of and left out."""
        count, problems = 0, []
        async for row in self._all():
            count += 1
            try:
                opened(self._ring, row)
            except (OperatorError, ValueError) as problem:
                problems.append(str(problem))
                _log.error("webhook cannot be opened", webhook=str(row["id"]), problem=str(problem))
        if problems and len(problems) == count:
            raise OperatorError(f"No webhook can be served: of {count}, the secrets of none open. The first: {problems[0]}")

    async def _all(self) -> AsyncIterator[Any]:
        """The rows of all endpoints, some at a time: a CA bundle may be long."""
        after: UUID | None = None
        while rows := await self._pool.fetch(SQL.configurations_after, after, _BATCH):
            for row in rows:
                yield row
            after = rows[-1]["id"]
