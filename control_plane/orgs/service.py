"""Tenants."""

from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.errors import conflict, forbidden
from control_plane.fields import as_uuid
from control_plane.orgs.models import NewOrg, Org, OrgPatch
from control_plane.paging import Page, page, read_cursor

SQL = load(Path(__file__).with_name("queries.sql"))
ORG: Final = Resource("org", ("id", "slug", "name", "status", "session_idle_seconds", "session_lifetime_seconds"))


async def create(change: Change, new: NewOrg) -> Org:
    """Add a tenant; 409 where the slug is taken."""
    row = await change.connection.fetchrow(SQL.insert, new.slug, new.name)
    await change.created(ORG, row, row["id"])
    return _org(row)


async def system_org(change: Change) -> tuple[Org, bool]:
    """The one org whose `catalyst:*` entitlements reach every org, held until the change ends, and whether it was made now."""
    row = await change.connection.fetchrow(SQL.insert_system_org)
    if row is None:
        return _org(await change.connection.fetchrow(SQL.lock_system_org)), False
    await change.created(ORG, row, row["id"])
    return _org(row), True


async def read(work: Work, reference: str, field: str = "org") -> Org:
    """One tenant by id or slug; 404, naming `field`, where it is out of the caller's reach."""
    return _org(await _row(work, SQL.find, reference, field))


async def resolve(work: Work, reference: str, field: str = "org") -> UUID:
    """The id of the org that a reference means; 404, naming `field`, where it is out of the caller's reach."""
    return (await read(work, reference, field)).id


async def list_(work: Work, status: str | None, limit: int, after: str | None) -> Page[Org]:
    """The tenants within reach, by slug."""
    rows = await work.connection.fetch(SQL.list, work.caller.reach, status, *read_cursor(after, str), limit + 1)
    return page(rows, limit, _org, lambda row: (row["slug"],))


async def patch(change: Change, reference: str, wanted: OrgPatch) -> Org:
    """Change what is given. A tenant's own administrators cannot change its status: they could not change it back."""
    before = await _row(change, SQL.lock, reference)
    change.expect(_org(before))
    status = wanted.status or before["status"]
    if status != before["status"]:
        if change.caller.reach is not None:
            raise forbidden("permission_denied", "An org's status is changed from the system org.")
        _refuse_system_org(before)
    seconds = (getattr(wanted, name) or before[name] for name in ("session_idle_seconds", "session_lifetime_seconds"))
    after = await change.connection.fetchrow(SQL.update, before["id"], wanted.name or before["name"], status, *seconds)
    await change.updated(ORG, before, after, before["id"])
    return _org(after)


async def delete(change: Change, reference: str) -> None:
    """Remove a tenant with its memberships, groups, roles, grants, keys and sessions."""
    before = await _row(change, SQL.lock, reference)
    change.expect(_org(before))
    _refuse_system_org(before)
    await change.connection.execute(SQL.delete, before["id"])
    await change.deleted(ORG, before, before["id"])


async def _row(work: Work, query: str, reference: str, field: str = "org") -> Row:
    org_id = as_uuid(reference)
    return await work.one("org", field, query, org_id, None if org_id else reference, work.caller.reach)


def _refuse_system_org(row: Row) -> None:
    if row["is_system"]:
        raise conflict("system_org", "The system org stays, and stays active: without it nobody could administer anything.")


def _org(row: Row) -> Org:
    return Org.model_validate(dict(row))
