"""Roles: named sets of entitlements of an org."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from control_plane.changes import Change, Resource, Row, Work
from control_plane.db.queries import load
from control_plane.fields import as_uuid
from control_plane.orgs import service as orgs
from control_plane.paging import Page, page, read_cursor
from control_plane.roles.models import NewRole, Role, RolePatch

SQL = load(Path(__file__).with_name("queries.sql"))
ROLE: Final = Resource("role", ("id", "org", "slug", "name"))


async def create(change: Change, org: str, new: NewRole) -> Role:
    """Add a role, empty as yet; 409 where the slug is taken."""
    org_id = await orgs.resolve(change, org)
    row = await change.connection.fetchrow(SQL.insert, org_id, new.slug, new.name)
    await change.created(ROLE, row, org_id)
    return _role(row)


async def read(work: Work, org: str, reference: str) -> Role:
    """One role by id or slug."""
    return _role(await _row(work, SQL.find, await orgs.resolve(work, org), reference, "role"))


async def resolve(work: Work, org_id: UUID, reference: str, field: str) -> UUID:
    """The id of the org's role that a reference means; 404, naming `field`, where there is none."""
    role_id: UUID = (await _row(work, SQL.find, org_id, reference, field))["id"]
    return role_id


async def resolve_all(work: Work, org_id: UUID, references: Sequence[str]) -> list[UUID]:
    """The ids of several roles that stand in a body's `roles`, each once."""
    found = [await resolve(work, org_id, reference, f"/roles/{n}") for n, reference in enumerate(references)]
    return list(dict.fromkeys(found))


async def list_(work: Work, org: str, limit: int, after: str | None) -> Page[Role]:
    """The org's roles, by slug."""
    org_id = await orgs.resolve(work, org)
    rows = await work.connection.fetch(SQL.list, org_id, *read_cursor(after, str), limit + 1)
    return page(rows, limit, _role, lambda row: (row["slug"],))


async def patch(change: Change, org: str, reference: str, wanted: RolePatch) -> Role:
    """Rename a role."""
    org_id = await orgs.resolve(change, org)
    before = await _row(change, SQL.lock, org_id, reference, "role")
    change.expect(_role(before))
    after = await change.connection.fetchrow(SQL.update, before["id"], wanted.name or before["name"])
    await change.updated(ROLE, before, after, org_id)
    return _role(after)


async def delete(change: Change, org: str, reference: str) -> None:
    """Remove a role and its grants."""
    org_id = await orgs.resolve(change, org)
    before = await _row(change, SQL.lock, org_id, reference, "role")
    change.expect(_role(before))
    await change.connection.execute(SQL.delete, before["id"])
    await change.deleted(ROLE, before, org_id)


async def _row(work: Work, query: str, org_id: UUID, reference: str, field: str) -> Row:
    role_id = as_uuid(reference)
    return await work.one("role", field, query, org_id, role_id, None if role_id else reference)


def _role(row: Row) -> Role:
    return Role.model_validate(dict(row))
