"""Groups of an org's members; they nest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.fields import as_uuid
from control_plane.groups.models import Group, GroupPatch, NewGroup
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.permissions import carried

SQL = load(Path(__file__).with_name("queries.sql"))
GROUP: Final = Resource("group", ("id", "org", "slug", "name", "parent"))


async def create(change: Change, org: str, new: NewGroup) -> Group:
    """Add a group; 409 where the slug is taken. An empty group gives nobody anything, so any parent will do."""
    org_id = await orgs.resolve(change, org)
    parent = None if new.parent is None else await resolve(change, org_id, new.parent, "/parent")
    row = await change.connection.fetchrow(SQL.insert, org_id, new.slug, new.name, parent)
    await change.created(GROUP, row, org_id)
    return _group(row)


async def read(work: Work, org: str, reference: str) -> Group:
    """One group by id or slug."""
    return _group(await _row(work, SQL.find, await orgs.resolve(work, org), reference, "group"))


async def resolve(work: Work, org_id: UUID, reference: str, field: str) -> UUID:
    """The id of the org's group that a reference means; 404, naming `field`, where there is none."""
    group_id: UUID = (await _row(work, SQL.find, org_id, reference, field))["id"]
    return group_id


async def resolve_all(work: Work, org_id: UUID, references: Sequence[str]) -> list[UUID]:
    """The ids of several groups that stand in a body's `groups`, each once."""
    found = [await resolve(work, org_id, reference, f"/groups/{n}") for n, reference in enumerate(references)]
    return list(dict.fromkeys(found))


async def list_(work: Work, org: str, parent: str | None, limit: int, after: str | None) -> Page[Group]:
    """The org's groups, or those right below `parent`, by slug."""
    org_id = await orgs.resolve(work, org)
    parent_id = None if parent is None else await resolve(work, org_id, parent, "parent")
    rows = await work.connection.fetch(SQL.list, org_id, parent_id, *read_cursor(after, str), limit + 1)
    return page(rows, limit, _group, lambda row: (row["slug"],))


async def patch(change: Change, org: str, reference: str, wanted: GroupPatch) -> Group:
    """Change what is given. A new parent gives its entitlements to all members: no escalation, and no cycles (409)."""
    org_id = await orgs.resolve(change, org)
    before = await _row(change, SQL.lock, org_id, reference, "group")
    change.expect(_group(before))
    parent = before["parent"]
    if "parent" in wanted.model_fields_set:
        parent = None if wanted.parent is None else await resolve(change, org_id, wanted.parent, "/parent")
    if parent not in (None, before["parent"]):
        change.caller.refuse_escalation(await carried(change.connection, org_id, [], [parent]))
    after = await change.connection.fetchrow(SQL.update, before["id"], wanted.name or before["name"], parent)
    await change.updated(GROUP, before, after, org_id)
    return _group(after)


async def delete(change: Change, org: str, reference: str) -> None:
    """Remove a group and its grants; 409 while other groups stand below it."""
    org_id = await orgs.resolve(change, org)
    before = await _row(change, SQL.lock, org_id, reference, "group")
    change.expect(_group(before))
    await change.connection.execute(SQL.delete, before["id"])
    await change.deleted(GROUP, before, org_id)


async def _row(work: Work, query: str, org_id: UUID, reference: str, field: str) -> Row:
    group_id = as_uuid(reference)
    return await work.one("group", field, query, org_id, group_id, None if group_id else reference)


def _group(row: Row) -> Group:
    return Group.model_validate(dict(row))
