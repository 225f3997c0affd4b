"""Housekeeping of webhooks: what is too old to be kept, what endpoints left that are gone, what disabled ones still had to get.

Some rows at a time, each a transaction. Who changes deliveries that are there holds their queue first: what it counts stays true.
"""

from pathlib import Path
from typing import Any, Final
from uuid import UUID

from control_plane.db.queries import load
from control_plane.delivery.metrics import DeliveryMetrics

SQL = load(Path(__file__).with_name("tidying.sql"))

_BATCH: Final = 2000


async def tidy(pool: Any, keep_days: int, metrics: DeliveryMetrics) -> None:
    """All of it, unless another worker is doing it now."""
    async with pool.acquire() as connection:
        if not await connection.fetchval(SQL.begin):
            return
        try:
            await _bury(connection, metrics)
            await _forget_old(connection, keep_days)
            await _forget_orphans(connection)
        finally:
            await connection.execute(SQL.end)


async def _bury(connection: Any, metrics: DeliveryMetrics) -> None:
    """What waits at disabled endpoints becomes dead letters: a replay brings it back once they are enabled."""
    for row in await connection.fetch(SQL.disabled):
        buried = _BATCH
        while buried == _BATCH:
            buried = await _holding(connection, row["webhook_id"], SQL.bury, _BATCH)
            metrics.buried(buried)


async def _forget_old(connection: Any, keep_days: int) -> None:
    """Events beyond those that are kept; before each, what was delivered of it, or was not."""
    while (last := await connection.fetchval(SQL.last_old, keep_days, _BATCH)) is not None:
        for row in await connection.fetch(SQL.with_deliveries, last):
            while await _holding(connection, row["webhook_id"], SQL.forget_deliveries, last, _BATCH) == _BATCH:
                pass
        await connection.execute(SQL.forget_events, last)


async def _forget_orphans(connection: Any) -> None:
    for row in await connection.fetch(SQL.orphans):
        while await connection.fetchval(SQL.forget_orphans, row["webhook_id"], _BATCH):
            pass


async def _holding(connection: Any, webhook: UUID, query: str, *arguments: object) -> int:
    """How many rows a statement concerned; nobody else changed that queue, or what is in it, at the time."""
    async with connection.transaction():
        await connection.execute(SQL.hold_queue, webhook)
        return await connection.fetchval(query, webhook, *arguments) or 0
