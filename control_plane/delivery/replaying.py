"""Replays, as workers carry them out: deliveries are queued anew, some at a time.

A step is one transaction: what it queued, what the queue counts and how far the replay has come are kept together or not at
all. A worker that is killed has done a step or has not, and another goes on from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from control_plane.db.queries import load

SQL = load(Path(__file__).with_name("replaying.sql"))

Row = Mapping[str, Any]

STEP: Final = 1000
"""Events that are looked at by one step: some milliseconds, for which the turn of the endpoint waits with what it writes."""


async def step(pool: Any, most: int = STEP) -> bool:
    """Go on with an open replay: count what it will queue, then queue some of it. False where none is open."""
    async with pool.acquire() as connection:
        replay = await connection.fetchrow(SQL.open)
        if replay is None:
            return False
        if replay["total"] == 0:
            await connection.execute(SQL.counted, replay["id"], await _count(connection, replay, most))
        else:
            async with connection.transaction():
                await _go_on(connection, replay, most)
    return True


async def _go_on(connection: Any, replay: Row, most: int) -> None:
    """Queue some. Two workers at one replay take turns; the queue is held first, as by whoever removes the endpoint."""
    allowed = await connection.fetchval(SQL.hold_queue, replay["webhook_id"])
    reached = await connection.fetchval(SQL.hold, replay["id"])
    if reached is None:
        return
    if not allowed:
        await connection.execute(SQL.given_up, replay["id"])
        return
    looked_at = await _next(connection, replay, reached, most)
    wanted = await _wanted(connection, replay, looked_at)
    if wanted:
        await connection.execute(SQL.requeue, replay["webhook_id"], wanted, replay["id"])
        await connection.execute(SQL.ring)
    ended = len(looked_at) < most
    await connection.execute(SQL.told, replay["id"], len(wanted), looked_at[-1] if looked_at else reached, ended)


async def forget(pool: Any, keep_days: int) -> None:
    """Remove the replays that were finished so long ago."""
    await pool.execute(SQL.forget, keep_days)


async def _next(connection: Any, replay: Row, reached: int, most: int) -> list[int]:
    """The positions of the events that a replay looks at next."""
    if replay["event_id"] is not None:
        rows = await connection.fetch(SQL.event, replay["event_id"], reached)
    elif replay["which"] == "dead":
        rows = await connection.fetch(SQL.dead_letters, replay["webhook_id"], reached, replay["since"], replay["until"], most)
    else:
        rows = await connection.fetch(SQL.events, reached, replay["since"], replay["until"], most)
    return [row["position"] for row in rows]


async def _count(connection: Any, replay: Row, most: int) -> int:
    """How many deliveries a replay queues, as it looks now. In pieces: no statement takes long however many there are."""
    found, reached = 0, 0
    while looked_at := await _next(connection, replay, reached, most):
        found += len(await _wanted(connection, replay, looked_at))
        reached = looked_at[-1]
    return found


async def _wanted(connection: Any, replay: Row, positions: list[int]) -> list[int]:
    """Those of some events that a replay queues."""
    rows = await connection.fetch(SQL.wanted, replay["webhook_id"], positions, replay["which"])
    return [row["position"] for row in rows]
