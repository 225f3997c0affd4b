"""Reading what was recorded; `changes.py` records it."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from control_plane.audit.models import AuditEvent
from control_plane.changes import Row, Work
from control_plane.db.queries import load
from control_plane.fields import as_uuid
from control_plane.paging import Page, page, read_cursor

SQL = load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events to show; None: any. `type` may end with `.*`; `actor` is the id of a credential or of who is behind it.

    `since` is included, `until` is not.
    """

    org: UUID | None = None
    type: str | None = None
    actor: str | None = None
    resource: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    request_id: str | None = None

    def arguments(self) -> list[Any]:
        """As the queries take them."""
        prefix = self.type[:-1] if self.type and self.type.endswith(".*") else None
        profile = as_uuid(self.actor) if self.actor else None
        kind = None if prefix else self.type
        return [self.org, kind, prefix, self.actor, profile, self.resource, self.since, self.until, self.request_id]


async def list_(work: Work, filters: Filters, limit: int, after: str | None) -> Page[AuditEvent]:
    """The events within reach, newest first."""
    await work.connection.execute(SQL.plan_for_these_filters)
    arguments = (*filters.arguments(), *read_cursor(after, int), limit + 1)
    rows = await work.connection.fetch(SQL.list, work.caller.reach, *arguments)
    return page(rows, limit, _event, lambda row: (row["id"],))


def _event(row: Row) -> AuditEvent:
    shown = {name: None if row[name] is None else json.loads(row[name]) for name in ("before", "after")}
    actor = {"kind": row["actor_kind"], "id": row["actor_id"], "profile": row["actor_profile"]}
    return AuditEvent.model_validate({**row, **shown, "actor": actor})
