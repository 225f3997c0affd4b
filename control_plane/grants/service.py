"""Grants: who has which entitlement in which org."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import invalid
from control_plane.fields import as_uuid
from control_plane.grants.models import Grant, NewGrant, NewSubject, SubjectKind
from control_plane.groups import service as groups
from control_plane.memberships import service as memberships
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import SYSTEM
from control_plane.profiles import service as profiles
from control_plane.roles import service as roles

SQL = load(Path(__file__).with_name("queries.sql"))
GRANT: Final = Resource("grant", ("id", "org", "subject_kind", "subject_id", "entitlement", "expires_at"), ("reason",))


async def create(change: Change, new: NewGrant, now: datetime) -> Grant:
    """Give an entitlement; 409 where the subject has it already. Nobody gives a `catalyst:*` that they do not hold."""
    org_id = await orgs.resolve(change, new.org, "/org")
    change.caller.refuse_escalation([new.entitlement])
    if new.expires_at is not None and new.expires_at <= now:
        raise invalid("/expires_at", "in_the_past", "A grant must end in the future.")
    subject_id = await _subject(change, org_id, new.subject)
    await _end_expired_twin(change, org_id, new.subject.kind, subject_id, new.entitlement)
    values = (org_id, new.subject.kind, subject_id, new.entitlement, new.expires_at, new.reason)
    row = await change.connection.fetchrow(SQL.insert, *values)
    await change.created(GRANT, row, org_id)
    return _grant(row)


async def read(work: Work, grant_id: UUID) -> Grant:
    """One grant."""
    return _grant(await work.one("grant", "grant", SQL.find, grant_id, work.caller.reach))


@dataclass(frozen=True, slots=True)
class Filters:
    """Which grants to show; None: any. `ending_before`: those that end, and before then."""

    org: str | None = None
    subject_kind: SubjectKind | None = None
    subject_id: UUID | None = None
    entitlement: str | None = None
    ending_before: datetime | None = None


async def list_(work: Work, filters: Filters, limit: int, after: str | None) -> Page[Grant]:
    """The grants within reach, by org, subject, entitlement and end."""
    org_id = None if filters.org is None else await orgs.resolve(work, filters.org)
    values = (filters.subject_kind, filters.subject_id, filters.entitlement, filters.ending_before)
    rows = await work.connection.fetch(SQL.list, work.caller.reach, org_id, *values, *read_cursor(after, UUID), limit + 1)
    return page(rows, limit, _grant, lambda row: (row["id"],))


async def delete(change: Change, grant_id: UUID) -> None:
    """Take an entitlement back."""
    row = await change.one("grant", "grant", SQL.delete, grant_id, change.caller.reach)
    change.expect(_grant(row))
    await change.deleted(GRANT, row, row["org"])


async def any_expired(work: Work) -> bool:
    """Whether there are grants whose time is over."""
    found: bool = await work.connection.fetchval(SQL.any_expired)
    return found


async def end_expired(change: Change, most: int) -> int:
    """Remove grants whose time is over, `most` at most, and report each; how many. They gave nothing any more."""
    rows = await change.connection.fetch(SQL.delete_expired, most)
    await change.deleted_many(GRANT, [(row, row["org"]) for row in rows], "expired")
    return len(rows)


async def _end_expired_twin(change: Change, org_id: UUID, kind: SubjectKind, subject_id: UUID, entitlement: str) -> None:
    """What has expired and was not removed yet does not stand in the way of the same grant. It ended by itself."""
    row = await change.connection.fetchrow(SQL.delete_expired_twin, org_id, kind, subject_id, entitlement)
    if row is not None:
        await replace(change, caller=SYSTEM).deleted(GRANT, row, row["org"], "expired")


async def _subject(change: Change, org_id: UUID, subject: NewSubject) -> UUID:
    """The id of the subject; 422 where the org has no such thing."""
    field = "/subject/id"
    if subject.kind == "group":
        return await groups.resolve(change, org_id, subject.id, field)
    if subject.kind == "role":
        return await roles.resolve(change, org_id, subject.id, field)
    if subject.kind == "org":
        if await orgs.resolve(change, subject.id, field) != org_id:
            raise invalid(field, "not_found", "A grant for an org is for the org that it belongs to.")
        return org_id
    subject_id = as_uuid(subject.id)
    if subject_id is None:
        raise invalid(field, "not_an_id", f"A {subject.kind} goes by its id.")
    if subject.kind == "membership":
        return await memberships.resolve(change, org_id, subject_id, field)
    return (await profiles.read(change, subject_id, field)).id


def _grant(row: Row) -> Grant:
    return Grant.model_validate({**row, "subject": {"kind": row["subject_kind"], "id": row["subject_id"]}})
