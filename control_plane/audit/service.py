"""Reading what was recorded; `changes.py` records it."""

import json
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from control_plane.audit.models import AuditEvent
from control_plane.changes import Row, Work
from control_plane.db.queries import load
from control_plane.paging import Page, page, read_cursor

SQL = load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events to show; None: any. `since` is included, `until` is not."""

    org: UUID | None = None
    type: str | None = None
    actor: str | None = None
    resource: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_(work: Work, filters: Filters, limit: int, after: str | None) -> Page[AuditEvent]:
    """The events within reach, newest first."""
    rows = await work.connection.fetch(SQL.list, work.caller.reach, *astuple(filters), *read_cursor(after, int), limit + 1)
    return page(rows, limit, _event, lambda row: (row["id"],))


def _event(row: Row) -> AuditEvent:
    shown = {name: None if row[name] is None else json.loads(row[name]) for name in ("before", "after")}
    return AuditEvent.model_validate({**row, **shown, "actor": {"kind": row["actor_kind"], "id": row["actor_id"]}})
