"""What the audit log needs now and then: partitions for the months to come, checkpoints, an end for what was kept long enough."""

from typing import Any, Final

from control_plane.audit import chain, checkpoints
from control_plane.audit.service import SQL
from control_plane.changes import Change
from control_plane.settings import Settings

_PATIENCE_SECONDS: Final = 300.0


async def make_partitions(connection: Any) -> None:
    """See that there are partitions for this month and the next three."""
    await connection.execute(SQL.make_partitions)


async def drop_old(change: Change, settings: Settings) -> int:
    """Drop whole months of events older than CATALYST_AUDIT_KEEP_DAYS; how many events went.

    Each chain goes on from a signed checkpoint of the last event that was dropped. A month that does not end all its chains (the
    clock was wrong for a while) waits for the next.
    """
    if settings.audit_keep_days == 0:
        return 0
    await change.connection.execute(SQL.take_time)
    for month in await change.connection.fetch(SQL.droppable, settings.audit_keep_days):
        ends = await change.connection.fetch(SQL.ends_by, month["until"], timeout=_PATIENCE_SECONDS)
        if all(row["whole"] for row in ends):
            anchors = [chain.Checkpoint(row["org"], row["seq"], row["hash"], dropped=True) for row in ends]
            await checkpoints.sign(change, settings, anchors)
            return int(await change.connection.fetchval(SQL.drop, month["until"], timeout=_PATIENCE_SECONDS))
    return 0
